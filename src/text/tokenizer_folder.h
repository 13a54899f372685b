// A tokenizer's files as they travel from a model's folder to token files, and on to checkpoints.
#pragma once

#include <filesystem>
#include <map>
#include <string>

namespace octavo {

// tokenizer.json and what Hugging Face folders have beside it (tokenizer_config.json, ...), by
// name; empty if `folder` has no tokenizer.json.
std::map<std::string, std::string> read_tokenizer_files(const std::filesystem::path& folder);

// The first file of `folder` that write_tokenizer_files would change or remove; empty if it has
// none.
std::filesystem::path first_replaced(const std::filesystem::path& folder,
                                     const std::map<std::string, std::string>& files);

// Replaces those of `folder`, and removes what `files` does not have. Without files it does
// nothing.
void write_tokenizer_files(const std::filesystem::path& folder,
                           const std::map<std::string, std::string>& files);

}  // namespace octavo
