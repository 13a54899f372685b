// Chats as models have been taught to read them, in ids. The templates of Hugging Face folders are
// programs in a language of their own (Jinja); Octavo knows what the usual ones do by heart.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace octavo {

struct Message {
    std::string role;  // "system", "user" or "assistant"
    std::string content;
    // What the assistant of Qwen3 thought before, if it is not a <think> block of `content`.
    std::optional<std::string> reasoning = {};
};

struct ChatTokens {
    std::vector<std::int32_t> ids;
    // For each id whether it is the assistant's: its answers with the token that ends them, not the
    // headers.
    std::vector<bool> learn;
};

class ChatTemplate {
  public:
    // By the decisive parts of `jinja`:
    //   chatml  <|im_start|>role\ncontent<|im_end|>\n, with a system message of its own if the chat
    //           has none and the template has one (Qwen2 has)
    //   qwen3   the same with <think> blocks
    //   llama3  <|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>, after the text that
    //           begins all (`begin`), with the fixed dates of Llama 3.1 if the template has them
    // Throws Error naming why the template is none of these.
    static ChatTemplate recognise(std::string_view jinja, std::string begin = {});

    std::string_view name() const;
    // The special token that ends a message, and with it an answer.
    std::string_view end_of_turn() const;

    // Throws Error naming the first special token of the template that the tokenizer does not have:
    // it would come out as ordinary text, which no model has learned.
    void check_tokenizer(const Tokenizer&) const;

    // With `ask`, the header of the assistant's next message follows. Throws Error for a role that
    // is not one of the three, and for reasoning that the template does not write.
    std::string text(std::span<const Message> chat, bool ask) const;
    // `encoder` is one of the tokenizer's.
    ChatTokens encode(std::span<const Message> chat, bool ask, const Tokenizer& tokenizer,
                      Encoder& encoder) const;

  private:
    enum class Kind { chatml, qwen3, llama3 };
    // Between special tokens, or one of them: tokens never reach over its ends.
    struct Piece {
        std::string text = {};
        std::size_t header = 0;  // bytes at its beginning that are not learned
        bool learn = false;
    };

    std::vector<Piece> pieces(std::span<const Message> chat, bool ask) const;
    std::vector<Message> written(std::span<const Message> chat) const;
    static void add_chatml(const Message&, std::vector<Piece>&);
    static void add_llama3(const Message&, std::vector<Piece>&);

    Kind kind_ = Kind::chatml;
    std::string begin_;                          // llama3: <|begin_of_text|>
    std::optional<std::string> default_system_;  // chatml
    bool dated_ = false;                         // llama3
};

// From a folder's tokenizer_config.json or chat_template.jinja; nothing if it has none. Throws
// Error naming the file, for damage and for templates that are not known.
std::optional<ChatTemplate> read_chat_template(const std::filesystem::path& folder);

}  // namespace octavo
