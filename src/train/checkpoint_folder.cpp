#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "train/checkpoint_format.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step_", kTemporary = ".tmp-";

// Subfolders `step_*`, sorted by name.
std::vector<fs::path> step_folders(const fs::path& folder, bool temporary) {
    std::vector<fs::path> found;
    if (!fs::exists(folder)) return found;
    for (const fs::directory_entry& e : fs::directory_iterator(folder)) {
        const std::string name = e.path().filename().string();
        if (!e.is_directory() || !name.starts_with(kPrefix)) continue;
        if ((name.find(kTemporary) != name.npos) == temporary) found.push_back(e.path());
    }
    std::ranges::sort(found);
    return found;
}

struct Complete {
    std::int64_t step;
    fs::path path;
};

// Ascending by step.
std::vector<Complete> complete_checkpoints(const fs::path& folder, const Log& log) {
    std::vector<Complete> found;
    for (const fs::path& path : step_folders(folder, false)) {
        try {
            const std::int64_t step = read_manifest(path).info.step;
            check(path.filename() == checkpoint_name(step), "{}: its manifest is of step {}",
                  path.string(), step);
            found.push_back({step, path});
        } catch (const Error& e) {
            if (log) log(fmt::format("{} is no checkpoint: {}", path.string(), e.message()));
        }
    }
    std::ranges::sort(found, {}, &Complete::step);
    return found;
}

bool is_complete(const fs::path& checkpoint) {
    try {
        read_manifest(checkpoint);
        return true;
    } catch (const Error&) {
        return false;
    }
}

// std::filesystem's errors as ours.
template <class Action>
void on_files(Action&& action) {
    try {
        action();
    } catch (const fs::filesystem_error& e) {
        fail("{}: {}", e.path1().string(), e.code().message());
    }
}

}  // namespace

void clean_checkpoints(const fs::path& folder, const Log& log) {
    // In order of name, so that "step_5.tmp-7" is seen before the "step_5.tmp-7-old" it replaces.
    on_files([&] {
        for (const fs::path& path : step_folders(folder, true)) {
            const std::string name = path.filename().string();
            const fs::path final = folder / name.substr(0, name.find(kTemporary));
            if (!fs::exists(final) && is_complete(path)) {
                fs::rename(path, final);
                sync_directory(folder);
                log(fmt::format("{} was complete and is now {}", name, final.string()));
            } else {
                fs::remove_all(path);
                log(fmt::format("removed {}, left by an interrupted run", path.string()));
            }
        }
    });
}

std::optional<fs::path> latest_checkpoint(const fs::path& folder, const Log& log) {
    std::optional<fs::path> latest;
    on_files([&] {
        if (const auto all = complete_checkpoints(folder, log); !all.empty()) {
            latest = all.back().path;
        }
    });
    return latest;
}

void prune_checkpoints(const fs::path& folder, std::int64_t keep_last, std::int64_t keep_every) {
    check(keep_last >= 1, "checkpoints: expected to keep at least 1, got {}", keep_last);
    on_files([&] {
        auto all = complete_checkpoints(folder, {});
        all.resize(all.size() - std::min(all.size(), static_cast<std::size_t>(keep_last)));
        for (const Complete& c : all) {
            if (keep_every > 0 && c.step % keep_every == 0) continue;
            // Under a temporary name, so that clean_checkpoints finishes what a kill interrupts.
            const fs::path gone = fmt::format("{}{}{}", c.path.string(), kTemporary, getpid());
            fs::rename(c.path, gone);
            fs::remove_all(gone);
        }
    });
}

}  // namespace octavo
