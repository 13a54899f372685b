#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/safetensors.h"
#include "train/checkpoint_format.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

struct Tensor {
    const State::Entry* entry;
    Part part;
};
using Shard = std::vector<Tensor>;

// What the model's files hold of a tensor, or the others.
std::vector<Part> parts_in(const State::Entry& e, bool model) {
    if (!is_saved(e.name)) return {};
    const bool weight = state_role(e.name) == "weight";
    if (model) return weight ? model_parts(e) : std::vector<Part>{};
    return weight && !has_values(e) ? std::vector<Part>{} : parts_of(e);
}

// The model's files, or the others. The parts of a tensor stay together.
std::vector<Shard> make_shards(const State& state, bool model, std::int64_t shard_bytes) {
    std::vector<Shard> shards;
    std::int64_t filled = 0;
    for (const State::Entry& e : state.entries()) {
        std::vector<Part> parts = parts_in(e, model);
        if (parts.empty()) continue;
        std::int64_t bytes = 0;
        for (const Part& part : parts) bytes += data_bytes(part.type);
        if (shards.empty() || filled + bytes > shard_bytes) {
            shards.emplace_back();
            filled = 0;
        }
        filled += bytes;
        for (Part& part : parts) shards.back().push_back({&e, std::move(part)});
    }
    // Wide elements first: every tensor is then aligned to its element size.
    for (Shard& shard : shards) {
        std::ranges::stable_sort(shard, std::greater{},
                                 [](const Tensor& t) { return size_of(t.part.type.dtype); });
    }
    return shards;
}

std::string header_of(const Shard& shard, const std::string& file) {
    SafetensorsMetadata metadata;
    std::vector<TensorInfo> tensors;
    for (const auto& [entry, part] : shard) {
        tensors.push_back({part.name, part.type.dtype, part.type.shape, {}});
        const bool scaled = entry->type.scaling != kUnscaled && part.kind != Part::values;
        if (scaled) metadata[saved_name(*entry)] = to_string(entry->type);
    }
    return safetensors_header(tensors, std::move(metadata), file);
}

class Saver {
  public:
    Saver(const fs::path& folder, const State& state) : folder_(folder), state_(state) {}

    // Returns tensor -> file.
    std::map<std::string, std::string> write_shards(const char* stem,
                                                    std::span<const Shard> shards) {
        std::map<std::string, std::string> file_of;
        for (std::size_t i = 0; i < shards.size(); ++i) {
            const std::string name =
                fmt::format("{}-{:05}-of-{:05}.safetensors", stem, i + 1, shards.size());
            SummedFile file(folder_ / name);
            file.write(header_of(shards[i], name));
            for (const auto& [entry, part] : shards[i]) {
                file.write(read(*entry, part));
                file_of[part.name] = name;
            }
            sums_[name] = file.close();
        }
        return file_of;
    }

    void write_text(const std::string& name, std::string_view text) {
        SummedFile file(folder_ / name);
        file.write(text);
        sums_[name] = file.close();
    }

    void write_manifest(const CheckpointInfo& info) {
        FileWriter file(folder_ / kManifestName);
        file.write(to_text({info, sums_}));
        file.close();
        sync_directory(folder_);
    }

  private:
    std::span<const std::byte> read(const State::Entry& e, const Part& part) {
        fetch(e);
        const TensorRef tensor = tensor_at(e.type, host_.data());
        const auto bytes = static_cast<std::size_t>(data_bytes(part.type));
        const auto* const data = part.kind == Part::values
                                     ? reinterpret_cast<const std::byte*>(decoded(tensor))
                                     : part_data(tensor, part.kind);
        return {data + static_cast<std::size_t>(part.matrix) * bytes, bytes};
    }

    // All of a tensor to host_, once for its parts, which follow each other.
    void fetch(const State::Entry& e) {
        if (fetched_ == &e) return;
        fetched_ = &e;
        values_.clear();
        host_.resize(static_cast<std::size_t>(total_bytes(e.type)));
        if (e.type.scaling == kUnscaled) {
            state_.read(e.name, host_.data());
        } else {
            state_.read_all_parts(e.name, host_.data());
        }
    }

    const float* decoded(const TensorRef& t) {
        if (values_.empty()) values_ = values_of(t.type, t.data, t.scales());
        return values_.data();
    }

    const fs::path& folder_;
    const State& state_;
    const State::Entry* fetched_ = nullptr;  // what is in host_
    std::vector<std::byte> host_;
    std::vector<float> values_;
    std::map<std::string, FileSum> sums_;
};

std::string index_of(const State& state, const std::map<std::string, std::string>& file_of) {
    std::int64_t bytes = 0;
    for (const State::Entry& e : state.entries()) {
        for (const Part& part : parts_in(e, /*model=*/true)) bytes += data_bytes(part.type);
    }
    return nlohmann::json{{"metadata", {{"total_size", bytes}}}, {"weight_map", file_of}}.dump(1) +
           "\n";
}

void write_all(const fs::path& folder, const State& state, const CheckpointInfo& info,
               const std::map<std::string, std::string>& texts, std::int64_t shard_bytes) {
    Saver saver(folder, state);
    if (const auto weights = make_shards(state, true, shard_bytes); !weights.empty()) {
        const auto file_of = saver.write_shards("model", weights);
        saver.write_text("model.safetensors.index.json", index_of(state, file_of));
    }
    saver.write_shards("state", make_shards(state, false, shard_bytes));
    for (const auto& [name, text] : texts) saver.write_text(name, text);
    saver.write_manifest(info);
}

// A folder cannot be renamed over another. One that is in the way steps aside, under a name that
// clean_checkpoints undoes, and goes when its successor is safely there.
void put_in_place(const fs::path& from, const fs::path& to) {
    const fs::path aside = from.string() + "-old";
    const bool replaces = fs::exists(to);
    if (replaces) fs::rename(to, aside);
    try {
        fs::rename(from, to);
        sync_directory(to.parent_path());
    } catch (...) {
        std::error_code ignored;
        if (replaces) fs::rename(aside, to, ignored);
        throw;
    }
    if (replaces) fs::remove_all(aside);
}

}  // namespace

fs::path save_checkpoint(const fs::path& folder, const State& state, const CheckpointInfo& info,
                         const std::map<std::string, std::string>& texts,
                         std::int64_t shard_bytes) {
    check(info.step >= 0, "checkpoint: expected a step of 0 or more, got {}", info.step);
    const fs::path final = folder / checkpoint_name(info.step);
    const fs::path beside = fmt::format("{}.tmp-{}", final.string(), getpid());
    const auto not_saved = [&](const std::string& why, const std::string& hint) {
        std::error_code ignored;
        fs::remove_all(beside, ignored);  // a full disk needs the space
        return Error(fmt::format("the checkpoint of step {} was not saved (earlier ones are "
                                 "untouched): {}",
                                 info.step, why),
                     hint);
    };
    try {
        fs::remove_all(beside);
        fs::create_directories(beside);
        write_all(beside, state, info, texts, shard_bytes);
        put_in_place(beside, final);
    } catch (const DeviceFault& e) {
        throw DeviceFault(not_saved(e.message(), e.hint()));
    } catch (const Error& e) {
        throw not_saved(e.message(), e.hint());
    } catch (const fs::filesystem_error& e) {
        throw not_saved(fmt::format("{}: {}", e.path1().string(), e.code().message()), "");
    }
    write_file_atomically(folder / "latest", final.filename().string() + "\n");
    return final;
}

}  // namespace octavo
