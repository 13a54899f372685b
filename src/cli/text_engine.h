// The engine that verbs generate with, behind the server's interface.
#pragma once

#include <memory>
#include <string>

#include "cli/model_folder.h"
#include "models/architecture.h"
#include "runtime/backend.h"
#include "serve/text_engine.h"
#include "text/tokenizer.h"

namespace octavo {

// With the model's weights, in `recipe` or, if that is empty, in the one that trained them, else in
// bf16. Texts take at most `context` tokens; 0: all the model's positions.
std::unique_ptr<TextEngine> make_text_engine(const ModelFolder&, const Architecture&, Backend&,
                                             const std::string& recipe, std::int64_t context);

// The model's tokenizer; null if it has none. Throws Error if it has more tokens than the model.
std::shared_ptr<const Tokenizer> matching_tokenizer(const ModelFolder&, const Architecture&);

// `prompt` and up to `count` tokens after it, drawn with seed 1 at temperature 0.8.
std::string sample_text(TextEngine&, const Tokenizer&, const std::string& prompt,
                        bool after_end_of_text, std::int64_t count);

}  // namespace octavo
