// A folder of two shards with an index. The input is the three files one after the other, each but
// the last with its length in two bytes before it. An octavo::Error, or tensors of which each lies
// in the shard that the index names, once, and whose bytes add up to what the index says.
//
// Build with: src/base/convert.cpp src/base/error.cpp src/base/file.cpp src/base/nearest.cpp
// Build with: src/base/parallel.cpp src/graph/type.cpp src/io/safetensors.cpp
// Build with: src/io/safetensors_header.cpp src/io/safetensors_model.cpp
// Build with: src/models/stored_weights.cpp src/text/json_reader.cpp -lfmt
#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "models/stored_weights.h"
#include "scratch_folder.h"

namespace octavo {
namespace {

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kShards[] = {"a.safetensors", "b.safetensors"};
const ScratchFolder folder;

using Bytes = std::span<const std::uint8_t>;

Bytes take_file(Bytes& rest) {
    if (rest.size() < 2) return {};
    const std::size_t length = rest[0] + 256u * rest[1];
    rest = rest.subspan(2);
    const Bytes file = rest.first(std::min(length, rest.size()));
    rest = rest.subspan(file.size());
    return file;
}

// Mutations of a shard's JSON rarely keep its length right.
std::vector<std::uint8_t> mended(Bytes shard) {
    std::vector<std::uint8_t> copy(shard.begin(), shard.end());
    if (copy.size() < 8) return copy;
    const std::string_view text(reinterpret_cast<const char*>(copy.data()) + 8, copy.size() - 8);
    const std::uint64_t length = text.rfind('}') + 1;
    std::memcpy(copy.data(), &length, sizeof length);
    return copy;
}

void read_weights() {
    const StoredWeights weights(folder.path());
    for (const std::string& name : weights.names()) {
        try {
            const auto w = weights.find(name);
            require(w.has_value(), "names are of weights");
            if (!is_float(w->tensor.dtype)) continue;
            std::vector<float> values(static_cast<std::size_t>(w->tensor.shape.elements()));
            w->read(values);
        } catch (const Error&) {  // scales that do not fit, dtypes that Octavo does not have
        }
    }
}

void read_folder(std::string_view json) {
    const SafetensorsModel model(folder.path());
    const SafetensorsIndex index = parse_safetensors_index(json, "fuzz");
    const SafetensorsFile shards[] = {SafetensorsFile(folder.path() / kShards[0]),
                                      SafetensorsFile(folder.path() / kShards[1])};
    std::size_t bytes = 0;
    for (const auto& [name, file] : index.weight_map) {
        require(file == kShards[0] || file == kShards[1], "only files beside the index are read");
        const bool second = file == kShards[1];
        require(shards[second].contains(name), "a tensor is where the index says");
        if (shards[!second].contains(name)) {
            const bool named = std::ranges::any_of(index.weight_map, [&](const auto& entry) {
                return entry.second == kShards[!second];
            });
            require(!named, "a tensor is in one shard");
        }
        for (const TensorEntry& e : shards[second].entries()) {
            if (e.name == name) bytes += e.bytes.size();
        }
    }
    require(model.names().size() == index.weight_map.size(), "all tensors are there");
    require(!index.total_size || *index.total_size == static_cast<std::int64_t>(bytes),
            "sizes add up");
    read_weights();
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace octavo;
    Bytes rest(data, size);
    const Bytes index = take_file(rest), first = take_file(rest);
    folder.write(kIndex, index);
    folder.write(kShards[0], mended(first));
    folder.write(kShards[1], mended(rest));
    try {
        read_folder({reinterpret_cast<const char*>(index.data()), index.size()});
    } catch (const Error&) {
    }
    return 0;
}
