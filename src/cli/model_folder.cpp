#include "cli/model_folder.h"

#include <fmt/core.h>

#include "base/error.h"
#include "config/load.h"
#include "train/checkpoint.h"
#include "train/run_folder.h"
#include "train/setup.h"
#include "train/state_rescale.h"

namespace octavo {

ModelFolder find_model(const std::filesystem::path& path) {
    check(std::filesystem::is_directory(path),
          "{}: there is no such folder\n  Expected a run, a checkpoint, or a Hugging Face folder.",
          path.string());
    ModelFolder found{.path = path};
    const RunFolder run{path};
    if (std::filesystem::exists(run.checkpoints())) {
        const auto newest = latest_checkpoint(
            run.checkpoints(), [](const std::string& line) { fmt::print(stderr, "{}\n", line); });
        if (!newest) fail("{}: the run has no checkpoint yet", path.string());
        found.path = *newest;
    }
    if (std::filesystem::exists(found.path / "checkpoint.json")) {
        found.recipe = recipe_of(load_config(found.path / "config.toml", {}));
        found.extra = read_checkpoint_info(found.path).extra;
        if (auto& p = found.recipe->propagation) p->exponents = exponents_in(found.extra);
    }
    return found;
}

}  // namespace octavo
