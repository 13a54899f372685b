#include "models/weights.h"

#include "base/convert.h"
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

}  // namespace

void load_weights(const std::filesystem::path& folder, State& state) {
    const StoredWeights stored(folder);
    std::vector<const State::Entry*> entries;
    std::vector<StoredWeights::Expected> expected;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) != "weight") continue;
        entries.push_back(&e);
        expected.push_back({e.name, e.type});
    }
    const std::vector<StoredWeight> weights = stored.match(expected);
    for (std::size_t i = 0; i < weights.size(); ++i) copy(weights[i], state, *entries[i]);
}

}  // namespace octavo
