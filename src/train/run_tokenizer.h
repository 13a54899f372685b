// The tokenizer of a run, which is that of its token files, and what its checkpoints keep of it.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "config/run_config.h"
#include "io/tokens_info.h"
#include "text/tokenizer.h"

namespace octavo {

struct RunTokenizer {
    TokensInfo info = {};                           // its fields are empty if nothing is known
    std::map<std::string, std::string> files = {};  // texts to lie in a checkpoint, by name

    // For a checkpoint's manifest.
    std::map<std::string, std::string> extra() const;
    // Throws Error, which ends with `remedy`, if the checkpoint with this manifest was trained on
    // another tokenizer's tokens.
    void check_trained(const std::map<std::string, std::string>& extra,
                       std::string_view remedy) const;
};

// From what lies beside the token files, or else in the model's folder. Throws a usage Error if two
// token files are of different tokenizers.
RunTokenizer tokenizer_of(const RunConfig&);

// The tokenizer of a checkpoint or a Hugging Face folder, `extra` being the checkpoint's
// manifest's; null if it has none. Throws Error for one that cannot be read.
std::shared_ptr<const Tokenizer> tokenizer_of_model(
    const std::filesystem::path& folder, const std::map<std::string, std::string>& extra);

}  // namespace octavo
