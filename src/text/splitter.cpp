#include "text/splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "text/split_pattern.h"

namespace octavo {
namespace {

// Backtracking happens on runs of spaces only, once along each, so a thousand steps a byte are a
// sign of a pattern that was made to hang.
constexpr std::uint32_t kStepsPerByte = 1000, kFewestSteps = 1'000'000;
constexpr std::size_t kFirstStack = std::size_t{32} << 10, kLargestStack = std::size_t{16} << 20;

struct Free {
    void operator()(pcre2_code* p) const { pcre2_code_free(p); }
    void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
    void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
    void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
    void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

std::string error_text(int code) {
    PCRE2_UCHAR text[256] = {};
    pcre2_get_error_message(code, text, sizeof text);
    return reinterpret_cast<const char*>(text);
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

struct Splitter::Scratch::Buffers {
    Owned<pcre2_match_data> match;
    Owned<pcre2_match_context> context;
    Owned<pcre2_jit_stack> stack;
    std::vector<std::uint32_t> ends;  // of the step before
};

Splitter::Scratch::Scratch(const Splitter&) : buffers_(std::make_unique<Buffers>()) {
    buffers_->match.reset(pcre2_match_data_create(1, nullptr));
    buffers_->context.reset(pcre2_match_context_create(nullptr));
    buffers_->stack.reset(pcre2_jit_stack_create(kFirstStack, kLargestStack, nullptr));
    check(buffers_->match && buffers_->context && buffers_->stack, "no memory to match patterns");
    pcre2_jit_stack_assign(buffers_->context.get(), nullptr, buffers_->stack.get());
}
Splitter::Scratch::~Scratch() = default;
Splitter::Scratch::Scratch(Scratch&&) noexcept = default;
Splitter::Scratch& Splitter::Scratch::operator=(Scratch&&) noexcept = default;

class Splitter::Pattern {
  public:
    explicit Pattern(const std::string& source) : source_(source) {
        const std::string translated = pcre2_pattern(source);
        const Owned<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
        check(context != nullptr, "no memory to compile a pattern");
        pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
        int error = 0;
        std::size_t at = 0;
        code_.reset(pcre2_compile(units(translated), translated.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &error, &at,
                                  context.get()));
        check(code_ != nullptr, "the split pattern is damaged: {}: {}", error_text(error), source);
        std::uint32_t matches_empty = 0;
        pcre2_pattern_info(code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
        check(matches_empty == 0, "the split pattern matches an empty text: {}", source);
        error = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
        check(error == 0, "the split pattern cannot be compiled to machine code: {}: {}",
              error_text(error), source);
    }

    // Appends the ends of the pieces of text[begin, end).
    void split(std::string_view text, std::uint32_t begin, std::uint32_t end,
               Scratch::Buffers& buffers, std::vector<std::uint32_t>& ends) const {
        const std::string_view piece = text.substr(begin, end - begin);
        const std::size_t* found = pcre2_get_ovector_pointer(buffers.match.get());
        std::size_t done = 0;
        while (done < piece.size()) {
            // Unlike pcre2_match, it does not look through the whole text at every call.
            const int result = pcre2_jit_match(code_.get(), units(piece), piece.size(), done, 0,
                                               buffers.match.get(), buffers.context.get());
            if (result == PCRE2_ERROR_NOMATCH) break;
            check(result >= 0, "the split pattern gives up at byte {}: {}: {}", begin + done,
                  error_text(result), source_);
            if (found[0] > done) ends.push_back(begin + static_cast<std::uint32_t>(found[0]));
            done = found[1];
            ends.push_back(begin + static_cast<std::uint32_t>(done));
        }
        if (done < piece.size()) ends.push_back(end);
    }

  private:
    std::string source_;
    Owned<pcre2_code> code_;
};

Splitter::Splitter(const std::vector<std::string>& patterns) {
    for (const std::string& pattern : patterns) patterns_.emplace_back(pattern);
}
Splitter::~Splitter() = default;
Splitter::Splitter(Splitter&&) noexcept = default;
Splitter& Splitter::operator=(Splitter&&) noexcept = default;

void Splitter::split(std::string_view text, Scratch& scratch,
                     std::vector<std::uint32_t>& ends) const {
    check(text.size() <= std::numeric_limits<std::uint32_t>::max(),
          "expected a text of less than 4 GiB, got {} bytes", text.size());
    ends.clear();
    if (text.empty()) return;
    Scratch::Buffers& buffers = *scratch.buffers_;
    const auto size = static_cast<std::uint32_t>(text.size());
    pcre2_set_match_limit(buffers.context.get(),
                          size > std::numeric_limits<std::uint32_t>::max() / kStepsPerByte
                              ? std::numeric_limits<std::uint32_t>::max()
                              : std::max(kFewestSteps, size * kStepsPerByte));
    ends.push_back(size);
    for (const Pattern& pattern : patterns_) {
        buffers.ends.swap(ends);
        ends.clear();
        std::uint32_t begin = 0;
        for (const std::uint32_t end : buffers.ends) {
            pattern.split(text, begin, end, buffers, ends);
            begin = end;
        }
    }
}

}  // namespace octavo
