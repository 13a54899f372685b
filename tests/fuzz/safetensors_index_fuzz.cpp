// The index of sharded safetensors: an octavo::Error, or file names without a path.
//
// Build with: src/base/error.cpp src/base/file.cpp src/base/nearest.cpp src/io/safetensors.cpp
// Build with: src/io/safetensors_header.cpp src/io/safetensors_model.cpp
// Build with: src/text/json_reader.cpp -lfmt
#include <string_view>

#include "base/error.h"
#include "fuzz.h"
#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        const std::string_view json(reinterpret_cast<const char*>(data), size);
        for (const auto& [tensor, file] :
             octavo::parse_safetensors_index(json, "fuzz").weight_map) {
            octavo::require(!file.empty() && file.find('/') == file.npos, "files lie beside it");
        }
    } catch (const octavo::Error&) {
    }
    return 0;
}
