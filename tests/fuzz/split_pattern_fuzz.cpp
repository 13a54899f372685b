// A split pattern and, after the first line break, a text: an octavo::Error, or pieces that add up
// to the text. And the text's normal form is one.
//
// Build with: src/base/error.cpp src/text/normalize.cpp src/text/split_pattern.cpp
// Build with: src/text/splitter.cpp src/text/utf8.cpp -lfmt -lpcre2-8 -lutf8proc
#include <string>

#include "base/error.h"
#include "fuzz.h"
#include "text/normalize.h"
#include "text/splitter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace octavo;
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const auto end = std::min(input.find('\n'), input.size());
    const std::string_view text = input.substr(std::min(end + 1, input.size()));
    try {
        const Splitter splitter({std::string(input.substr(0, end))});
        Splitter::Scratch scratch(splitter);
        std::vector<std::uint32_t> ends;
        splitter.split(text, scratch, ends);
        std::uint32_t last = 0;
        for (const std::uint32_t e : ends) {
            require(e > last, "pieces are not empty");
            last = e;
        }
        require(last == text.size(), "pieces add up");
    } catch (const Error&) {
    }
    std::string buffer, again;
    const std::string normal(to_nfc(text, buffer));
    require(to_nfc(normal, again) == normal, "a normal form is one");
    return 0;
}
