#include <algorithm>
#include <set>

#include "io/safetensors.h"
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

std::string type_text(const Stored& stored, const TensorInfo& t) {
    const auto it = stored.scaled.find(t.name);
    return it != stored.scaled.end() ? it->second : to_string(Type{t.dtype, t.shape});
}

// What keeps the stored tensors from being this State; empty if nothing does.
std::vector<std::string> differences(const Stored& stored, const State& state) {
    std::vector<std::string> found;
    std::set<std::string> known;
    for (const State::Entry& e : state.entries()) {
        if (!is_saved(e.name)) continue;
        known.insert({e.name, e.name + ".scale", e.name + ".groups"});
        const auto it = stored.tensors.find(e.name);
        if (it == stored.tensors.end()) {
            found.push_back(fmt::format("'{}': expected {}, got none", e.name, to_string(e.type)));
            continue;
        }
        if (const std::string got = type_text(stored, it->second); got != to_string(e.type)) {
            found.push_back(
                fmt::format("'{}': expected {}, got {}", e.name, to_string(e.type), got));
            continue;
        }
        for (const Part& part : parts_of(e)) {
            const auto p = stored.tensors.find(part.name);
            const bool fits = p != stored.tensors.end() && p->second.dtype == part.type.dtype &&
                              p->second.shape == part.type.shape;
            if (fits) continue;
            found.push_back(fmt::format(
                "'{}': expected {}, got {}", part.name, to_string(part.type),
                p == stored.tensors.end() ? "none"
                                          : to_string(Type{p->second.dtype, p->second.shape})));
        }
    }
    for (const auto& [name, tensor] : stored.tensors) {
        if (known.contains(name)) continue;
        found.push_back(
            fmt::format("'{}': expected none, got {}", name, type_text(stored, tensor)));
    }
    return found;
}

void check_fits(const fs::path& checkpoint, const Manifest& manifest, const Stored& stored,
                const State& state) {
    const std::vector<std::string> found = differences(stored, state);
    if (found.empty()) return;
    constexpr std::size_t kShown = 3;
    std::string text;
    for (std::size_t i = 0; i < std::min(kShown, found.size()); ++i) {
        text += (i ? "; " : "") + found[i];
    }
    if (found.size() > kShown) text += fmt::format("; and {} more", found.size() - kShown);
    fail(
        "{}: {} of the tensors are not those of this run: {}\n  The checkpoint was written with "
        "recipe '{}'; its config.toml has the rest. Use that config, or another run folder.",
        checkpoint.string(), found.size(), text, manifest.info.recipe);
}

void fill(const Stored& stored, State& state) {
    std::vector<std::byte> host;
    for (const State::Entry& e : state.entries()) {
        if (!is_saved(e.name)) continue;
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

CheckpointInfo load_checkpoint(const fs::path& checkpoint, State& state, Verify verify) {
    Manifest manifest = read_manifest(checkpoint);
    if (verify == Verify::contents) verify_files(checkpoint, manifest);
    const Stored stored = open_shards(checkpoint, manifest);
    check_fits(checkpoint, manifest, stored, state);
    fill(stored, state);
    return std::move(manifest.info);
}

}  // namespace octavo
