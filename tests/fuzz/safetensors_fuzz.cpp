// Safetensors files. Each either is an octavo::Error, or gives tensors inside the file that survive
// writing and reading again.
//
// Build with: src/base/error.cpp src/base/file.cpp src/base/nearest.cpp src/io/safetensors.cpp
// Build with: src/io/safetensors_header.cpp src/io/safetensors_write.cpp -lfmt
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "fuzz.h"
#include "io/safetensors.h"

namespace octavo {
namespace {

// Reads of the first and the last byte, which a sanitizer checks.
volatile std::byte touched;

void rewrite(const SafetensorsFile& file) {
    std::vector<TensorInfo> tensors;
    for (const TensorEntry& e : file.entries()) {
        try {
            tensors.push_back(file.at(e.name));
        } catch (const Error&) {  // a dtype or rank that Octavo does not have
        }
    }
    // In memory where the system has it: write_safetensors syncs.
    static const std::filesystem::path folder =
        std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path();
    static const std::filesystem::path path =
        folder / ("octavo_fuzz_" + std::to_string(getpid()) + ".safetensors");
    write_safetensors(path, tensors, file.metadata());
    const SafetensorsFile again(path);
    std::filesystem::remove(path);

    SafetensorsMetadata metadata = file.metadata();
    metadata.emplace("format", "pt");
    require(again.metadata() == metadata, "metadata survives writing");
    require(again.entries().size() == tensors.size(), "the number of tensors survives writing");
    for (const TensorInfo& t : tensors) {
        const TensorInfo u = again.at(t.name);
        require(u.dtype == t.dtype && u.shape == t.shape, "the type survives writing");
        require(std::ranges::equal(u.bytes, t.bytes), "the bytes survive writing");
    }
}

void read(std::span<const std::byte> image) {
    std::optional<SafetensorsFile> file;
    try {
        file.emplace(image, "fuzz");
    } catch (const Error&) {
        return;
    }
    std::size_t bytes = 0;
    for (const TensorEntry& e : file->entries()) {
        if (e.bytes.empty()) continue;
        require(e.bytes.data() >= image.data() &&
                    e.bytes.data() + e.bytes.size() <= image.data() + image.size(),
                "tensors lie in the file");
        touched = e.bytes.front();
        touched = e.bytes.back();
        bytes += e.bytes.size();
    }
    std::uint64_t header = 0;
    std::memcpy(&header, image.data(), sizeof header);
    require(8 + header + bytes == image.size(), "tensors tile the data");
    rewrite(*file);
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto image = std::as_bytes(std::span(data, size));
    octavo::read(image);

    // Once more with the length mended: mutations of the JSON rarely keep it right.
    if (size < 8) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 8, size - 8);
    const std::uint64_t length = text.rfind('}') + 1;
    std::vector<std::byte> mended(image.begin(), image.end());
    std::memcpy(mended.data(), &length, sizeof length);
    octavo::read(mended);
    return 0;
}
