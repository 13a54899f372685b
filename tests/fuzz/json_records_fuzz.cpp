// Lines of JSON as chats and as multiple-choice questions. Each either is an octavo::Error, or is
// what its header promises.
//
// Build with: src/base/error.cpp src/io/choice_task.cpp src/io/input_file.cpp
// Build with: src/io/json_records.cpp src/io/json_text.cpp src/io/text_source.cpp
// Build with: src/text/json_reader.cpp -lfmt -lzstd
#include <string_view>

#include "base/error.h"
#include "fuzz.h"
#include "io/choice_task.h"
#include "io/json_records.h"

namespace octavo {
namespace {

template <class Read>
void try_to(Read&& read) {
    try {
        read();
    } catch (const Error&) {
    }
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace octavo;
    const std::string_view line(reinterpret_cast<const char*>(data), size);
    try_to([&] { json_chat(line); });
    try_to([&] {
        const ChoiceQuestion q = parse_choice_question(line);
        require(q.choices.size() >= 2, "a question has choices");
        require(q.answer < q.choices.size(), "the answer is one of them");
    });
    return 0;
}
