#include <algorithm>
#include <cstring>
#include <set>

#include "base/scale_rule.h"
#include "io/safetensors.h"
#include "models/experts.h"
#include "train/channel_factors.h"
#include "train/checkpoint_format.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

// All tensors of a checkpoint.
struct Stored {
    std::vector<SafetensorsFile> files;  // mapped as long as `tensors` are in use
    std::map<std::string, TensorInfo> tensors;
    std::map<std::string, std::string> scaled;  // State name -> type, of scaled tensors
};

Stored open_shards(const fs::path& checkpoint, const Manifest& manifest) {
    Stored stored;
    for (const auto& [name, sum] : manifest.files) {
        if (!name.ends_with(".safetensors")) continue;
        const SafetensorsFile& file = stored.files.emplace_back(checkpoint / name);
        for (const TensorEntry& e : file.entries()) {
            check(stored.tensors.emplace(e.name, file.at(e.name)).second,
                  "{}: tensor '{}' is in another file, too", file.name(), e.name);
        }
        stored.scaled.insert(file.metadata().begin(), file.metadata().end());
    }
    return stored;
}

// Matrices of experts as the stack that State has. They lie one after the other, as they were
// written.
void join_experts(Stored& stored, const State& state) {
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) != "weight" || !is_expert_stack(e.name, e.type.shape)) continue;
        TensorInfo stack{e.name, e.type.dtype, e.type.shape, {}};
        std::vector<std::string> names;
        for (const StoredParameter& p : stored_parameters(e.name, e.type.shape)) {
            const auto it = stored.tensors.find(p.name);
            if (it == stored.tensors.end() || it->second.shape != p.shape) break;
            const TensorInfo& t = it->second;
            const bool follows =
                names.empty() || (t.dtype == stack.dtype &&
                                  t.bytes.data() == stack.bytes.data() + stack.bytes.size());
            check(follows, "'{}': expected the experts of a layer one after the other", p.name);
            stack.dtype = t.dtype;
            stack.bytes = {names.empty() ? t.bytes.data() : stack.bytes.data(),
                           stack.bytes.size() + t.bytes.size()};
            names.push_back(p.name);
        }
        if (std::ssize(names) != e.type.shape[0]) continue;  // missed by name later
        for (const std::string& name : names) stored.tensors.erase(name);
        stored.tensors.emplace(e.name, stack);
    }
}

std::string type_text(const Stored& stored, const TensorInfo& t) {
    const auto it = stored.scaled.find(t.name);
    return it != stored.scaled.end() ? it->second : to_string(Type{t.dtype, t.shape});
}

// Something that keeps the stored tensors from being this State.
struct Difference {
    std::string text;
    bool bridged = false;  // by a conversion, or made anew
};

// What is made anew from the masters: working copies, and the bounds that their scales go by.
bool is_remade(std::string_view name) {
    const std::string_view role = state_role(name);
    return role.starts_with("work.") || role == "scale.bound";
}

bool converts(const Scaling& s) { return s == kUnscaled || s == kPerTensor || s == kExpanded; }

// The type of a stored tensor, if its values can be told from it.
std::optional<Type> stored_type(const Stored& stored, const TensorInfo& t) {
    if (!is_float(t.dtype)) return std::nullopt;
    const Type plain{t.dtype, t.shape};
    if (!stored.scaled.contains(t.name))
        return is_fp8(t.dtype) ? std::nullopt : std::optional(plain);
    const auto scales = stored.tensors.find(t.name + ".scale");
    if (scales == stored.tensors.end() || scales->second.dtype != Dtype::f32) return std::nullopt;
    for (const Scaling& s : {kPerTensor, kExpanded}) {
        const Type type{t.dtype, t.shape, s};
        const bool fits = scales->second.shape.elements() == scale_count(type);
        if (fits && type_text(stored, t) == to_string(type)) return type;
    }
    return std::nullopt;
}

// The stored tensor with the values of `e`, if they can be had in another format: plain floats,
// codes under one scale, or expanded ones.
const TensorInfo* find_values(const Stored& stored, const State::Entry& e) {
    const std::string_view role = state_role(e.name);
    if (role != "weight" && !role.starts_with("adam.")) return nullptr;
    const auto it = stored.tensors.find(e.name);
    if (it == stored.tensors.end()) return nullptr;
    const TensorInfo& t = it->second;
    const bool fits =
        t.shape == e.type.shape && converts(e.type.scaling) && stored_type(stored, t).has_value();
    return fits ? &t : nullptr;
}

float stored_scale(const Stored& stored, const std::string& name) {
    float scale = 1;
    std::memcpy(&scale, stored.tensors.at(name + ".scale").bytes.data(), sizeof(scale));
    return scale;
}

