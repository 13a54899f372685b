#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"
#include "io/safetensors.h"

namespace octavo {
namespace {

std::string quoted(const std::string& text, const std::string& file) {
    try {
        return nlohmann::json(text).dump();
    } catch (const nlohmann::json::type_error&) {
        fail("{}: expected names and metadata in UTF-8, got '{}'\n  Rename it.", file,
             printable(text));
    }
}

void check_tensor(const TensorInfo& t, const std::string& file) {
    const auto bytes = static_cast<std::size_t>(t.shape.elements()) * size_of(t.dtype);
    check(t.bytes.size() == bytes, "{}: tensor '{}': expected {} bytes for {} {}, got {}", file,
          printable(t.name), bytes, name(t.dtype), to_string(t.shape), t.bytes.size());
}

// Wide elements first, which aligns every tensor to its element size.
void sort_for_writing(std::vector<TensorInfo>& tensors) {
    std::ranges::sort(tensors, {}, &TensorInfo::name);
    std::ranges::stable_sort(tensors, std::greater{},
                             [](const TensorInfo& t) { return size_of(t.dtype); });
}

}  // namespace

std::string safetensors_header(std::span<const TensorInfo> tensors, SafetensorsMetadata metadata,
                               const std::string& file) {
    metadata.emplace("format", "pt");
    std::string text = R"({"__metadata__":{)";
    const char* comma = "";
    for (const auto& [key, value] : metadata) {
        text += fmt::format("{}{}:{}", std::exchange(comma, ","), quoted(key, file),
                            quoted(value, file));
    }
    text += "}";
    std::set<std::string_view> names;
    std::size_t end = 0;
    for (const TensorInfo& t : tensors) {
        check(t.name != "__metadata__", "{}: '__metadata__' cannot be the name of a tensor", file);
        check(names.insert(t.name).second, "{}: two tensors are named '{}'", file,
              printable(t.name));
        const std::size_t begin = end;
        end += static_cast<std::size_t>(t.shape.elements()) * size_of(t.dtype);
        text += fmt::format(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                            quoted(t.name, file), safetensors_name(t.dtype),
                            fmt::join(t.shape, ","), begin, end);
    }
    text += "}";
    text.resize((text.size() + 7) / 8 * 8, ' ');  // data starts at a multiple of 8
    check(text.size() <= kLongestSafetensorsHeader,
          "{}: expected a header of at most {} bytes, got {}\n  Write fewer tensors or less "
          "metadata into one file.",
          file, kLongestSafetensorsHeader, text.size());
    const std::uint64_t length = text.size();
    text.insert(0, reinterpret_cast<const char*>(&length), sizeof(length));
    return text;
}

void write_safetensors_model(
    const std::filesystem::path& folder, std::span<const TensorInfo> tensors,
    const std::function<std::span<const std::byte>(const TensorInfo&)>& bytes_of,
    std::int64_t shard_bytes) {
    std::vector<std::vector<TensorInfo>> shards;
    std::int64_t filled = 0, total = 0;
    for (const TensorInfo& t : tensors) {
        const auto bytes = t.shape.elements() * static_cast<std::int64_t>(size_of(t.dtype));
        if (shards.empty() || filled + bytes > shard_bytes) {
            shards.emplace_back();
            filled = 0;
        }
        shards.back().push_back(t);
        filled += bytes;
        total += bytes;
    }
    nlohmann::ordered_json index{{"metadata", {{"total_size", total}}},
                                 {"weight_map", nlohmann::ordered_json::object()}};
    for (std::size_t i = 0; i < shards.size(); ++i) {
        const std::string name =
            shards.size() == 1
                ? std::string("model.safetensors")
                : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
        sort_for_writing(shards[i]);
        FileWriter out(folder / name);
        out.write(safetensors_header(shards[i], {}, (folder / name).string()));
        for (TensorInfo& t : shards[i]) {
            t.bytes = bytes_of(t);
            check_tensor(t, (folder / name).string());
            out.write(t.bytes);
            index["weight_map"][t.name] = name;
        }
        out.close();
    }
    if (shards.size() > 1) {
        write_file_atomically(folder / "model.safetensors.index.json", index.dump(2) + "\n");
    }
    sync_directory(folder);
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorInfo> tensors,
                       SafetensorsMetadata metadata) {
    const std::string file = path.string();
    for (const TensorInfo& t : tensors) check_tensor(t, file);
    std::vector<TensorInfo> order(tensors.begin(), tensors.end());
    sort_for_writing(order);
    const std::string header = safetensors_header(order, std::move(metadata), file);

    std::filesystem::path beside = path;
    beside += ".tmp";
    try {
        FileWriter out(beside);
        out.write(header);
        for (const TensorInfo& t : order) out.write(t.bytes);
        out.close();
        std::error_code error;
        std::filesystem::rename(beside, path, error);
        check(!error, "{}: cannot rename from {}: {}", file, beside.string(), error.message());
    } catch (...) {
        std::error_code ignored;
        std::filesystem::remove(beside, ignored);  // a full disk needs the space
        throw;
    }
    sync_directory(path.parent_path());
}

}  // namespace octavo
