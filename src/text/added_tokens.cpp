#include "text/added_tokens.h"

#include <utf8proc.h>

#include <algorithm>

#include "text/utf8.h"

namespace octavo {
namespace {

bool is_space(char32_t c) {
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
    return c == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
           category == UTF8PROC_CATEGORY_ZP;
}

// Part of a word as regular expressions have it: letters, marks, decimal digits, letter-like
// numbers, connectors and joiners (Unicode TR18).
bool is_word(char32_t c) {
    switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_PC:
            return true;
        default:
            return c == 0x200C || c == 0x200D;
    }
}

std::size_t spaces_at_end(std::string_view text) {
    const std::size_t size = text.size();
    while (true) {
        const Character c = last_character(text);
        if (c.bytes == 0 || !is_space(c.code)) return size - text.size();
        text.remove_suffix(c.bytes);
    }
}

std::size_t spaces_at_start(std::string_view text) {
    std::size_t n = 0;
    while (n < text.size()) {
        const Character c = first_character(text.substr(n));
        if (c.bytes == 0 || !is_space(c.code)) break;
        n += c.bytes;
    }
    return n;
}

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
    const Character before = last_character(text.substr(0, begin));
    if (before.bytes > 0 && is_word(before.code)) return false;
    if (end == text.size()) return true;
    const Character after = first_character(text.substr(end));
    return after.bytes == 0 || !is_word(after.code);
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), nodes_(1) {
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
        std::uint32_t node = 0;
        for (const char c : tokens_[i].content) {
            const auto byte = static_cast<unsigned char>(c);
            auto& next = nodes_[node].next;
            const auto at = std::ranges::lower_bound(next, byte, {},
                                                     [](const auto& edge) { return edge.first; });
            if (at != next.end() && at->first == byte) {
                node = at->second;
            } else {
                const auto fresh = static_cast<std::uint32_t>(nodes_.size());
                next.insert(at, {byte, fresh});
                nodes_.emplace_back();
                node = fresh;
            }
        }
        if (nodes_[node].token < 0) nodes_[node].token = static_cast<std::int32_t>(i);
        begins_[static_cast<unsigned char>(tokens_[i].content.front())] = true;
    }
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view text) const {
    const AddedToken* longest = nullptr;
    std::uint32_t node = 0;
    for (const char c : text) {
        const auto& next = nodes_[node].next;
        const auto at = std::ranges::lower_bound(next, static_cast<unsigned char>(c), {},
                                                 [](const auto& edge) { return edge.first; });
        if (at == next.end() || at->first != static_cast<unsigned char>(c)) break;
        node = at->second;
        if (nodes_[node].token >= 0) {
            longest = &tokens_[static_cast<std::size_t>(nodes_[node].token)];
        }
    }
    return longest;
}

AddedTokenFinder::Match AddedTokenFinder::find(std::string_view text, std::size_t from) const {
    if (empty()) return {text.size(), text.size(), -1};
    for (std::size_t at = from; at < text.size(); ++at) {
        if (!begins_[static_cast<unsigned char>(text[at])]) continue;
        const AddedToken* token = longest_at(text.substr(at));
        if (!token) continue;
        std::size_t begin = at, end = at + token->content.size();
        if (token->single_word && !stands_alone(text, begin, end)) {
            at = end - 1;  // what is inside it is passed over, too
            continue;
        }
        if (token->lstrip) begin -= spaces_at_end(text.substr(from, begin - from));
        if (token->rstrip) end += spaces_at_start(text.substr(end));
        return {begin, end, token->id};
    }
    return {text.size(), text.size(), -1};
}

}  // namespace octavo
