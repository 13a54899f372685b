#include "models/weights.h"

#include "base/convert.h"
#include "models/experts.h"
#include "models/stored_weights.h"

namespace octavo {
namespace {

void copy(const StoredWeight& weight, State& state, const State::Entry& e) {
    const TensorInfo& t = weight.tensor;
    if (!weight.scale && e.type.scaling == kUnscaled) {
        if (t.dtype == e.type.dtype) return state.write(e.name, t.bytes.data());
        std::vector<std::byte> host(static_cast<std::size_t>(data_bytes(e.type)));
        convert(t.bytes, t.dtype, host, e.type.dtype);
        return state.write(e.name, host.data());
    }
    std::vector<float> values(static_cast<std::size_t>(e.type.shape.elements()));
    weight.read(values);
    write_values(state, e.name, values);
}

// The matrices of a stack, one after the other: in its dtype, or in f32 where it has a scale.
void copy_stack(std::span<const StoredWeight> weights, State& state, const State::Entry& e) {
    const bool scaled = e.type.scaling != kUnscaled;
    const Dtype dtype = scaled ? Dtype::f32 : e.type.dtype;
    const std::size_t n = static_cast<std::size_t>(e.type.shape.elements()) / weights.size();
    std::vector<float> values;
    std::vector<std::byte> host(weights.size() * n * size_of(dtype));
    std::span<std::byte> to(host);
    for (const StoredWeight& w : weights) {
        const std::span<std::byte> matrix = to.first(n * size_of(dtype));
        if (w.scale) {
            values.resize(n);
            w.read(values);
            convert(std::as_bytes(std::span<const float>(values)), Dtype::f32, matrix, dtype);
        } else {
            convert(w.tensor.bytes, w.tensor.dtype, matrix, dtype);
        }
        to = to.subspan(matrix.size());
    }
    if (!scaled) return state.write(e.name, host.data());
    write_values(state, e.name, {reinterpret_cast<const float*>(host.data()), weights.size() * n});
}

}  // namespace

void load_weights(const std::filesystem::path& folder, State& state) {
    const StoredWeights stored(folder);
    std::vector<const State::Entry*> entries;
    std::vector<StoredWeights::Expected> expected;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) != "weight") continue;
        entries.push_back(&e);
        for (StoredParameter& p : stored_parameters(e.name, e.type.shape)) {
            expected.push_back({std::move(p.name), {e.type.dtype, p.shape, e.type.scaling}});
        }
    }
    const std::vector<StoredWeight> all = stored.match(expected);
    std::span<const StoredWeight> weights(all);
    for (const State::Entry* e : entries) {
        const bool stack = is_expert_stack(e->name, e->type.shape);
        const std::size_t n = stack ? static_cast<std::size_t>(e->type.shape[0]) : 1;
        if (stack) {
            copy_stack(weights.first(n), state, *e);
        } else {
            copy(weights[0], state, *e);
        }
        weights = weights.subspan(n);
    }
}

}  // namespace octavo
