// What a model's folder has in JSON beside the weights and the tokenizer: config.json,
// generation_config.json, tokenizer_config.json; and its chat template. Each reader gets the same
// text, and either throws octavo::Error or gives something within bounds.
//
// Build with: -DOCTAVO_VERSION="0" src/base/*.cpp src/graph/*.cpp src/ops/*.cpp
// Build with: src/text/*.cpp src/models/architecture.cpp src/models/experts.cpp
// Build with: src/models/generation_config.cpp src/models/gpt2.cpp src/models/hf_config.cpp
// Build with: src/models/llama.cpp src/models/mixture.cpp src/models/model.cpp
// Build with: src/io/safetensors.cpp src/io/safetensors_header.cpp
// Build with: -lfmt -lpcre2-8 -lutf8proc -lxxhash
#include <string_view>

#include "base/error.h"
#include "models/architecture.h"
#include "models/experts.h"
#include "models/generation_config.h"
#include "models/model.h"
#include "scratch_folder.h"
#include "text/chat_template.h"

namespace octavo {
namespace {

// Files of JSON, whichever there are.
const ScratchFolder folder, jinja;

template <class Read>
void attempt(Read&& read) {
    try {
        read();
    } catch (const Error& error) {
        require(std::string_view(error.what()).size() < 4000, "errors are short");
    }
}

void read_config(std::string_view text) {
    const Architecture a = parse_hf_config(text, "fuzz");
    require(parse_hf_config(to_hf_config(a, "float32"), "written") == a, "a config can be written");
    // Every layer is a piece of a graph: many take a second.
    if (a.layers > 8) return;
    std::int64_t weights = 0;
    for (const Parameter& p : parameters(a)) {
        require(p.shape.elements() > 0, "parameters have elements");
        if (a.experts.count <= 64) {
            std::int64_t stored = 0;
            for (const StoredParameter& s : stored_parameters(p.name, p.shape)) {
                stored += s.shape.elements();
            }
            require(stored == p.shape.elements(), "a parameter is stored whole");
        }
        weights += p.shape.elements();
    }
    require(weights > 0 && weights < std::int64_t{1} << 51, "the number of weights is bounded");
}

void use(const ChatTemplate& chat) {
    const Message messages[] = {{"system", "s"}, {"user", "u"}, {"assistant", "a"}, {"user", "v"}};
    require(!chat.text(messages, true).empty(), "a chat has a text");
}

}  // namespace
}  // namespace octavo

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace octavo;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    attempt([&] { read_config(text); });
    for (const char* name : {"config.json", "generation_config.json", "tokenizer_config.json"}) {
        folder.write(name, {data, size});
    }
    attempt([&] { read_dropout(folder.path()); });
    attempt([&] {
        for (const std::int32_t id : read_eos_tokens(folder.path())) require(id >= 0, "ids");
    });
    attempt([&] {
        if (const auto chat = read_chat_template(folder.path())) use(*chat);
    });
    jinja.write("chat_template.jinja", {data, size});
    attempt([&] {
        const auto chat = read_chat_template(jinja.path());
        require(chat.has_value(), "a template is known or refused");
        use(*chat);
    });
    return 0;
}
