// The engine that verbs generate with.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/model_folder.h"
#include "cli/verb.h"
#include "engine/engine.h"
#include "models/architecture.h"
#include "runtime/backend.h"
#include "text/tokenizer.h"

namespace octavo {

Flag kv_flag();
Flag attention_flag();
// What they say.
void take_cache_flags(const Args&, EngineOptions&);

// Those, --recipe, --backend, and what bounds, shares and scales the cache.
std::vector<Flag> engine_flags();
// What they say; the context and the rest stay as they are.
EngineOptions engine_options(const Args&);

// With the model's weights, in `recipe` or, if that is empty, in the one that trained them, else in
// bf16.
std::unique_ptr<Engine> make_text_engine(const ModelFolder&, const Architecture&, Backend&,
                                         const std::string& recipe, EngineOptions);

// The model's tokenizer; null if it has none. Throws Error if it has more tokens than the model.
std::shared_ptr<const Tokenizer> matching_tokenizer(const ModelFolder&, const Architecture&);
// The ids after which a text is over: the end of text, and what generation_config.json adds as
// eos_token_id (a number or a list).
std::vector<std::int32_t> stop_tokens(const ModelFolder&, const Tokenizer*);

// `prompt` and up to `count` tokens after it, drawn with seed 1 at temperature 0.8.
std::string sample_text(TextEngine&, const Tokenizer&, const std::string& prompt,
                        bool after_end_of_text, std::int64_t count);

}  // namespace octavo
