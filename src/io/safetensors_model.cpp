#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "io/safetensors.h"

namespace octavo {
namespace {

constexpr const char* kFetchAgain = "Copy or download the folder again.";

// Receives the JSON of an index file: {"weight_map": {tensor: file}, anything else: anything}.
class IndexReader final : public nlohmann::json_sax<nlohmann::json> {
  public:
    explicit IndexReader(const std::string& file) : file_(file) {}

    std::map<std::string, std::string> take() && {
        check(seen_, "{}: expected a key 'weight_map', got none\n  {}", file_, kFetchAgain);
        return std::move(map_);
    }

    bool null() override { return value("null"); }
    bool boolean(bool) override { return value("a boolean"); }
    bool number_integer(number_integer_t) override { return value("a number"); }
    bool number_unsigned(number_unsigned_t) override { return value("a number"); }
    bool number_float(number_float_t, const string_t&) override { return value("a number"); }
    bool binary(binary_t&) override { return value("binary data"); }

    bool string(string_t& text) override {
        if (!in_map_) return value("a string");
        // Files lie beside the index: a path would let a downloaded folder read elsewhere.
        check(!text.empty() && text != "." && text != ".." && text.find('/') == text.npos &&
                  text.find('\0') == text.npos,
              "{}: tensor '{}': expected the name of a file beside the index, got '{}'\n  {}",
              file_, printable(key_), printable(text), kFetchAgain);
        check(map_.emplace(key_, text).second, "{}: tensor '{}' appears twice\n  {}", file_,
              printable(key_), kFetchAgain);
        return true;
    }

    bool key(string_t& text) override {
        key_ = text;
        return true;
    }

    bool start_object(std::size_t) override {
        if (depth_ == 1 && key_ == "weight_map") {
            check(!std::exchange(seen_, true), "{}: 'weight_map' appears twice\n  {}", file_,
                  kFetchAgain);
            in_map_ = true;
        } else if (depth_ > 0) {
            value("an object");
        }
        ++depth_;
        return true;
    }

    bool end_object() override {
        if (--depth_ == 1) in_map_ = false;
        return true;
    }

    bool start_array(std::size_t) override {
        value("a list");
        ++depth_;
        return true;
    }

    bool end_array() override {
        --depth_;
        return true;
    }

    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::detail::exception& error) override {
        fail("{}: expected JSON, got at byte {}: {}\n  {}", file_, position,
             printable(error.what()), kFetchAgain);
    }

  private:
    // A value that is neither the weight map nor one of its strings.
    bool value(const char* got) const {
        check(depth_ > 0, "{}: expected a JSON object, got {}\n  {}", file_, got, kFetchAgain);
        check(depth_ > 1 || key_ != "weight_map",
              "{}: weight_map: expected an object, got {}\n  {}", file_, got, kFetchAgain);
        check(!in_map_, "{}: tensor '{}': expected the name of a file, got {}\n  {}", file_,
              printable(key_), got, kFetchAgain);
        return true;
    }

    const std::string& file_;
    std::map<std::string, std::string> map_;
    std::string key_;
    std::size_t depth_ = 0;
    bool in_map_ = false, seen_ = false;
};

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

}  // namespace

std::map<std::string, std::string> parse_safetensors_index(std::string_view json,
                                                           const std::string& name) {
    // The JSON library would stop at a NUL as if the text ended there.
    check(json.find('\0') == json.npos, "{}: expected JSON, got a NUL byte\n  {}", name,
          kFetchAgain);
    IndexReader reader(name);
    nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
    return std::move(reader).take();
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

    std::map<std::string, std::vector<std::string>> tensors_of;  // by shard
    for (auto& [tensor, file] : parse_safetensors_index(read_file(index), index.string())) {
        tensors_of[file].push_back(tensor);
    }
    std::vector<std::string> missing;
    for (const auto& [file, tensors] : tensors_of) {
        if (!is_there(folder / file)) missing.push_back(file);
    }
    check(missing.empty(), "{}: expected {} shards, {} missing: {}\n  {}", index.string(),
          tensors_of.size(), missing.size(), some_of(missing), kFetchAgain);
    for (const auto& [file, tensors] : tensors_of) {
        const SafetensorsFile& shard = shards_.emplace_back(folder / file);
        for (const std::string& tensor : tensors) {
            if (!shard.contains(tensor)) missing.push_back(tensor);
            shard_of_.emplace(tensor, shards_.size() - 1);
        }
        check(missing.empty(), "{}: expected the tensors of {}, missing: {}\n  {}", shard.name(),
              index.filename().string(), some_of(missing), kFetchAgain);
    }
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
