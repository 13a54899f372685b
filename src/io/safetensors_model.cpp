#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "io/safetensors.h"
#include "text/json_reader.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

constexpr const char* kFetchAgain = "Copy or download the folder again.";

// The first few, for an error that must not list thousands.
std::string some_of(const std::vector<std::string>& names) {
    constexpr std::size_t kShown = 5;
    std::string text;
    for (std::size_t i = 0; i < std::min(kShown, names.size()); ++i) {
        text += (i ? ", '" : "'") + printable(names[i]) + "'";
    }
    if (names.size() > kShown) text += fmt::format(" and {} more", names.size() - kShown);
    return text;
}

// Unlike std::filesystem's own, without an exception where the answer is not to be had.
bool is_there(const std::filesystem::path& path) {
    std::error_code unknown;
    return std::filesystem::exists(path, unknown);
}

// Optional. Some programs compute it in floating point.
std::optional<std::int64_t> total_size(const Json& root, const std::string& name) {
    const auto metadata = root.find("metadata");
    if (metadata == root.end() || !metadata->is_object()) return std::nullopt;
    const auto size = metadata->find("total_size");
    if (size == metadata->end() || size->is_null()) return std::nullopt;
    const auto value = size->is_number() ? size->get<double>() : -1.0;
    check(value >= 0 && value < 0x1p62 && value == std::floor(value),
          "{}: metadata: total_size: expected a number of bytes, got {}\n  {}", name,
          printable(size->dump()), kFetchAgain);
    return size->get<std::int64_t>();
}

}  // namespace

SafetensorsIndex parse_safetensors_index(std::string_view json, const std::string& name) {
    Json root;
    try {
        root = read_json(json);
    } catch (const Error& error) {
        fail("{}: {}\n  {}", name, error.what(), kFetchAgain);
    }
    const auto map = root.find("weight_map");
    check(map != root.end(), "{}: expected a key 'weight_map', got none\n  {}", name, kFetchAgain);
    check(map->is_object(), "{}: weight_map: expected an object, got {}\n  {}", name,
          map->type_name(), kFetchAgain);
    SafetensorsIndex index{.total_size = total_size(root, name)};
    for (const auto& [tensor, file] : map->items()) {
        check(file.is_string(), "{}: tensor '{}': expected the name of a file, got {}\n  {}", name,
              printable(tensor), file.type_name(), kFetchAgain);
        const auto& text = file.get_ref<const std::string&>();
        // Files lie beside the index: a path would let a downloaded folder read elsewhere.
        check(!text.empty() && text != "." && text != ".." && text.find('/') == text.npos &&
                  text.find('\0') == text.npos,
              "{}: tensor '{}': expected the name of a file beside the index, got '{}'\n  {}", name,
              printable(tensor), printable(text), kFetchAgain);
        index.weight_map.emplace(tensor, text);
    }
    return index;
}

SafetensorsModel::SafetensorsModel(const std::filesystem::path& folder) : folder_(folder) {
    const std::filesystem::path single = folder / "model.safetensors";
    const std::filesystem::path index = folder / "model.safetensors.index.json";
    if (is_there(single)) {
        shards_.emplace_back(single);
        for (const TensorEntry& e : shards_[0].entries()) shard_of_.emplace(e.name, 0);
        return;
    }
    check(is_there(index),
          "{}: expected model.safetensors or model.safetensors.index.json, got neither\n  Give a "
          "Hugging Face folder with safetensors weights (pickled .bin weights are not read).",
          folder.string());

    const SafetensorsIndex promised =
        parse_safetensors_index(read_file(index, kLongestSafetensorsHeader), index.string());
    std::map<std::string, std::vector<std::string>> tensors_of;  // by shard
    for (const auto& [tensor, file] : promised.weight_map) tensors_of[file].push_back(tensor);
    std::vector<std::string> missing;
    for (const auto& [file, tensors] : tensors_of) {
        if (!is_there(folder / file)) missing.push_back(file);
    }
    check(missing.empty(), "{}: expected {} shards, {} missing: {}\n  {}", index.string(),
          tensors_of.size(), missing.size(), some_of(missing), kFetchAgain);
    std::int64_t bytes = 0;
    for (const auto& [file, tensors] : tensors_of) {
        const SafetensorsFile& shard = shards_.emplace_back(folder / file);
        for (const TensorEntry& e : shard.entries()) {
            const auto at = promised.weight_map.find(e.name);
            if (at == promised.weight_map.end()) continue;
            check(at->second == file,
                  "{}: expected tensor '{}' in {} alone, as {} says, got it here, too\n  {}",
                  shard.name(), printable(e.name), printable(at->second), index.filename().string(),
                  kFetchAgain);
            shard_of_.emplace(e.name, shards_.size() - 1);
            bytes += static_cast<std::int64_t>(e.bytes.size());
        }
        for (const std::string& tensor : tensors) {
            if (!shard.contains(tensor)) missing.push_back(tensor);
        }
        check(missing.empty(), "{}: expected the tensors of {}, missing: {}\n  {}", shard.name(),
              index.filename().string(), some_of(missing), kFetchAgain);
    }
    // transformers does not look at it, so that a tool may have written it wrong unnoticed.
    check(!promised.total_size || *promised.total_size == bytes,
          "{}: expected tensors of {} bytes together (total_size), got {}\n  {} If these are the "
          "sizes that the model should have, take total_size out of the index.",
          index.string(), promised.total_size.value_or(0), bytes, kFetchAgain);
}

std::vector<std::string> SafetensorsModel::names() const {
    std::vector<std::string> names;
    for (const auto& [name, shard] : shard_of_) names.push_back(name);
    return names;
}

std::optional<TensorInfo> SafetensorsModel::find(std::string_view name) const {
    const auto it = shard_of_.find(name);
    if (it == shard_of_.end()) return std::nullopt;
    return shards_[it->second].find(name);
}

TensorInfo SafetensorsModel::at(std::string_view name) const {
    if (auto tensor = find(name)) return *std::move(tensor);
    const std::string near = nearest(name, names());
    fail("{}: expected a tensor '{}', got none of that name among {}{}", folder_.string(),
         printable(name), shard_of_.size(),
         near.empty() ? "" : fmt::format("\n  The nearest name is '{}'.", printable(near)));
}

}  // namespace octavo
