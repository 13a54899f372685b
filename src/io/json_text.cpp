#include "io/json_text.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

// Picks one string out of the token stream, so that no document tree is built. Depth 1 is inside
// the outer object.
class FieldPicker : public Json::json_sax_t {
  public:
    explicit FieldPicker(const std::string& column) : column_(column) {}

    std::string take() {
        if (text_) return std::move(*text_);
        fail("the object has no field '{}' (its fields: {})\n  Name the field with the text.",
             column_, fields_.empty() ? "none" : fields_);
    }

    bool key(string_t& name) override {
        if (depth_ != 1) return true;
        if (fields_.size() < 200) fields_ += (fields_.empty() ? "" : ", ") + name;
        wanted_ = name == column_;
        check(!(wanted_ && text_), "the field '{}' appears twice", column_);
        return true;
    }
    bool string(string_t& value) override {
        if (depth_ == 1 && wanted_) {
            text_ = std::move(value);
            return true;
        }
        return scalar("a string");
    }
    bool null() override { return scalar("null"); }
    bool boolean(bool) override { return scalar("a boolean"); }
    bool number_integer(number_integer_t) override { return scalar("a number"); }
    bool number_unsigned(number_unsigned_t) override { return scalar("a number"); }
    bool number_float(number_float_t, const string_t&) override { return scalar("a number"); }
    bool binary(binary_t&) override { return scalar("binary data"); }
    bool start_object(std::size_t) override {
        if (depth_ > 0) scalar("an object");
        ++depth_;
        return true;
    }
    bool end_object() override { return --depth_ >= 0; }
    bool start_array(std::size_t) override {
        scalar("an array");
        ++depth_;
        return true;
    }
    bool end_array() override { return --depth_ >= 0; }
    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::detail::exception& error) override {
        // "[json.exception...] parse error at line 1, column 9: reason": the line is ours to count.
        const std::string text = error.what();
        const auto colon = text.find(": ");
        fail("not valid JSON at byte {}: {}", position,
             colon == std::string::npos ? text : text.substr(colon + 2));
    }

  private:
    bool scalar(const char* what) {
        check(depth_ > 0, "expected a JSON object, got {}", what);
        check(!(depth_ == 1 && wanted_), "expected a string in field '{}', got {}", column_, what);
        return true;
    }

    const std::string& column_;
    std::string fields_;
    std::optional<std::string> text_;
    int depth_ = 0;
    bool wanted_ = false;
};

}  // namespace

std::string json_text_field(std::string_view line, const std::string& column) {
    FieldPicker picker(column);
    Json::sax_parse(line, &picker);
    return picker.take();
}

std::string json_quote(std::string_view text) {
    return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace octavo
