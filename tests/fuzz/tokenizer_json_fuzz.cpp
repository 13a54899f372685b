// tokenizer.json: an octavo::Error, or a tokenizer that loses no byte of a text.
//
// Build with: src/base/error.cpp src/base/file.cpp src/base/parallel.cpp src/text/*.cpp
// Build with: -lfmt -lpcre2-8 -lutf8proc -lxxhash
#include <string>

#include "base/error.h"
#include "fuzz.h"
#include "text/normalize.h"
#include "text/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace octavo;
    try {
        const std::string_view json(reinterpret_cast<const char*>(data), size);
        const BpeTokenizer tokenizer(parse_tokenizer_json(json), "fuzz");
        std::string text = "Hello  it's 12345 <|endoftext|> e\u0301 \u3000\n\n";
        text += json.substr(0, 300);
        const auto ids = tokenizer.encode(text);
        bool strips = false;
        for (const AddedToken& token : tokenizer.spec().added) {
            // Such a token stands for what it is not: white space beside it, or another form of it.
            strips |= token.lstrip || token.rstrip || (token.normalized && tokenizer.spec().nfc);
        }
        const std::string back = tokenizer.decode(ids);
        std::string buffer;
        const std::string_view expected = tokenizer.spec().nfc ? to_nfc(text, buffer) : text;
        // Raw added tokens stay as they are, and what is around them is normalised by itself.
        if (!strips && !(tokenizer.spec().nfc && !tokenizer.spec().added.empty())) {
            require(back == expected, "decoding gives the text back");
        }
    } catch (const Error&) {
    }
    return 0;
}
