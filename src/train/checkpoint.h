// Checkpoints: State written out.
//
//     checkpoints/latest                               name of the newest, for people and scripts
//     checkpoints/step_0001000/
//         model-00001-of-0000K.safetensors             master weights, with their index file
//         model.safetensors.index.json                   and config.json a Hugging Face folder
//         state-00001-of-0000K.safetensors             everything else that is_saved, and the codes
//                                                        of master weights under a scale
//         config.json, config.toml, ...                texts of the caller
//         checkpoint.json                              manifest, written last
//
// Tensors have their State name. A scaled tensor has its codes there, its scales in `name.scale`
// and, under micro scaling, its exponents in `name.groups`; the file's metadata holds its type. Of
// a master weight under a scale the model's files hold the values, in f32, and the others the codes
// as `master/<name>`.
//
// A checkpoint is written into `step_0001000.tmp-<pid>`, synced, and renamed once the manifest,
// which lists every file with size and xxh64, is on the disk. Whatever kills the process leaves the
// checkpoints that were complete; a folder without a valid manifest counts as none.
//
// One process at a time may use a folder of checkpoints (see RunLock).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "runtime/state.h"

namespace octavo {

// All that a run must know besides State.
struct CheckpointInfo {
    std::int64_t step = 0;
    std::int64_t tokens = 0;  // seen in training
    std::int64_t cursor = 0;  // samples taken from the data
    std::string recipe;
    std::string octavo;                        // version of the program
    std::map<std::string, std::string> extra;  // windows of the schedule, ...

    bool operator==(const CheckpointInfo&) const = default;
};

using Log = std::function<void(const std::string&)>;

// Writes `folder`/step_<step> and returns its path. `texts`: file name -> contents, to lie beside
// the tensors. Host memory: one copy of the largest tensor. An existing checkpoint of that step
// goes when the new one is complete. On Error (full disk, ...) nothing new is left behind and what
// was there is untouched.
std::filesystem::path save_checkpoint(const std::filesystem::path& folder, const State&,
                                      const CheckpointInfo&,
                                      const std::map<std::string, std::string>& texts,
                                      std::int64_t shard_bytes = kShardBytes);

// To be called when a run starts: removes what killed processes left half-written, or finishes what
// only lacked its final name. `log` says so.
void clean_checkpoints(const std::filesystem::path& folder, const Log& log);

// The complete checkpoint with the highest step, if any. Sizes are checked, contents are not.
// Folders that are no valid checkpoint are passed over, with a message.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& folder,
                                                       const Log& log);

// Removes, oldest first, all complete checkpoints but the newest `keep_last` (>= 1) and those whose
// step is a multiple of `keep_every` (0: none).
void prune_checkpoints(const std::filesystem::path& folder, std::int64_t keep_last,
                       std::int64_t keep_every);

// Throws Error if the manifest is missing or damaged, or files are missing or of another size.
CheckpointInfo read_checkpoint_info(const std::filesystem::path& checkpoint);

// Reads all of every file: an Error names the first that is damaged.
void verify_checkpoint(const std::filesystem::path& checkpoint);

enum class Verify { contents, sizes };

// Fills all saved tensors of `state`. Throws Error, and leaves `state` as it was, if the files are
// damaged or if tensors are missing, unknown, or of another type: nothing is converted or skipped,
// but for the factors that smooth.export_window keeps, which a run may begin or cease to keep.
//
// With `converted`, master weights and moments in other formats are: from their values, rounded to
// nearest. Working copies and the bounds of their scales may be missing, unknown or of another type
// then. Each such difference is named in *converted; if there is any, they have to be made anew
// from the masters.
CheckpointInfo load_checkpoint(const std::filesystem::path& checkpoint, State& state,
                               Verify verify = Verify::contents,
                               std::vector<std::string>* converted = nullptr);

}  // namespace octavo
