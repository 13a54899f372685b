// Safetensors, the format in which weights and checkpoints are exchanged:
//
//     u64 N | N bytes of JSON | data            little-endian, tensors row-major, no strides
//     {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
//      "__metadata__": {"key": "value"}}        offsets count from the byte after the JSON
//
// (github.com/huggingface/safetensors, README, "Format".) Reading trusts nothing: the header must
// be valid JSON without repeated keys, every extent must equal elements x element size, and the
// tensors must tile the data without gap, overlap or rest. Whatever is wrong is an Error that names
// the file, the tensor, and what was expected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"
#include "base/shape.h"

namespace octavo {

// A tensor that is read, or to be written. Files of other writers may place `bytes` at any address:
// copy them out with memcpy rather than through a typed pointer.
struct TensorInfo {
    std::string name;
    Dtype dtype;
    Shape shape;
    std::span<const std::byte> bytes;
};

// A tensor as its file describes it: of a dtype or rank that Octavo may not have.
struct TensorEntry {
    std::string name;
    std::string dtype;  // as the format spells it: "BF16"
    std::vector<std::int64_t> dims;
    std::span<const std::byte> bytes;
};

// The format's own implementation reads no longer header.
inline constexpr std::uint64_t kLongestSafetensorsHeader = 100'000'000;

// What a file of weights may hold before another one begins.
inline constexpr std::int64_t kShardBytes = 5'000'000'000;

using SafetensorsMetadata = std::map<std::string, std::string>;

class SafetensorsFile {
  public:
    explicit SafetensorsFile(const std::filesystem::path& path);  // mapped, not read
    // A file that is in memory already, which must outlive this object. `name` is for errors.
    SafetensorsFile(std::span<const std::byte> image, std::string name);

    // All tensors, sorted by name.
    std::span<const TensorEntry> entries() const { return entries_; }
    bool contains(std::string_view name) const { return entry(name) != nullptr; }
    // Without the tensor: `find` gives nothing, `at` an Error with the nearest name. Both are an
    // Error for a tensor whose dtype or rank Octavo does not have.
    std::optional<TensorInfo> find(std::string_view name) const;
    TensorInfo at(std::string_view name) const;

    const SafetensorsMetadata& metadata() const { return metadata_; }
    const std::string& name() const { return name_; }

  private:
    void parse(std::span<const std::byte> image);
    const TensorEntry* entry(std::string_view name) const;

    std::optional<MappedFile> file_;  // what `entries_` point into, unless it is the caller's
    std::string name_;
    std::vector<TensorEntry> entries_;
    SafetensorsMetadata metadata_;
};

// A Hugging Face folder: model.safetensors, or the shards that model.safetensors.index.json lists.
// With both, the single file is the model and the index is not looked at, as in transformers.
// Opens all shards and checks that each holds what the index promises, that none holds a tensor
// that the index has in another one, and that the bytes add up to total_size, if it is given.
// Tensors that the index does not list are not there.
class SafetensorsModel {
  public:
    explicit SafetensorsModel(const std::filesystem::path& folder);

    std::vector<std::string> names() const;  // sorted
    std::optional<TensorInfo> find(std::string_view name) const;
    TensorInfo at(std::string_view name) const;

  private:
    std::filesystem::path folder_;
    std::vector<SafetensorsFile> shards_;
    std::map<std::string, std::size_t, std::less<>> shard_of_;  // tensor -> index into shards_
};

// What an index file says.
struct SafetensorsIndex {
    std::map<std::string, std::string> weight_map{};  // tensor -> file beside the index
    std::optional<std::int64_t> total_size;           // of all tensors, in bytes
};
SafetensorsIndex parse_safetensors_index(std::string_view json, const std::string& name);

// Writes `path`.tmp, syncs it and renames it over `path`, so that `tensors` may point into the very
// file that is replaced. Tensors with wide elements come first, which aligns every tensor to its
// element size.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorInfo> tensors,
                       SafetensorsMetadata metadata = {});

// A Hugging Face folder's weights: model.safetensors, or model-00001-of-0000K.safetensors, ... of
// at most `shard_bytes` (but one tensor at least) and model.safetensors.index.json. `tensors` come
// without bytes, which `bytes_of` is asked for once each; what it gives has to stay until it is
// asked again. Files are written straight to their names: `folder` should be new.
void write_safetensors_model(
    const std::filesystem::path& folder, std::span<const TensorInfo> tensors,
    const std::function<std::span<const std::byte>(const TensorInfo&)>& bytes_of,
    std::int64_t shard_bytes = kShardBytes);

// All that stands before the data of a file whose tensors follow in this order. Their `bytes` are
// not looked at. `file` is for errors. Metadata gets "format": "pt", which Hugging Face libraries
// ask for, unless given.
std::string safetensors_header(std::span<const TensorInfo> tensors, SafetensorsMetadata metadata,
                               const std::string& file);

// The format's name of a dtype: bf16 -> "BF16".
std::string_view safetensors_name(Dtype dtype);

// A name from a file as an error may show it: one line, no control characters, of bounded length.
std::string printable(std::string_view text);

}  // namespace octavo
