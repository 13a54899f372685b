#include "engine/generator.h"

#include <algorithm>

#include "passes/fuse.h"
#include "passes/simplify.h"

namespace octavo {
namespace {

constexpr std::int64_t kPromptChunk = 64;

// Inputs: ids, positions (1, time), row [1]: which token's logits are wanted. Output: logits (1,
// V).
Graph step_graph(const Architecture& arch, const Recipe& recipe, std::int64_t time,
                 std::int64_t max_length) {
    Graph g;
    Builder b(g);
    ModelBuilder m(b, arch);
    const Type tokens{Dtype::i32, {1, time}};
    const Value ids = b.input("ids", tokens);
    m.cache = CacheContext{b.input("positions", tokens), max_length};
    const Value row = b.input("row", {Dtype::i32, {1}});
    const Value hidden = b.reshape(backbone(m, ids), {time, arch.hidden_size});
    // The step is built in f32 and the recipe lowers it afterwards, so this cast is not idle.
    b.output("logits", b.one(Cast{Dtype::f32}, {head(m, b.one(GatherRows{}, {hidden, row}))}));
    Values none;
    return fuse(apply(recipe, rewrite_forward(recipe, g, none), /*training=*/false));
}

}  // namespace

Generator::Generator(Backend& backend, const Architecture& arch, const Recipe& recipe,
                     std::int64_t max_length)
    : architecture_(arch),
      program_(backend),
      max_length_(max_length),
      logits_(static_cast<std::size_t>(arch.vocab_size)) {
    check(max_length <= arch.max_positions,
          "a text of {} tokens does not fit the model's {} positions\n  Ask for fewer tokens or "
          "shorten the prompt.",
          max_length, arch.max_positions);
    Recipe cached = recipe;  // to cast all weights again for every token would take longer than it
    cached.cache_weights = true;
    // A token by itself has no channels, and the weights they would be folded into stay quantised.
    if (cached.smooth) cached.smooth->axis = Axis::row;
    const Graph decode = step_graph(arch, cached, 1, max_length);
    program_.add("prompt",
                 step_graph(arch, cached, std::min(kPromptChunk, max_length), max_length));
    program_.add("decode", decode);
    program_.add("refresh", refresh_graph(cached, decode));
}

void Generator::refresh() {
    // Fresh delayed scales: every cast takes its scale from the tensor it casts.
    initialise_scales(state());
    program_.run("refresh");
}

std::span<const float> Generator::feed(std::span<const std::int32_t> tokens,
                                       std::int64_t position) {
    const std::string_view plan = tokens.size() == 1 ? "decode" : "prompt";
    const auto width =
        static_cast<std::size_t>(program_.plan(plan).input("ids").type.shape.elements());
    std::vector<std::int32_t> ids(width, 0), positions(width, -1);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        ids[i] = tokens[i];
        positions[i] = static_cast<std::int32_t>(position) + static_cast<std::int32_t>(i);
    }
    const auto row = static_cast<std::int32_t>(tokens.size()) - 1;
    program_.write_input(plan, "ids", ids.data());
    program_.write_input(plan, "positions", positions.data());
    program_.write_input(plan, "row", &row);
    program_.run(plan);
    program_.read_output(plan, "logits", logits_.data());
    return logits_;
}

std::int64_t Generator::prompt_chunk() const {
    return program_.plan("prompt").input("ids").type.shape.elements();
}

std::vector<std::int32_t> Generator::generate(
    std::span<const std::int32_t> prompt, std::int64_t count, const SampleOptions& options,
    std::uint64_t sequence, const std::function<bool(std::int32_t token)>& on_token) {
    check_options(options);
    check(!prompt.empty(), "the prompt has no tokens");
    const auto length = static_cast<std::int64_t>(prompt.size());
    check(length + count <= max_length_,
          "{} prompt tokens and {} new ones do not fit a cache of {} tokens", length, count,
          max_length_);
    for (const std::int32_t id : prompt) {
        check(id >= 0 && id < architecture_.vocab_size,
              "prompt token {} is outside the vocabulary of {}", id, architecture_.vocab_size);
    }
    const std::int64_t chunk = prompt_chunk();
    std::span<const float> logits;
    for (std::int64_t at = 0; at < length; at += chunk) {
        const auto n = static_cast<std::size_t>(std::min(chunk, length - at));
        logits = feed(prompt.subspan(static_cast<std::size_t>(at), n), at);
    }
    std::vector<std::int32_t> tokens;
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t position = length + i;
        const std::int32_t token =
            sample(logits, options, sequence, static_cast<std::uint64_t>(position));
        tokens.push_back(token);
        if (!on_token(token) || i + 1 == count) break;
        logits = feed({&token, 1}, position);
    }
    return tokens;
}

}  // namespace octavo