// What keeps the codes of `e` from being loaded as they are.
std::vector<std::string> differences(const Stored& stored, const State::Entry& e) {
    const std::string name = saved_name(e);
    const auto it = stored.tensors.find(name);
    if (it == stored.tensors.end()) {
        return {fmt::format("'{}': expected {}, got none", name, to_string(e.type))};
    }
    if (const std::string got = type_text(stored, it->second); got != to_string(e.type)) {
        return {fmt::format("'{}': expected {}, got {}", name, to_string(e.type), got)};
    }
    std::vector<std::string> found;
    for (const Part& part : parts_of(e)) {
        const auto p = stored.tensors.find(part.name);
        const bool fits = p != stored.tensors.end() && p->second.dtype == part.type.dtype &&
                          p->second.shape == part.type.shape;
        if (fits) continue;
        found.push_back(fmt::format("'{}': expected {}, got {}", part.name, to_string(part.type),
                                    p == stored.tensors.end()
                                        ? "none"
                                        : to_string(Type{p->second.dtype, p->second.shape})));
    }
    if (e.exponent && e.type.scaling == kPerTensor && found.empty()) {
        const float scale = stored_scale(stored, name), want = power_of_two(*e.exponent);
        if (scale != want) {
            found.push_back(fmt::format("'{}': expected a scale of {}, got {}", name, want, scale));
        }
    }
    return found;
}

std::vector<Difference> differences(const Stored& stored, const State& state) {
    std::vector<Difference> found;
    std::set<std::string> known;
    for (const State::Entry& e : state.entries()) {
        if (!is_saved(e.name)) continue;
        for (const std::string& name : {e.name, saved_name(e)}) {
            known.insert({name, name + ".scale", name + ".groups"});
        }
        // Begins anew where it is missing.
        if (is_kept_channels(e.name) && !stored.tensors.contains(e.name)) continue;
        for (std::string& text : differences(stored, e)) {
            const bool bridged = is_remade(e.name) || find_values(stored, e);
            found.push_back({std::move(text), bridged});
        }
    }
    for (const auto& [name, tensor] : stored.tensors) {
        if (known.contains(name) || is_kept_channels(name)) continue;
        // Codes of a master weight whose values are known.
        const bool codes = name.starts_with("master/") || is_remade(name);
        found.push_back(
            {fmt::format("'{}': expected none, got {}", name, type_text(stored, tensor)), codes});
    }
    return found;
}

void refuse(const fs::path& checkpoint, const Manifest& manifest,
            const std::vector<Difference>& found) {
    constexpr std::size_t kShown = 3;
    std::string text;
    for (std::size_t i = 0; i < std::min(kShown, found.size()); ++i) {
        text += (i ? "; " : "") + found[i].text;
    }
    if (found.size() > kShown) text += fmt::format("; and {} more", found.size() - kShown);
    fail(
        "{}: {} of the tensors are not those of this run: {}\n  The checkpoint was written with "
        "recipe '{}'; its config.toml has the rest. Use that config, or another run folder.",
        checkpoint.string(), found.size(), text, manifest.info.recipe);
}

std::vector<float> values_of(const Stored& stored, const TensorInfo& t) {
    const Type type = *stored_type(stored, t);
    std::vector<float> scales(static_cast<std::size_t>(scale_count(type)));
    if (!scales.empty()) {
        std::ranges::copy(stored.tensors.at(t.name + ".scale").bytes,
                          std::as_writable_bytes(std::span(scales)).begin());
    }
    return values_of(type, t.bytes.data(), scales.data());
}

void fill(const Stored& stored, State& state) {
    std::vector<std::byte> host;
    for (const State::Entry& e : state.entries()) {
        if (!is_saved(e.name)) continue;
        if (!differences(stored, e).empty()) {
            if (const TensorInfo* t = find_values(stored, e)) {
                write_values(state, e.name, values_of(stored, *t));
            }
            continue;
        }
        if (e.type.scaling == kUnscaled) {
            state.write(e.name, stored.tensors.at(e.name).bytes.data());
            continue;
        }
        host.assign(static_cast<std::size_t>(total_bytes(e.type)), std::byte{0});
        const TensorRef tensor = tensor_at(e.type, host.data());
        for (const Part& part : parts_of(e)) {
            std::ranges::copy(stored.tensors.at(part.name).bytes, part_data(tensor, part.kind));
        }
        state.write_all_parts(e.name, host.data());
    }
}

}  // namespace

CheckpointInfo read_checkpoint_info(const fs::path& checkpoint) {
    return read_manifest(checkpoint).info;
}

void verify_checkpoint(const fs::path& checkpoint) {
    verify_files(checkpoint, read_manifest(checkpoint));
}

CheckpointInfo load_checkpoint(const fs::path& checkpoint, State& state, Verify verify,
                               std::vector<std::string>* converted) {
    Manifest manifest = read_manifest(checkpoint);
    if (verify == Verify::contents) verify_files(checkpoint, manifest);
    Stored stored = open_shards(checkpoint, manifest);
    join_experts(stored, state);
    const std::vector<Difference> found = differences(stored, state);
    const bool bridged = converted && std::ranges::all_of(found, &Difference::bridged);
    if (!found.empty() && !bridged) refuse(checkpoint, manifest, found);
    fill(stored, state);
    for (const Difference& d : found) converted->push_back(d.text);
    return std::move(manifest.info);
}

}  // namespace octavo
