#include "train/inspect_swiglu.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <deque>

#include "base/convert.h"
#include "base/parallel.h"
#include "io/safetensors.h"

namespace octavo {
namespace {

constexpr std::string_view kGate = ".gate_proj.weight", kUp = ".up_proj.weight";

// The smallest value that this share of all does not exceed.
double percentile(std::vector<double>& values, double share) {
    if (values.empty()) return 0;
    const auto rank =
        static_cast<std::ptrdiff_t>(std::ceil(share * static_cast<double>(values.size())) - 1);
    const auto at = values.begin() + std::max<std::ptrdiff_t>(rank, 0);
    std::ranges::nth_element(values, at);
    return *at;
}

// Of the two weights of a channel.
struct Products {
    double dot = 0, gate_square = 0, up_square = 0;
};

Products products_of(const float* gate, const float* up, std::int64_t features) {
    Products p;
    for (std::int64_t i = 0; i < features; ++i) {
        const double g = gate[i], u = up[i];
        p.dot += g * u;
        p.gate_square += g * g;
        p.up_square += u * u;
    }
    return p;
}

std::vector<float> values_of(const TensorInfo& t) {
    check(is_float(t.dtype) && !is_fp8(t.dtype) && t.shape.rank() == 2,
          "'{}': expected a matrix of f64, f32, bf16 or f16, got {} {}", t.name, name(t.dtype),
          to_string(t.shape));
    std::vector<float> values(static_cast<std::size_t>(t.shape.elements()));
    convert(t.bytes, t.dtype, std::as_writable_bytes(std::span(values)), Dtype::f32);
    return values;
}

}  // namespace

ChannelWeights channel_weights(std::span<const float> gate, std::span<const float> up,
                               std::int64_t features) {
    const auto channels = static_cast<std::size_t>(std::ssize(gate) / features);
    ChannelWeights w{.layer = {},
                     .features = features,
                     .cos = std::vector<double>(channels),
                     .gate_norm = std::vector<double>(channels),
                     .up_norm = std::vector<double>(channels)};
    parallel_for(std::ssize(w.cos), 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const Products p = products_of(&gate[i * features], &up[i * features], features);
            const double gate_norm = std::sqrt(p.gate_square), up_norm = std::sqrt(p.up_square);
            const double product = gate_norm * up_norm;
            const auto c = static_cast<std::size_t>(i);
            w.cos[c] = product > 0 ? p.dot / product : 0;
            w.gate_norm[c] = gate_norm;
            w.up_norm[c] = up_norm;
        }
    });
    return w;
}

Alignment alignment(const ChannelWeights& w) {
    std::vector<double> cosines, ratios;
    for (std::size_t c = 0; c < w.cos.size(); ++c) {
        cosines.push_back(std::abs(w.cos[c]));
        if (w.up_norm[c] > 0) ratios.push_back(w.gate_norm[c] / w.up_norm[c]);
    }
    return {.cos_p50 = percentile(cosines, 0.50),
            .cos_p99 = percentile(cosines, 0.99),
            .cos_max = percentile(cosines, 1),
            .gate_norm_max = w.gate_norm.empty() ? 0 : std::ranges::max(w.gate_norm),
            .up_norm_max = w.up_norm.empty() ? 0 : std::ranges::max(w.up_norm),
            .norm_ratio = percentile(ratios, 0.50)};
}

std::vector<ChannelWeights> inspect_swiglu(const std::filesystem::path& model) {
    const SafetensorsModel file(model);
    struct Layer {
        std::int64_t number;
        std::string name;
    };
    std::vector<Layer> layers;
    for (const std::string& name : file.names()) {
        if (!name.ends_with(kGate)) continue;
        const std::string layer = name.substr(0, name.size() - kGate.size());
        const auto digits = layer.find_first_of("0123456789");
        layers.push_back({digits == layer.npos ? 0 : std::atoll(layer.c_str() + digits), layer});
    }
    check(!layers.empty(), "{}: expected weights '*{}', got none\n  Only models with SwiGLU align.",
          model.string(), kGate);
    std::ranges::stable_sort(layers, {}, &Layer::number);
    std::vector<ChannelWeights> found;
    for (const Layer& layer : layers) {
        const TensorInfo gate = file.at(layer.name + std::string(kGate));
        const TensorInfo up = file.at(layer.name + std::string(kUp));
        check(gate.shape == up.shape, "'{}': expected {} as in the gate, got {}", up.name,
              to_string(gate.shape), to_string(up.shape));
        found.push_back(channel_weights(values_of(gate), values_of(up), gate.shape.last()));
        found.back().layer = layer.name;
    }
    return found;
}

std::string to_text(const std::vector<ChannelWeights>& layers) {
    std::size_t width = 5;
    for (const ChannelWeights& w : layers) width = std::max(width, w.layer.size());
    std::string s = fmt::format("|cos(w_gate, w_up)| of channels; independent ones: {:.4f}\n\n",
                                1 / std::sqrt(static_cast<double>(layers[0].features)));
    s += fmt::format("{:<{}}  {:>7} {:>7} {:>7}  {:>10} {:>10} {:>8}\n", "layer", width, "p50",
                     "p99", "max", "|gate| max", "|up| max", "gate/up");
    for (const ChannelWeights& w : layers) {
        const Alignment a = alignment(w);
        s += fmt::format("{:<{}}  {:>7.4f} {:>7.4f} {:>7.4f}  {:>10.4g} {:>10.4g} {:>8.3f}\n",
                         w.layer, width, a.cos_p50, a.cos_p99, a.cos_max, a.gate_norm_max,
                         a.up_norm_max, a.norm_ratio);
    }
    return s;
}

void write_channels(const std::filesystem::path& file, const std::vector<ChannelWeights>& layers,
                    const ChannelFactors& factors) {
    std::deque<std::vector<float>> kept;
    std::vector<TensorInfo> tensors;
    const auto add = [&](const std::string& name, const auto& values) {
        kept.emplace_back(values.begin(), values.end());
        tensors.push_back({.name = name,
                           .dtype = Dtype::f32,
                           .shape = {std::ssize(values)},
                           .bytes = std::as_bytes(std::span(kept.back()))});
    };
    for (const ChannelWeights& w : layers) {
        add(w.layer + ".cos", w.cos);
        add(w.layer + ".gate_norm", w.gate_norm);
        add(w.layer + ".up_norm", w.up_norm);
        if (const auto found = factors.find(w.layer); found != factors.end()) {
            add(w.layer + ".factor", found->second);
        }
    }
    write_safetensors(file, tensors);
}

}  // namespace octavo
