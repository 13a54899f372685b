// Indices of documents beside token files, Megatron's and datatrove's. Each either is an
// octavo::Error, or has ends that do not fall, within its tokens, and finds the document of a
// token.
//
// Build with: src/base/error.cpp src/base/file.cpp src/io/document_index.cpp -lfmt
#include <algorithm>

#include "base/error.h"
#include "fuzz.h"
#include "io/document_index.h"
#include "memory_file.h"

namespace octavo {
namespace {

void read(const DocumentIndex& index) {
    std::int64_t before = 0;
    for (std::int64_t i = 0; i < index.documents(); ++i) {
        const std::int64_t end = index.end(i);
        require(end >= before && end <= index.tokens(), "ends rise within the tokens");
        if (end > before) {
            require(index.document_of(before) == i, "the first token of a document is in it");
            require(index.document_of(end - 1) == i, "the last token of a document is in it");
        }
        before = end;
    }
    require(before == index.tokens() || index.documents() == 0,
            "the last document ends the tokens");
}

template <class Open>
void try_to_read(Open&& open) {
    try {
        read(open());
    } catch (const Error&) {
    }
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const octavo::MemoryFile file(data, size);
    octavo::try_to_read([&] { return octavo::DocumentIndex::megatron(file.path()); });
    octavo::try_to_read([&] { return octavo::DocumentIndex::datatrove(file.path()); });
    return 0;
}
