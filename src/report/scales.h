// scales.jsonl: what 8 bits did to the tensors of a run, one JSON object a line, one line for each
// step that measured.
//
//     {"step":100,"tensors":{"model.layers.0.mlp.up_proj.x":[3.5,0.0078125,0.0078125,0,0.0012,0.026],
//      ...}}
//
// Tensors stand in the order of the model; recipes/recipe.h names them (measure_casts). Their
// numbers are those of CastStats (base/cast_stats.h), in its order: amax, smallest and largest
// scale, saturated, flushed, error; null is not a finite number. More may follow.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/cast_stats.h"
#include "report/step_log.h"

namespace octavo {

struct TensorCast {
    std::string tensor;
    CastStats stats;
};

struct CastStep {
    std::int64_t step = 0;
    std::vector<TensorCast> tensors;
};

// Of numbers of which the largest counts, a NaN above all.
inline bool is_worse(double x, double than) { return !std::isnan(than) && !(x <= than); }

// For metrics.jsonl: quant.saturated_max, quant.flushed_max and quant.error_max of a measured step,
// the largest over its tensors; nothing for one that was not measured.
std::vector<std::pair<std::string, double>> worst_of(const CastStep&);

// One line without its line break.
std::string scales_line(const CastStep&);

// In strictly rising order of `step`.
using ScalesFile = ParsedSteps<CastStep>;

// As parse_metrics treats torn and bad lines.
ScalesFile parse_scales(std::string_view text, const std::string& where);
ScalesFile read_scales(const std::filesystem::path& path);

// StepLog says how it opens.
class ScalesLog {
  public:
    static ScalesLog open(const std::filesystem::path& path, std::int64_t resume_step);

    void append(const CastStep& step) { log_.append(step.step, scales_line(step)); }

  private:
    explicit ScalesLog(StepLog log) : log_(std::move(log)) {}

    StepLog log_;
};

// "model.layers.3.mlp.up_proj.x" in parts. Outside the layers `layer` is -1.
struct TensorName {
    std::string kind;  // "mlp.up_proj"
    std::string role;  // "x", "x_t", "dy", "dy_t", "weight" or "grad"
    int layer = -1;
};
TensorName split_tensor_name(std::string_view tensor);
// Of a tensor or a place in the model, "model.layers.3.mlp": the first part that is a number, or
// -1.
int layer_number(std::string_view name);

}  // namespace octavo
