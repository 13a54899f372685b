#include "runtime/state.h"

#include <algorithm>

#include "base/convert.h"
#include "base/expansion.h"
#include "base/parallel.h"
#include "base/scale_rule.h"

namespace octavo {

namespace {

// What a tensor takes of the memory of State, where each starts at a multiple of 256.
std::int64_t taken_bytes(const Type& type) { return (total_bytes(type) + 255) / 256 * 256; }

void decode(const Type& type, const void* codes, const float* scales, std::span<float> values) {
    if (type.scaling == kExpanded) {
        contract(codes, reinterpret_cast<const Expansion*>(scales), std::ssize(values),
                 values.data());
        return;
    }
    const float scale = type.scaling == kPerTensor ? *scales : 1;
    const auto* from = static_cast<const std::byte*>(codes);
    constexpr std::int64_t kGrain = 1 << 16;
    parallel_for(std::ssize(values), kGrain, [&](std::int64_t begin, std::int64_t end) {
        dequantise(from + begin * size_of(type.dtype), type.dtype, scale, values.data() + begin,
                   Dtype::f32, end - begin);
    });
}

void read_into(const State& state, std::string_view name, std::vector<std::byte>& parts,
               std::vector<float>& values) {
    const Type& type = state.at(name).type;
    parts.resize(static_cast<std::size_t>(total_bytes(type)));
    const TensorRef t = tensor_at(type, parts.data());
    if (type.scaling == kUnscaled) {
        state.read(name, t.data);
    } else {
        state.read_all_parts(name, parts.data());
    }
    values.resize(static_cast<std::size_t>(type.shape.elements()));
    decode(type, t.data, t.scales(), values);
}

}  // namespace

std::string_view state_role(std::string_view name) {
    const auto slash = name.find('/');
    return slash == std::string_view::npos ? "weight" : name.substr(0, slash);
}

bool is_saved(std::string_view name) {
    const std::string_view role = state_role(name);
    return role != "grad" && role != "grad.scale" && role != "kv" && role != "step" &&
           role != "smooth.seen" && role != "scale.guess";
}

void initialise_scales(State& state) {
    const float one = 1.0f;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) == "scale.value") state.write(e.name, &one);
        if (e.type.scaling == kPerTensor && state_role(e.name) != "weight") {
            state.write_scales(e.name, &one);
        }
        if (state_role(e.name) == "smooth.factor") {
            const std::vector<float> ones(static_cast<std::size_t>(e.type.shape.elements()), one);
            state.write(e.name, ones.data());
        }
        if (e.type.scaling == kExpanded) {
            const std::vector<Expansion> none(static_cast<std::size_t>(scale_bytes(e.type)) /
                                              sizeof(Expansion));
            state.write_scales(e.name, none.data());
        }
    }
}

std::vector<float> values_of(const Type& type, const void* codes, const float* scales) {
    std::vector<float> values(static_cast<std::size_t>(type.shape.elements()));
    decode(type, codes, scales, values);
    return values;
}

std::span<const float> ValueReader::read(std::string_view name) {
    read_into(state_, name, parts_, values_);
    return values_;
}

std::vector<float> read_values(const State& state, std::string_view name) {
    std::vector<std::byte> parts;
    std::vector<float> values;
    read_into(state, name, parts, values);
    return values;
}

void write_values_under(State& state, std::string_view name, std::span<const float> values,
                        int exponent) {
    const Type& type = state.at(name).type;
    check(type.scaling == kPerTensor && type.shape.elements() == std::ssize(values),
          "state '{}': expected one scale and values for it, got {} and {} values", name,
          to_string(type), values.size());
    std::vector<std::byte> codes(static_cast<std::size_t>(data_bytes(type)));
    quantise(values.data(), Dtype::f32, power_of_two(-exponent), codes.data(), type.dtype,
             std::ssize(values));
    const float scale = power_of_two(exponent);
    state.write_scales(name, &scale);
    state.write(name, codes.data());
}

