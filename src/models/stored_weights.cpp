#include "models/stored_weights.h"

#include <algorithm>
#include <set>

#include "base/convert.h"
#include "base/parallel.h"

namespace octavo {
namespace {

constexpr std::string_view kGpt2Prefix = "transformer.", kHead = "lm_head.weight";
constexpr std::string_view kWeight = ".weight", kBlockScale = ".weight_scale_inv",
                           kTensorScale = ".weight_scale", kInputScale = ".input_scale";

// The first few, for an error that must not list thousands.
std::string some_of(const std::vector<std::string>& texts) {
    constexpr std::size_t kShown = 4;
    std::string text;
    for (std::size_t i = 0; i < std::min(kShown, texts.size()); ++i) {
        text += (i ? ", " : "") + printable(texts[i]);
    }
    if (texts.size() > kShown) text += fmt::format(" and {} more", texts.size() - kShown);
    return text;
}

// Stored by some exporters, computed by every implementation.
bool is_buffer(std::string_view name) {
    return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".attn.bias") ||
           name.ends_with(".attn.masked_bias");
}

bool is_scale(std::string_view name) {
    return name.ends_with(kBlockScale) || name.ends_with(kTensorScale) ||
           name.ends_with(kInputScale);
}

bool repeats_embedding(const SafetensorsModel& file, const TensorInfo& head) {
    for (const char* name : {"model.embed_tokens.weight", "transformer.wte.weight", "wte.weight"}) {
        const auto table = file.find(name);
        if (table) {
            return table->dtype == head.dtype && table->shape == head.shape &&
                   std::ranges::equal(table->bytes, head.bytes);
        }
    }
    return false;
}

std::vector<float> floats(const TensorInfo& t) {
    std::vector<float> values(static_cast<std::size_t>(t.shape.elements()));
    convert(t.bytes, t.dtype, std::as_writable_bytes(std::span(values)), Dtype::f32);
    return values;
}

}  // namespace

Shape weight_blocks(const Shape& weight) {
    const auto blocks = [](std::int64_t n) { return (n + kWeightBlock - 1) / kWeightBlock; };
    return {blocks(weight[0]), blocks(weight[1])};
}

void StoredWeight::read(std::span<float> values) const {
    if (!scale) {
        return parallel_convert(tensor.bytes, tensor.dtype, std::as_writable_bytes(values),
                                Dtype::f32);
    }
    const std::vector<float> scales = floats(*scale);
    const std::int64_t rows = tensor.shape[0], columns = tensor.shape[1];
    const bool whole = scales.size() == 1;
    const std::int64_t across = whole ? 1 : scale->shape[1];
    const std::int64_t width = whole ? columns : kWeightBlock;
    const std::int64_t grain =
        std::max<std::int64_t>(1, (1 << 16) / std::max<std::int64_t>(1, columns));
    parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const float* of_row = scales.data() + (whole ? 0 : row / kWeightBlock * across);
            for (std::int64_t block = 0; block < across; ++block) {
                const std::int64_t at = row * columns + block * width;
                const std::int64_t n = std::min(width, columns - block * width);
                dequantise(tensor.bytes.data() + at, tensor.dtype, of_row[block],
                           values.data() + at, Dtype::f32, n);
            }
        }
    });
}

StoredWeights::StoredWeights(const std::filesystem::path& folder) : folder_(folder), file_(folder) {
    names_ = file_.names();
    std::erase_if(names_, is_scale);
}

std::optional<StoredWeight> StoredWeights::find(std::string_view name) const {
    auto tensor = file_.find(name);
    if (!tensor) return std::nullopt;
    StoredWeight found{*std::move(tensor), {}};
    const TensorInfo& t = found.tensor;
    const std::string stem(name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size())
                                                   : name);
    found.scale = file_.find(stem + std::string(kBlockScale));
    if (!found.scale) found.scale = file_.find(stem + std::string(kTensorScale));
    if (!is_fp8(t.dtype)) {
        check(!found.scale, "{}: '{}': expected codes in FP8, since '{}' lies beside it, got {}",
              folder_.string(), printable(name), found.scale ? printable(found.scale->name) : "",
              octavo::name(t.dtype));
        return found;
    }
    check(name.ends_with(kWeight) && t.shape.rank() == 2 && found.scale,
          "{}: '{}': expected a matrix of {} codes with scales '{}' or '{}' beside it, got {}{}",
          folder_.string(), printable(name), octavo::name(t.dtype),
          printable(stem + std::string(kBlockScale)), printable(stem + std::string(kTensorScale)),
          to_string(t.shape), found.scale ? "" : " without");
    const TensorInfo& s = *found.scale;
    check(is_float(s.dtype) && !is_fp8(s.dtype) &&
              (s.shape.elements() == 1 || s.shape == weight_blocks(t.shape)),
          "{}: '{}': expected one scale, or {} for blocks of {} x {}, as floats, got {}",
          folder_.string(), printable(s.name), to_string(weight_blocks(t.shape)), kWeightBlock,
          kWeightBlock, to_string(Type{s.dtype, s.shape}));
    return found;
}

void StoredWeights::judge_unknown(const std::string& name,
                                  std::vector<std::string>& unknown) const {
    if (is_buffer(name)) return;
    if (name == kHead) {
        // A tied model that was stored as if it were not.
        check(repeats_embedding(file_, file_.at(name)),
              "{}: the model ties its head to the embedding, but '{}' differs from it\n  Set "
              "tie_word_embeddings to false in config.json.",
              folder_.string(), name);
        return;
    }
    unknown.push_back(fmt::format("'{}'", name));
}

std::vector<StoredWeight> StoredWeights::match(std::span<const Expected> expected) const {
    std::vector<StoredWeight> matched;
    std::set<std::string> used;
    std::vector<std::string> missing, unknown, misfits;
    for (const Expected& e : expected) {
        auto weight = find(e.name);
        if (!weight && e.name.starts_with(kGpt2Prefix)) {
            weight = find(e.name.substr(kGpt2Prefix.size()));
        }
        if (!weight) {
            missing.push_back(fmt::format("'{}'", e.name));
            continue;
        }
        const TensorInfo& t = weight->tensor;
        used.insert(t.name);
        if (t.shape != e.type.shape || !is_float(t.dtype)) {
            misfits.push_back(fmt::format("'{}': expected {}{}, got {}", t.name, to_string(e.type),
                                          is_float(t.dtype) ? "" : " or another float dtype",
                                          to_string(Type{t.dtype, t.shape})));
        }
        matched.push_back(*std::move(weight));
    }
    for (const std::string& name : names_) {
        if (!used.contains(name)) judge_unknown(name, unknown);
    }
    std::string text;
    const auto add = [&](const char* what, const std::vector<std::string>& list) {
        if (list.empty()) return;
        text +=
            fmt::format("{}{} {}: {}", text.empty() ? "" : "; ", list.size(), what, some_of(list));
    };
    add("missing", missing);
    add("unknown", unknown);
    add("of another type", misfits);
    check(text.empty(),
          "{}: expected the {} tensors of the model, got others. {}\n  Check that config.json and "
          "the weights belong together.",
          folder_.string(), expected.size(), text);
    return matched;
}

}  // namespace octavo
