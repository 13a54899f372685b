// tokenizer.json, the file format of the Hugging Face tokenizers library, for byte-level BPE.
//
// Read: model BPE; normalizer none or NFC; pre-tokenizers Split (Isolated), Digits and ByteLevel,
// alone or in a Sequence that ends in ByteLevel; post-processors ByteLevel and TemplateProcessing;
// decoder ByteLevel. Whatever else would change an id is an Error that names it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "text/bpe_tokenizer.h"

namespace octavo {

// Throws Error naming what is damaged or not supported. Memory is proportional to the text.
BpeSpec parse_tokenizer_json(std::string_view json);

std::string to_tokenizer_json(const BpeSpec&);

// `path` is a tokenizer.json or a folder with one. `end_of_text`: see BpeTokenizer.
std::shared_ptr<const BpeTokenizer> load_tokenizer(const std::filesystem::path& path,
                                                   std::string_view end_of_text = {});

}  // namespace octavo
