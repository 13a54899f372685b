// JSON as foreign files need it read: no key twice, no deep nesting, and large members apart.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace octavo {

// What is done with a member that is too large for a tree of values: an object of numbers, a list
// of strings or a list of lists of strings.
struct StreamedMember {
    std::string path;  // "model/vocab"
    std::function<void(std::string& key, std::int64_t value)> on_number = {};
    std::function<void(std::string& text, int depth)> on_string =
        {};                                  // depth 1: in the list itself
    std::function<void()> on_list_end = {};  // of an inner list
};

// The tree of `json` without the streamed members, which are null in it. Throws Error naming the
// place of what is no JSON, nested more than 32 deep, or an object's key for the second time (not
// checked in streamed ones).
nlohmann::json read_json(std::string_view json, const std::vector<StreamedMember>& streamed = {});

// The list in a field of `object`; throws Error if there is none.
const nlohmann::json& list_in(const nlohmann::json& object, const std::string& field);

}  // namespace octavo
