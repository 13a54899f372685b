// Checkpoints of llm.c: an octavo::Error, or tensors that lie in the file and are all that a GPT-2
// of that shape has.
//
// Build with: -DOCTAVO_VERSION="0" src/base/*.cpp src/graph/*.cpp src/ops/*.cpp
// Build with: src/models/architecture.cpp src/models/experts.cpp src/models/gpt2.cpp
// Build with: src/models/llama.cpp src/models/llmc_checkpoint.cpp src/models/mixture.cpp
// Build with: src/models/model.cpp -lfmt
#include <map>
#include <vector>

#include "base/error.h"
#include "memory_file.h"
#include "models/llmc_checkpoint.h"
#include "models/model.h"

namespace octavo {
namespace {

void read(const LlmcCheckpoint& checkpoint) {
    std::map<std::string, Shape> wanted;
    for (const Parameter& p : parameters(checkpoint.architecture())) wanted[p.name] = p.shape;
    for (const LlmcCheckpoint::Tensor& t : checkpoint.tensors()) {
        const auto at = wanted.find(t.name);
        require(at != wanted.end() && at->second == t.shape, "a tensor is one of the model's");
        wanted.erase(at);
        std::vector<float> values(static_cast<std::size_t>(t.shape.elements()));
        checkpoint.read(t, values);
    }
    require(wanted.empty(), "the model is whole");
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const octavo::MemoryFile file(data, size);
    const bool is_one = octavo::LlmcCheckpoint::is_one(file.path());
    try {
        octavo::read(octavo::LlmcCheckpoint(file.path()));
        octavo::require(is_one, "what is read begins as a checkpoint does");
    } catch (const octavo::Error&) {
    }
    return 0;
}
