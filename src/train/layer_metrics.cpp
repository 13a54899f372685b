#include "train/layer_metrics.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "base/scale_rule.h"
#include "train/inspect_swiglu.h"

namespace octavo {
namespace {

class SwiGluMetrics {
  public:
    SwiGluMetrics(const State& state, const Measured& measured) : gates_(state), ups_(state) {
        for (const SwiGluRange& range : measured.swiglus) {
            layer_ = layer_number(range.label);
            add_weights(state, range.label);
            add("amax", range.amax);
            if (!range.factors.empty()) add_factors(range.factors);
            const auto cast = std::ranges::find(measured.casts, range.label + ".down_proj.x",
                                                &TensorCast::tensor);
            if (cast == measured.casts.end()) continue;
            if (!range.factors.empty()) add("smooth_amax", cast->stats.amax);
            add("sat_frac", cast->stats.saturated);
            add("flush_frac", cast->stats.flushed);
        }
    }

    NamedNumbers numbers;

  private:
    void add(const char* what, double value) {
        numbers.emplace_back(fmt::format("swiglu.{}.{}", what, layer_), value);
    }

    void add_weights(const State& state, const std::string& label) {
        const std::string gate = label + ".gate_proj.weight", up = label + ".up_proj.weight";
        const Alignment a = alignment(
            channel_weights(gates_.read(gate), ups_.read(up), state.at(gate).type.shape.last()));
        add("cos_p50", a.cos_p50);
        add("cos_p99", a.cos_p99);
        add("cos_max", a.cos_max);
        add("norm_gate_max", a.gate_norm_max);
        add("norm_up_max", a.up_norm_max);
        add("norm_ratio", a.norm_ratio);
    }

    // Rows of zeros, which pad those of experts, have the smallest factor: it counts where there is
    // nothing else.
    void add_factors(const std::vector<float>& factors) {
        constexpr float kOfZeros = smooth_factor(0, ScaleRounding::pow2);
        const float most = std::ranges::max(factors);
        float least = most;
        for (const float s : factors) {
            if (s != kOfZeros) least = std::min(least, s);
        }
        add("sig_min", least);
        add("sig_max", most);
    }

    ValueReader gates_, ups_;
    int layer_ = -1;
};

}  // namespace

NamedNumbers swiglu_metrics(const State& state, const Measured& measured) {
    return SwiGluMetrics(state, measured).numbers;
}

NamedNumbers moment_metrics(const std::vector<FlushedMoment>& moments) {
    std::map<int, double> worst;
    for (const FlushedMoment& m : moments) {
        double& share = worst[layer_number(m.parameter)];
        if (is_worse(m.share, share)) share = m.share;
    }
    NamedNumbers numbers;
    for (const auto& [layer, share] : worst) {
        numbers.emplace_back(fmt::format("adam.v_flush_frac.{}", layer), share);
    }
    return numbers;
}

}  // namespace octavo