void write_values(State& state, std::string_view name, std::span<const float> values) {
    const State::Entry& entry = state.at(name);
    const Type& type = entry.type;
    const bool scaled = type.scaling == kPerTensor, expanded = type.scaling == kExpanded;
    check(scaled || expanded || type.scaling == kUnscaled,
          "state '{}': expected one scale, expansions or none, got {}", name, to_string(type));
    check(type.shape.elements() == std::ssize(values), "state '{}': expected values for {}, got {}",
          name, to_string(type), values.size());
    if (scaled && entry.exponent) return write_values_under(state, name, values, *entry.exponent);
    std::vector<std::byte> codes(static_cast<std::size_t>(data_bytes(type)));
    if (expanded) {
        std::vector<std::byte> groups(static_cast<std::size_t>(scale_bytes(type)));
        expand(values.data(), std::ssize(values), codes.data(),
               reinterpret_cast<Expansion*>(groups.data()));
        state.write_scales(name, groups.data());
        state.write(name, codes.data());
        return;
    }
    Scale scale;
    if (scaled) {
        const float top = amax(values.data(), Dtype::f32, std::ssize(values));
        const bool master = state_role(name) == "weight";
        const auto rounding = master ? kMasterRounding : ScaleRounding::exact;
        scale = next_scale(top, type.dtype, rounding, 0, {});
        state.write_scales(name, &scale.scale);
    }
    quantise(values.data(), Dtype::f32, scale.inv_scale, codes.data(), type.dtype,
             std::ssize(values));
    state.write(name, codes.data());
}

void State::declare(const std::string& name, const Type& type, std::optional<int> exponent) {
    if (contains(name)) {
        Entry& known = entries_[index_.find(name)->second];
        if (exponent) known.exponent = exponent;
        check(at(name).type == type, "state '{}' is {} in one graph and {} in another", name,
              to_string(at(name).type), to_string(type));
        return;
    }
    check(backend_ == nullptr, "state '{}' was declared after memory was allocated", name);
    index_[name] = entries_.size();
    entries_.push_back({name, type, bytes_, {}, exponent});
    bytes_ += taken_bytes(type);
}

std::vector<std::pair<std::string, std::int64_t>> State::bytes_by_role() const {
    std::vector<std::pair<std::string, std::int64_t>> roles;
    for (const Entry& e : entries_) {
        const std::string_view role = state_role(e.name);
        auto it = std::find_if(roles.begin(), roles.end(),
                               [&](const auto& r) { return r.first == role; });
        if (it == roles.end()) it = roles.insert(it, {std::string(role), 0});
        it->second += taken_bytes(e.type);
    }
    return roles;
}

void State::allocate(Backend& backend) {
    memory_ = Buffer(backend, bytes_);
    place(backend, memory_.data());
}

void State::place(Backend& backend, std::byte* memory) {
    backend_ = &backend;
    for (Entry& e : entries_) e.tensor = tensor_at(e.type, memory + e.offset);
}

const State::Entry& State::at(std::string_view name) const {
    const auto it = index_.find(name);
    check(it != index_.end(), "there is no state tensor '{}'", name);
    return entries_[it->second];
}

void State::write(std::string_view name, const void* host) {
    const Entry& e = at(name);
    backend_->copy_in(static_cast<std::byte*>(e.tensor.data), static_cast<const std::byte*>(host),
                      data_bytes(e.type));
}

void State::read(std::string_view name, void* host) const {
    const Entry& e = at(name);
    backend_->copy_out(static_cast<std::byte*>(host), static_cast<const std::byte*>(e.tensor.data),
                       data_bytes(e.type));
}

void State::write_scales(std::string_view name, const void* host) {
    const Entry& e = at(name);
    backend_->copy_in(static_cast<std::byte*>(e.tensor.scale), static_cast<const std::byte*>(host),
                      scale_bytes(e.type));
}

void State::write_all_parts(std::string_view name, const std::byte* host) {
    const Entry& e = at(name);
    backend_->copy_in(e.tensor.as<std::byte>(), host, total_bytes(e.type));
}

void State::read_all_parts(std::string_view name, std::byte* host) const {
    const Entry& e = at(name);
    backend_->copy_out(host, e.tensor.as<std::byte>(), total_bytes(e.type));
}

}  // namespace octavo
