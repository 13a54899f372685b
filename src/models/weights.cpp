#include "models/weights.h"

#include "base/convert.h"
#include "models/experts.h"
#include "models/stored_weights.h"

namespace octavo {
namespace {

// One matrix, or several, one after the other.
void copy(std::span<const StoredWeight> weights, const WeightTarget& target) {
    const StoredWeight& first = weights[0];
    if (weights.size() == 1 && !first.scale && first.tensor.dtype == target.dtype) {
        return target.write(first.tensor.bytes);
    }
    const std::size_t n = static_cast<std::size_t>(target.shape.elements()) / weights.size();
    std::vector<float> values;
    std::vector<std::byte> host(weights.size() * n * size_of(target.dtype));
    std::span<std::byte> to(host);
    for (const StoredWeight& w : weights) {
        const std::span<std::byte> matrix = to.first(n * size_of(target.dtype));
        if (w.scale) {
            values.resize(n);
            w.read(values);
            convert(std::as_bytes(std::span<const float>(values)), Dtype::f32, matrix,
                    target.dtype);
        } else {
            convert(w.tensor.bytes, w.tensor.dtype, matrix, target.dtype);
        }
        to = to.subspan(matrix.size());
    }
    target.write(host);
}

}  // namespace

void load_weights(const std::filesystem::path& folder, std::span<const WeightTarget> targets) {
    const StoredWeights stored(folder);
    std::vector<StoredWeights::Expected> expected;
    for (const WeightTarget& target : targets) {
        for (StoredParameter& p : stored_parameters(target.name, target.shape)) {
            expected.push_back({std::move(p.name), {target.dtype, p.shape}});
        }
    }
    const std::vector<StoredWeight> all = stored.match(expected);
    std::span<const StoredWeight> weights(all);
    for (const WeightTarget& target : targets) {
        const bool stack = is_expert_stack(target.name, target.shape);
        const std::size_t n = stack ? static_cast<std::size_t>(target.shape[0]) : 1;
        copy(weights.first(n), target);
        weights = weights.subspan(n);
    }
}

std::vector<WeightTarget> master_weights(State& state) {
    std::vector<WeightTarget> targets;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) != "weight") continue;
        const bool scaled = e.type.scaling != kUnscaled;
        targets.push_back({e.name, e.type.shape, scaled ? Dtype::f32 : e.type.dtype,
                           [&state, name = e.name, scaled](std::span<const std::byte> values) {
                               if (!scaled) return state.write(name, values.data());
                               const auto* floats = reinterpret_cast<const float*>(values.data());
                               write_values(state, name, {floats, values.size() / sizeof(float)});
                           }});
    }
    return targets;
}

}  // namespace octavo
