// Text files, as JSONL and as plain text, compressed or not. Each either ends in an octavo::Error,
// or gives documents that are within bounds; plain text comes back whole.
//
// Build with: src/base/error.cpp src/io/input_file.cpp src/io/json_text.cpp src/io/text_source.cpp
// Build with: -lfmt -lzstd
#include <algorithm>
#include <string>
#include <string_view>

#include "base/error.h"
#include "fuzz.h"
#include "io/text_source.h"
#include "memory_file.h"

namespace octavo {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{1} << 20;  // small enough that bombs reach it
constexpr int kMaxDocuments = 2000;                      // and that they end

// All documents joined; `complete` if the reader reached the end.
std::string read(const MemoryFile& file, const TextOptions& options, bool& complete) {
    std::string text, document;
    try {
        TextSource source(file.path(), options);
        for (int i = 0; i < kMaxDocuments; ++i) {
            if (!source.next(document)) {
                complete = true;
                require(!source.next(document), "the end stays the end");
                break;
            }
            require(!document.empty(), "empty documents are skipped");
            require(document.size() <= kMaxBytes, "documents are bounded");
            text += document;
        }
    } catch (const Error& error) {
        require(std::string_view(error.what()).starts_with(file.path().string()),
                "an error names the file");
    }
    return text;
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace octavo;
    const MemoryFile file(data, size);
    bool complete = false;
    TextOptions options{.format = TextFormat::jsonl, .max_bytes = kMaxBytes};
    read(file, options, complete);

    options.format = TextFormat::text;
    read(file, options, complete);

    // Without separators the blocks of an uncompressed file add up to the file.
    options.separator.clear();
    complete = false;
    const std::string text = read(file, options, complete);
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const bool compressed =
        size >= 4 && (bytes.substr(1, 3) == "\xb5\x2f\xfd" || bytes.substr(1, 3) == "\x2a\x4d\x18");
    if (complete && !compressed) require(text == bytes, "plain text comes back whole");
    return 0;
}
