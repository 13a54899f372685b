// Text files to token files: every document becomes its tokens and goes to train.bin or to
// held_out.bin.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/text_source.h"
#include "io/token_file.h"
#include "text/byte_tokenizer.h"
#include "text/chat_template.h"

namespace octavo {

// What a document is, and what of it is learned.
enum class Records {
    texts,  // a text and the end of text: all of it
    pairs,  // lines of JSON with a prompt and its completion, and the end of text: what follows the
            // prompt
    chats,  // lines of JSON with messages, as the chat template writes them: the assistant's
};

struct TokenizeOptions {
    std::vector<std::filesystem::path> inputs = {};
    // A directory, made if need be; earlier results in it are replaced.
    std::filesystem::path output = {};
    TextOptions text = {};
    Records records = Records::texts;
    std::string prompt = "prompt", completion = "completion", messages = "messages";  // columns
    std::optional<ChatTemplate> chat = {};
    // Of the token files: llm.c's, or Megatron's. Pairs and chats get a loss mask beside them.
    TokenFormat format = TokenFormat::megatron;
    // A token file that has so many tokens is followed by another; 0: all in one. Those that are
    // full replace earlier ones as they come. The same call after an interrupted one takes its full
    // ones over: it reads their documents, but does not encode them again.
    std::int64_t shard_tokens = 0;
    std::shared_ptr<const Tokenizer> tokenizer = std::make_shared<ByteTokenizer>();
    // To lie beside the token files (text/tokenizer_folder.h), in the place of those of earlier
    // ones.
    std::map<std::string, std::string> tokenizer_files = {};
    // Share of the documents held out, in [0, 1). Which ones depends on the seed and on their
    // number only. Above 0, each side gets at least one.
    double held_out = 0.01;
    std::uint64_t seed = 0;
};

struct TokenizeProgress {
    std::int64_t bytes = 0, bytes_total = 0;  // of the input files
    std::int64_t documents = 0, tokens = 0;   // encoded so far
};

struct SplitCount {
    std::int64_t documents = 0, tokens = 0;
    std::int64_t learned = 0;  // tokens that the mask leaves in

    bool operator==(const SplitCount&) const = default;
};

struct TokenizeReport {
    SplitCount train, held_out;
    std::int64_t empty_documents = 0;  // skipped
    std::int64_t taken_over = 0;       // documents of an interrupted call's whole shards
    std::int64_t vocabulary = 0;
};

// "train.bin", or "train_*.bin" for the shards train_00000.bin, ...
std::string token_file_name(const TokenizeOptions&, std::string_view split);

// Writes train.bin, held_out.bin (none if held_out is 0), their indices and masks and, last,
// tokens.json, which says how the others were made. Calls `progress`, if any, every few megabytes
// and at the end. Takes texts apart and encodes them on all threads; the result does not depend on
// their number. Throws Error for unreadable inputs, naming file and line, for inputs without text,
// for a tokenizer without an end of text or other than the chat template's, if one document would
// have to be split, and for an output folder whose tokenizer is a model's or of no earlier call and
// would be replaced; what was there is then still there.
TokenizeReport tokenize(const TokenizeOptions& options,
                        const std::function<void(const TokenizeProgress&)>& progress = {});

}  // namespace octavo
