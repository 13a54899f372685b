#include "text/chat_template.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/utf8.h"

namespace octavo {
namespace {

constexpr std::string_view kImStart = "<|im_start|>", kImEnd = "<|im_end|>";
constexpr std::string_view kStartHeader = "<|start_header_id|>", kEndHeader = "<|end_header_id|>";
constexpr std::string_view kEndOfTurn = "<|eot_id|>";
constexpr std::string_view kThink = "<think>", kEndThink = "</think>";
// Of Llama 3.1, whose template has this date where nobody gives another.
constexpr std::string_view kDates =
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";

bool has(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

// What a Jinja literal says up to its closing quote; nothing for escapes that are not known here.
// Line breaks are spelt \n or are there themselves.
std::optional<std::string> literal_text(std::string_view& rest, char quote) {
    std::string text;
    while (!rest.empty() && rest.front() != quote) {
        char c = rest.front();
        rest.remove_prefix(1);
        if (c == '\\') {
            constexpr std::string_view kEscapes = "n'\"\\", kMeanings = "\n'\"\\";
            const auto escape = rest.empty() ? kEscapes.npos : kEscapes.find(rest.front());
            if (escape == kEscapes.npos) return std::nullopt;
            c = kMeanings[escape];
            rest.remove_prefix(1);
        }
        text += c;
    }
    if (rest.empty()) return std::nullopt;
    rest.remove_prefix(1);
    return text;
}

std::string_view without_spaces(std::string_view text) {
    const auto begin = text.find_first_not_of(" \t\n");
    return begin == text.npos ? std::string_view() : text.substr(begin);
}

// The last statement of `jinja` is {% if tools %}.
bool is_for_tools(std::string_view jinja) {
    const auto at = jinja.rfind("{%");
    if (at == jinja.npos) return false;
    std::string_view statement = jinja.substr(at + 2);
    if (statement.starts_with('-')) statement.remove_prefix(1);
    statement = without_spaces(statement);
    return statement.starts_with("if tools %}") || statement.starts_with("if tools -%}");
}

// After a literal: + messages[0].content + or the like, and no condition.
bool adds_of_message(std::string_view rest) {
    if (!rest.starts_with('+')) return false;
    rest = without_spaces(rest.substr(1));
    const auto end = rest.find_first_of(" \t\n+");
    const std::string_view value = rest.substr(0, end);
    return end != rest.npos && without_spaces(rest.substr(end)).starts_with('+') &&
           (value.starts_with("message[") || value.starts_with("message.") ||
            value.starts_with("messages[0]"));
}

// The system message that a ChatML template brings along, a literal
// '<|im_start|>system\n...<|im_end|>'. Those that begin a message of the chat's, or tools, which
// are refused elsewhere, end after the line break.
std::optional<std::string> own_system_message(std::string_view jinja) {
    constexpr std::string_view kOpening = "<|im_start|>system";
    std::optional<std::string> found;
    for (auto at = jinja.find(kOpening); at != jinja.npos; at = jinja.find(kOpening, at + 1)) {
        const char quote = at > 0 ? jinja[at - 1] : ' ';
        std::string_view rest = jinja.substr(at + kOpening.size());
        const auto literal =
            quote == '\'' || quote == '"' ? literal_text(rest, quote) : std::nullopt;
        rest = without_spaces(rest);
        if (literal == "\n" && (adds_of_message(rest) || is_for_tools(jinja.substr(0, at))))
            continue;
        const auto end = literal ? literal->find(kImEnd) : std::string::npos;
        check(end != std::string::npos && literal->front() == '\n',
              "the chat template has '{}', but not as '{}\\n...{}' nor before a message of the "
              "chat: not supported\n"
              "  A system message that it brings along would be lost.",
              kOpening, kOpening, kImEnd);
        const std::string message = literal->substr(1, end - 1);
        if (found && *found != message) {
            fail("the chat template has two system messages of its own, '{}' and '{}'", *found,
                 message);
        }
        found = message;
    }
    return found;
}

std::string_view strip_breaks(std::string_view text) {
    while (text.starts_with('\n')) text.remove_prefix(1);
    while (text.ends_with('\n')) text.remove_suffix(1);
    return text;
}

// What Python calls white space.
bool is_space(char32_t c) {
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

std::string_view trim(std::string_view text) {
    while (!text.empty()) {
        const Character c = first_character(text);
        if (c.bytes == 0 || !is_space(c.code)) break;
        text.remove_prefix(c.bytes);
    }
    while (!text.empty()) {
        const Character c = last_character(text);
        if (c.bytes == 0 || !is_space(c.code)) break;
        text.remove_suffix(c.bytes);
    }
    return text;
}

// A message of Qwen3's assistant: what it thought, and what it said then.
struct Answer {
    std::string_view thought, content;
};
Answer answer_of(std::string_view content) {
    const auto first_end = content.find(kEndThink), last_end = content.rfind(kEndThink);
    if (first_end == content.npos) return {{}, content};
    std::string_view thought = content.substr(0, first_end);
    if (const auto begin = thought.rfind(kThink); begin != thought.npos) {
        thought.remove_prefix(begin + kThink.size());
    }
    content.remove_prefix(last_end + kEndThink.size());
    while (content.starts_with('\n')) content.remove_prefix(1);
    return {strip_breaks(thought), content};
}

bool is_question(const Message& m) {
    return m.role == "user" &&
           !(m.content.starts_with("<tool_response>") && m.content.ends_with("</tool_response>"));
}

// As Qwen3's template has it: thoughts before the last question are left out, and the last answer
// has a block for them even if it is empty.
std::vector<Message> with_thoughts(std::span<const Message> chat) {
    std::size_t last_question = chat.size() - 1;
    for (std::size_t i = chat.size(); i-- > 0;) {
        if (!is_question(chat[i])) continue;
        last_question = i;
        break;
    }
    std::vector<Message> out(chat.begin(), chat.end());
    for (std::size_t i = 0; i < out.size(); ++i) {
        if (out[i].role != "assistant") continue;
        const auto& [role, content, reasoning] = chat[i];
        const auto [thought, said] = reasoning ? Answer{*reasoning, content} : answer_of(content);
        const bool block = i > last_question && (i + 1 == out.size() || !thought.empty());
        std::string_view rest = said;
        while (block && rest.starts_with('\n')) rest.remove_prefix(1);
        out[i].content =
            block ? fmt::format("{}\n{}\n{}\n\n{}", kThink, strip_breaks(thought), kEndThink, rest)
                  : std::string(said);
    }
    return out;
}

}  // namespace

ChatTemplate ChatTemplate::recognise(std::string_view jinja, std::string begin) {
    ChatTemplate t;
    // What would change the text and is not known here.
    const auto refuse_parts = [&](std::initializer_list<std::string_view> parts) {
        for (const std::string_view part : parts) {
            check(!has(jinja, part),
                  "the chat template has '{}', which is not supported\n"
                  "  Octavo knows ChatML, Qwen3's and Llama 3's templates.",
                  part);
        }
    };
    if (has(jinja, kImStart) && has(jinja, kImEnd)) {
        refuse_parts({"strftime", "bos_token", "eos_token", "date_string"});
        if (has(jinja, kThink)) {
            for (const std::string_view part :
                 {"last_query_index", "reasoning_content", "enable_thinking"}) {
                check(has(jinja, part),
                      "the chat template has <think>, but not '{}' as Qwen3's: not supported",
                      part);
            }
            check(
                !own_system_message(jinja),
                "the chat template has a system message of its own, unlike Qwen3's: not supported");
            t.kind_ = Kind::qwen3;
        } else {
            refuse_parts({"trim", "strip("});
            t.default_system_ = own_system_message(jinja);
        }
    } else if (has(jinja, kStartHeader) && has(jinja, kEndHeader) && has(jinja, kEndOfTurn)) {
        refuse_parts({"strftime", "eos_token", kThink});
        check(has(jinja, "trim"), "the chat template does not trim as Llama 3's: not supported");
        t.kind_ = Kind::llama3;
        t.begin_ = std::move(begin);
        t.dated_ = has(jinja, "Cutting Knowledge Date");
        check(t.dated_ == has(jinja, "26 Jul 2024") && t.dated_ == has(jinja, "December 2023"),
              "the chat template has other dates than Llama 3.1's: not supported");
    } else {
        fail(
            "the chat template has neither <|im_start|> and <|im_end|> nor <|start_header_id|>, "
            "<|end_header_id|> and <|eot_id|>\n"
            "  Octavo knows ChatML, Qwen3's and Llama 3's templates.");
    }
    return t;
}

std::string_view ChatTemplate::name() const {
    return kind_ == Kind::chatml ? "chatml" : kind_ == Kind::qwen3 ? "qwen3" : "llama3";
}

std::string_view ChatTemplate::end_of_turn() const {
    return kind_ == Kind::llama3 ? kEndOfTurn : kImEnd;
}

void ChatTemplate::check_tokenizer(const Tokenizer& tokenizer) const {
    const auto check_token = [&](std::string_view text) {
        check(tokenizer.special(text).has_value(),
              "expected '{}', which the {} chat template writes, among the tokenizer's special "
              "tokens, it is not there\n"
              "  Take the tokenizer that the template was made for.",
              text, name());
    };
    if (kind_ == Kind::llama3) {
        if (!begin_.empty()) check_token(begin_);
        for (const std::string_view text : {kStartHeader, kEndHeader, kEndOfTurn})
            check_token(text);
    } else {
        for (const std::string_view text : {kImStart, kImEnd}) check_token(text);
    }
}

void ChatTemplate::add_chatml(const Message& m, std::vector<Piece>& pieces) {
    const bool learn = m.role == "assistant";
    pieces.push_back({std::string(kImStart)});
    pieces.push_back({m.role + "\n" + m.content, m.role.size() + 1, learn});
    pieces.push_back({std::string(kImEnd), 0, learn});
    pieces.push_back({"\n"});
}

void ChatTemplate::add_llama3(const Message& m, std::vector<Piece>& pieces) {
    const bool learn = m.role == "assistant";
    pieces.push_back({std::string(kStartHeader)});
    pieces.push_back({m.role});
    pieces.push_back({std::string(kEndHeader)});
    pieces.push_back({"\n\n" + m.content, 2, learn});
    pieces.push_back({std::string(kEndOfTurn), 0, learn});
}

// The messages as the template writes them.
std::vector<Message> ChatTemplate::written(std::span<const Message> chat) const {
    if (kind_ == Kind::qwen3) return with_thoughts(chat);
    std::vector<Message> messages(chat.begin(), chat.end());
    const bool has_system = chat.front().role == "system";
    if (kind_ == Kind::chatml) {
        if (default_system_ && !has_system) {
            messages.insert(messages.begin(), {"system", *default_system_});
        }
        return messages;
    }
    for (Message& m : messages) m.content = std::string(trim(m.content));
    if (dated_) {
        if (!has_system) messages.insert(messages.begin(), {"system", ""});
        messages.front().content.insert(0, kDates);
    }
    return messages;
}

std::vector<ChatTemplate::Piece> ChatTemplate::pieces(std::span<const Message> chat,
                                                      bool ask) const {
    check(!chat.empty(), "expected a chat of at least one message");
    for (std::size_t i = 0; i < chat.size(); ++i) {
        const Message& m = chat[i];
        check(m.role == "system" || m.role == "user" || m.role == "assistant",
              "message {}: expected the role system, user or assistant, got '{}'", i + 1, m.role);
        check(!m.reasoning || (kind_ == Kind::qwen3 && m.role == "assistant"),
              "message {}: expected no 'reasoning_content', which the {} chat template does not "
              "write for the role {}\n"
              "  Leave it out, or put what the model is to read into 'content'.",
              i + 1, name(), m.role);
    }
    std::vector<Piece> pieces;
    if (!begin_.empty()) pieces.push_back({begin_});
    for (const Message& m : written(chat)) {
        kind_ == Kind::llama3 ? add_llama3(m, pieces) : add_chatml(m, pieces);
    }
    if (ask && kind_ == Kind::llama3) {
        for (const std::string_view text :
             {kStartHeader, std::string_view("assistant"), kEndHeader, std::string_view("\n\n")}) {
            pieces.push_back({std::string(text)});
        }
    } else if (ask) {
        pieces.push_back({std::string(kImStart)});
        pieces.push_back({"assistant\n"});
    }
    return pieces;
}

std::string ChatTemplate::text(std::span<const Message> chat, bool ask) const {
    std::string text;
    for (const Piece& piece : pieces(chat, ask)) text += piece.text;
    return text;
}

ChatTokens ChatTemplate::encode(std::span<const Message> chat, bool ask, const Tokenizer& tokenizer,
                                Encoder& encoder) const {
    ChatTokens tokens;
    for (const Piece& piece : pieces(chat, ask)) {
        std::size_t i = tokens.ids.size();
        encoder.encode(piece.text, tokens.ids);
        // A token that is partly header is none of the assistant's.
        for (std::size_t bytes = 0; i < tokens.ids.size(); ++i) {
            tokens.learn.push_back(piece.learn && bytes >= piece.header);
            bytes += tokenizer.bytes(tokens.ids[i]).size();
        }
    }
    return tokens;
}

}  // namespace octavo
