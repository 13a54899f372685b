#include "models/llmc_checkpoint.h"

#include <fmt/format.h>

#include <cstring>

#include "base/convert.h"
#include "base/error.h"

namespace octavo {
namespace {

constexpr std::int32_t kMagic = 20240326;
constexpr std::size_t kHeader = 256;

struct Part {
    const char* name;
    Shape shape;  // as llm.c has it
};

}  // namespace

bool LlmcCheckpoint::is_one(const std::filesystem::path& file) {
    if (!std::filesystem::is_regular_file(file)) return false;
    const MappedFile mapped(file);
    std::int32_t magic = 0;
    if (mapped.bytes().size() < kHeader * sizeof(magic)) return false;
    std::memcpy(&magic, mapped.bytes().data(), sizeof(magic));
    return magic == kMagic;
}

LlmcCheckpoint::LlmcCheckpoint(const std::filesystem::path& file) : file_(file) {
    const std::string where = file.string();
    const auto bytes = file_.bytes();
    std::int32_t header[kHeader];
    check(bytes.size() >= sizeof(header), "{}: expected a header of {} bytes, got a file of {}",
          where, sizeof(header), bytes.size());
    std::memcpy(header, bytes.data(), sizeof(header));
    check(header[0] == kMagic, "{}: expected a checkpoint of llm.c, which begins with {}, got {}",
          where, kMagic, header[0]);
    check(header[1] == 3 || header[1] == 5, "{}: expected version 3 (f32) or 5 (bf16), got {}",
          where, header[1]);
    dtype_ = header[1] == 3 ? Dtype::f32 : Dtype::bf16;
    // Bounds that keep the products below far from overflow.
    for (int i = 2; i < 8; ++i) {
        check(header[i] > 0 && header[i] < 1 << 20, "{}: header[{}]: expected a size, got {}",
              where, i, header[i]);
    }
    const std::int64_t positions = header[2], vocab = header[3], layers = header[4];
    const std::int64_t heads = header[5], c = header[6], padded = header[7];
    check(vocab <= padded, "{}: expected a padded vocabulary of at least {}, got {}", where, vocab,
          padded);
    check(layers <= 1024 && c % heads == 0,
          "{}: expected heads that divide the width, got {} of {}", where, heads, c);
    architecture_ = {.family = Family::gpt2,
                     .vocab_size = vocab,
                     .hidden_size = c,
                     .layers = layers,
                     .heads = heads,
                     .kv_heads = heads,
                     .head_dim = c / heads,
                     .intermediate_size = 4 * c,
                     .max_positions = positions,
                     .tie_embeddings = true};
    check_architecture(architecture_);

    std::size_t at = sizeof(header);
    const auto add = [&](const std::string& name, Shape stored, Shape shape, bool transposed) {
        tensors_.push_back({"transformer." + name, shape, transposed, at});
        at += static_cast<std::size_t>(stored.elements()) * size_of(dtype_);
    };
    add("wte.weight", {padded, c}, {vocab, c}, false);
    add("wpe.weight", {positions, c}, {positions, c}, false);
    const Part parts[] = {{"ln_1.weight", {c}},
                          {"ln_1.bias", {c}},
                          {"attn.c_attn.weight", {3 * c, c}},
                          {"attn.c_attn.bias", {3 * c}},
                          {"attn.c_proj.weight", {c, c}},
                          {"attn.c_proj.bias", {c}},
                          {"ln_2.weight", {c}},
                          {"ln_2.bias", {c}},
                          {"mlp.c_fc.weight", {4 * c, c}},
                          {"mlp.c_fc.bias", {4 * c}},
                          {"mlp.c_proj.weight", {c, 4 * c}},
                          {"mlp.c_proj.bias", {c}}};
    for (const Part& part : parts) {
        const bool matrix = part.shape.rank() == 2;
        const Shape shape = matrix ? Shape{part.shape[1], part.shape[0]} : part.shape;
        for (std::int64_t layer = 0; layer < layers; ++layer) {
            add(fmt::format("h.{}.{}", layer, part.name), part.shape, shape, matrix);
        }
    }
    add("ln_f.weight", {c}, {c}, false);
    add("ln_f.bias", {c}, {c}, false);
    check(bytes.size() == at, "{}: expected {} bytes, got {}\n  Copy the file again.", where, at,
          bytes.size());
}

void LlmcCheckpoint::read(const Tensor& t, std::span<float> values) const {
    const auto n = static_cast<std::size_t>(t.shape.elements());
    const std::byte* from = file_.bytes().data() + t.at;
    if (!t.transposed) {
        convert(from, dtype_, values.data(), Dtype::f32, static_cast<std::int64_t>(n));
        return;
    }
    std::vector<float> stored(n);
    convert(from, dtype_, stored.data(), Dtype::f32, static_cast<std::int64_t>(n));
    const auto rows = static_cast<std::size_t>(t.shape[0]);
    const auto columns = static_cast<std::size_t>(t.shape[1]);
    for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t j = 0; j < columns; ++j) values[i * columns + j] = stored[j * rows + i];
    }
}

}  // namespace octavo
