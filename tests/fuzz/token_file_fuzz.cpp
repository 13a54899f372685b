// Token files. Each either is an octavo::Error, or gives tokens that `read` and `check_contents`
// agree on, and batches inside the data.
//
// Build with: src/base/error.cpp src/base/file.cpp src/base/parallel.cpp src/io/token_file.cpp
// Build with: src/io/batches.cpp src/io/document_index.cpp src/io/permutation.cpp
// Build with: -lfmt
#include <algorithm>
#include <limits>
#include <vector>

#include "base/error.h"
#include "fuzz.h"
#include "io/batches.h"
#include "io/token_file.h"
#include "memory_file.h"

namespace octavo {
namespace {

bool accepts(const TokenFile& file, std::int64_t vocabulary) {
    try {
        file.check_contents(vocabulary);
    } catch (const Error&) {
        return false;
    }
    return true;
}

void read(const std::filesystem::path& path) {
    TokenFile file(path);
    require(file.size() > 0, "an accepted file has tokens");
    std::uint32_t largest = 0;
    for (std::int64_t i = 0; i < file.size(); ++i) largest = std::max(largest, file[i]);
    require(accepts(file, std::int64_t{largest} + 1), "a vocabulary above all ids is accepted");
    require(!accepts(file, largest), "a vocabulary with an id outside is refused");
    if (largest > std::numeric_limits<std::int32_t>::max()) return;

    std::vector<std::int32_t> tokens(static_cast<std::size_t>(file.size()));
    file.read(0, tokens);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        require(static_cast<std::uint32_t>(tokens[i]) == file[static_cast<std::int64_t>(i)],
                "read and [] agree");
    }

    const bool masked = file.has_mask();
    std::vector<TokenFile> shards;
    shards.push_back(std::move(file));
    const BatchSource source(std::move(shards), {.sequence_length = 1 + tokens.front() % 64,
                                                 .vocabulary = std::int64_t{largest} + 1,
                                                 .seed = tokens.size()});
    const auto t = static_cast<std::size_t>(source.sequence_length());
    std::vector<std::int32_t> inputs(t), targets(t);
    for (const std::int64_t sample : {std::int64_t{0}, source.windows(), std::int64_t{1} << 60}) {
        source.get(sample, inputs, targets);
        const auto follows = [&](std::int32_t next, std::int32_t target) {
            return next == target || (masked && target == -1);
        };
        require(std::equal(inputs.begin() + 1, inputs.end(), targets.begin(), follows),
                "targets are the inputs shifted by one, or masked");
        const auto found = std::search(tokens.begin(), tokens.end(), inputs.begin(), inputs.end());
        require(found != tokens.end(), "a window is part of the data");
    }
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const octavo::MemoryFile file(data, size);
    try {
        octavo::read(file.path());
    } catch (const octavo::Error&) {
    }
    return 0;
}
