#include "text/json_reader.h"

#include <utility>

#include "base/error.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kDeepest = 32;

class Reader final : public nlohmann::json_sax<Json> {
  public:
    explicit Reader(const std::vector<StreamedMember>& streamed) : streamed_(streamed) {}

    Json take() { return std::move(root_); }

    bool null() override { return value(nullptr); }
    bool boolean(bool v) override { return value(v); }
    bool number_float(number_float_t v, const string_t&) override { return value(v); }
    bool binary(binary_t&) override { fail("{}: got binary data", place()); }
    bool number_integer(number_integer_t v) override { return number(v); }
    bool number_unsigned(number_unsigned_t v) override {
        check(v <= static_cast<number_unsigned_t>(INT64_MAX), "{}: the number {} is too large",
              place(), v);
        return number(static_cast<std::int64_t>(v));
    }
    bool string(string_t& v) override {
        if (!stream_) return value(std::move(v));
        if (!stream_->on_string || depth_ == 0) unexpected("a string");
        stream_->on_string(v, depth_);
        return true;
    }
    bool key(string_t& k) override {
        if (stream_) {
            key_ = std::move(k);
            return true;
        }
        check(!open_.back()->contains(k), "{}: '{}' appears twice", place(), shown(k));
        key_ = std::move(k);
        return true;
    }
    bool start_object(std::size_t) override {
        if (stream_) {
            if (depth_ > 0 || !stream_->on_number) unexpected("an object");
            ++depth_;
            return true;
        }
        return open(Json::object(), true);
    }
    bool start_array(std::size_t) override {
        if (stream_) {
            if (depth_ > 1 || !stream_->on_string) unexpected("a list");
            ++depth_;
            return true;
        }
        return open(Json::array(), false);
    }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }
    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::detail::exception& error) override {
        const std::string text = error.what();
        const auto colon = text.find(": ");
        fail("expected JSON, got at byte {}: {}", position,
             shown(colon == text.npos ? text : text.substr(colon + 2)));
    }

  private:
    static std::string shown(std::string text) {
        if (text.size() > 100) text.replace(100, text.npos, "...");
        for (char& c : text) {
            if (static_cast<unsigned char>(c) < 0x20) c = '?';
        }
        return text;
    }
    std::string place() const {
        std::string path;
        for (const std::string& name : names_) {
            if (!path.empty()) path += '/';
            path += shown(name);
        }
        return path.empty() ? "the outermost object" : path;
    }
    [[noreturn]] void unexpected(const char* what) const {
        fail("{}: did not expect {} there", stream_ ? stream_->path : place(), what);
    }

    bool number(std::int64_t v) {
        if (!stream_) return value(v);
        if (!stream_->on_number || depth_ == 0) unexpected("a number");
        stream_->on_number(key_, v);
        return true;
    }

    Json* put(Json v) {
        if (open_.empty()) return &(root_ = std::move(v));
        Json& in = *open_.back();
        if (in.is_array()) {
            in.push_back(std::move(v));
            return &in.back();
        }
        return &(in[key_] = std::move(v));
    }
    bool value(Json v) {
        if (stream_) unexpected(v.type_name());
        check(!open_.empty(), "expected a JSON object, got {}", v.type_name());
        put(std::move(v));
        return true;
    }
    bool open(Json container, bool object) {
        check(object || !open_.empty(), "expected a JSON object, got a list");
        check(open_.size() < kDeepest, "{}: nested more than {} deep", place(), kDeepest);
        const bool in_array = !open_.empty() && open_.back()->is_array();
        const std::string name = open_.empty() ? "" : in_array ? "[]" : key_;
        if (const StreamedMember* member = streamed_at(name)) {
            put(nullptr);
            stream_ = member;
            depth_ = 0;
            return object ? start_object(0) : start_array(0);
        }
        Json* at = put(std::move(container));
        if (!open_.empty()) names_.push_back(name);
        open_.push_back(at);
        return true;
    }
    bool close() {
        if (stream_) {
            if (--depth_ == 0) {
                stream_ = nullptr;
            } else if (stream_->on_list_end) {
                stream_->on_list_end();
            }
            return true;
        }
        open_.pop_back();
        if (!names_.empty()) names_.pop_back();
        return true;
    }
    const StreamedMember* streamed_at(const std::string& name) const {
        std::string path;
        for (const std::string& n : names_) path += n + "/";
        path += name;
        for (const StreamedMember& member : streamed_) {
            if (member.path == path) return &member;
        }
        return nullptr;
    }

    const std::vector<StreamedMember>& streamed_;
    Json root_;
    std::vector<Json*> open_;
    std::vector<std::string> names_;  // of the open containers but the outermost
    std::string key_;
    const StreamedMember* stream_ = nullptr;
    int depth_ = 0;  // in the streamed member
};

}  // namespace

Json read_json(std::string_view json, const std::vector<StreamedMember>& streamed) {
    // The JSON library would stop at a NUL as if the text ended there.
    const std::size_t nul = json.find('\0');
    check(nul == json.npos, "expected JSON, got at byte {}: a NUL byte", nul + 1);
    Reader reader(streamed);
    Json::sax_parse(json, &reader);
    return reader.take();
}

const nlohmann::json& list_in(const nlohmann::json& object, const std::string& field) {
    const auto at = object.find(field);
    check(at != object.end() && at->is_array(), "expected an object with a list in the field '{}'",
          field);
    return *at;
}

}  // namespace octavo
