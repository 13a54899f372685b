#include "text/split_pattern.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"

namespace octavo {
namespace {

constexpr std::size_t kLongest = 4096;

// White_Space. PCRE2's own \s has U+180E as well, which Unicode took out of it.
constexpr std::string_view kSpaceMembers = R"(\x{9}-\x{d}\x{85}\p{Z})";

bool is_hex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Translator {
  public:
    explicit Translator(std::string_view pattern) : pattern_(pattern) {}

    std::string translate() {
        check(pattern_.size() <= kLongest, "the split pattern has {} bytes, expected at most {}",
              pattern_.size(), kLongest);
        while (at_ < pattern_.size()) item();
        return std::move(out_);
    }

  private:
    [[noreturn]] void refuse(std::string_view what) const {
        fail("the split pattern has {} at byte {}, which is not supported: {}", what, at_,
             pattern_);
    }
    bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
    void copy(std::size_t n) {
        out_ += pattern_.substr(at_, n);
        at_ += n;
    }

    void item() {
        switch (pattern_[at_]) {
            case '\\':
                return escape(false);
            case '[':
                return character_class();
            case '(':
                return group();
            case '^':
            case '$':
                refuse("an anchor");
            case '{':
                return repeat_counts();
            default:
                copy(1);
        }
    }

    void group() {
        for (const std::string_view opening : {"(?:", "(?=", "(?!", "(?>", "(?i:"}) {
            if (next_is(opening)) return copy(opening.size());
        }
        if (next_is("(?")) refuse("a group of the kind '(?'");
        out_ += "(?:";  // nobody asks for what a group has captured
        ++at_;
    }

    // {n}, {n,} or {n,m}.
    void repeat_counts() {
        const std::size_t end = pattern_.find('}', at_);
        const std::string_view inside =
            end == pattern_.npos ? "" : pattern_.substr(at_ + 1, end - at_ - 1);
        const bool plain =
            !inside.empty() && is_digit(inside[0]) && inside.size() <= 9 &&
            std::ranges::count(inside, ',') <= 1 &&
            std::ranges::all_of(inside, [](char c) { return is_digit(c) || c == ','; });
        if (!plain) refuse("'{' that does not count repetitions");
        copy(inside.size() + 2);
        if (next_is("+")) refuse("'+' after a counted repetition");
    }

    void character_class() {
        copy(1);
        if (next_is("^")) copy(1);
        if (next_is("]")) refuse("']' as the first member of a class");
        while (!next_is("]")) {
            if (at_ >= pattern_.size()) refuse("a class without end");
            if (next_is("[") || next_is("&&")) refuse("a class within a class");
            if (next_is("\\")) {
                escape(true);
            } else {
                copy(1);
            }
        }
        copy(1);
    }

    void escape(bool in_class) {
        if (at_ + 1 >= pattern_.size()) refuse("'\\' as its last byte");
        const char c = pattern_[at_ + 1];
        switch (c) {
            case 'r':
            case 'n':
            case 't':
            case 'f':
                return copy(2);
            case 's':
                out_ += in_class ? std::string(kSpaceMembers) : fmt::format("[{}]", kSpaceMembers);
                break;
            case 'S':
                if (in_class) refuse("'\\S' in a class");
                out_ += fmt::format("[^{}]", kSpaceMembers);
                break;
            case 'd':
                out_ += R"(\p{Nd})";
                break;
            case 'D':
                out_ += R"(\P{Nd})";
                break;
            case 'p':
            case 'P':
                return property();
            case 'x':
            case 'u':
                return code_point();
            default:
                if (!std::ispunct(static_cast<unsigned char>(c))) refuse(fmt::format("'\\{}'", c));
                return copy(2);
        }
        at_ += 2;
    }

    // \p{L}, \p{Lu}; longer names are scripts.
    void property() {
        const std::size_t open = at_ + 2, end = pattern_.find('}', at_);
        if (open >= pattern_.size() || pattern_[open] != '{' || end == pattern_.npos) {
            refuse("a property without braces");
        }
        const std::string_view name = pattern_.substr(open + 1, end - open - 1);
        const bool plain = !name.empty() && std::ranges::all_of(name, [](char c) {
            return std::isalpha(static_cast<unsigned char>(c)) || c == '_';
        });
        if (!plain) refuse("a property that is no plain name");
        out_ += fmt::format("\\{}{{{}{}}}", pattern_[at_ + 1], name.size() > 2 ? "sc:" : "", name);
        at_ = end + 1;
    }

    // \x{HHHH}, \xHH of ASCII, \uHHHH.
    void code_point() {
        std::size_t begin = at_ + 2, n = pattern_[at_ + 1] == 'u' ? 4 : 2;
        const bool braces = n == 2 && begin < pattern_.size() && pattern_[begin] == '{';
        if (braces) {
            const std::size_t end = pattern_.find('}', ++begin);
            n = end == pattern_.npos ? 0 : end - begin;
        }
        const std::string_view digits = pattern_.substr(std::min(begin, pattern_.size()), n);
        if (digits.size() != n || n == 0 || n > 6 || !std::ranges::all_of(digits, is_hex)) {
            refuse("a damaged code point");
        }
        if (n == 2 && !braces && digits[0] > '7') refuse("a single byte of UTF-8");
        out_ += fmt::format("\\x{{{}}}", digits);
        at_ = begin + n + (braces ? 1 : 0);
    }

    std::string_view pattern_;
    std::string out_;
    std::size_t at_ = 0;
};

}  // namespace

std::string pcre2_pattern(std::string_view oniguruma) { return Translator(oniguruma).translate(); }

}  // namespace octavo
