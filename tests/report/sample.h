// Made-up runs, and a folder that goes away with its test.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "report/run.h"

namespace octavo {

class TempFolder {
  public:
    TempFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "octavo-XXXXXX").string();
        path_ = mkdtemp(name.data());
    }
    ~TempFolder() { std::filesystem::remove_all(path_); }
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

inline StepMetrics sample_step(std::int64_t step) {
    StepMetrics metrics;
    metrics.step = step;
    metrics.time_s = 1.76e9 + 0.5 * double(step);
    metrics.tokens = 2048 * step;
    metrics.loss = 1.5 + 4 * std::exp(-0.02 * double(step)) + 0.05 * std::sin(double(step) * 12.9);
    metrics.grad_norm = 0.4 + 3 * std::exp(-0.05 * double(step));
    metrics.lr = 3e-4;
    metrics.tokens_per_s = step == 1 ? 100 : 12000 + double(step % 7);
    metrics.share_of_peak = 0.453;
    metrics.memory_gb = 1.24;
    if (step % 50 == 0) metrics.held_out_loss = metrics.loss + 0.05;
    return metrics;
}

// Of a model of this many layers.
inline CastStep sample_casts(std::int64_t step, int layers = 2) {
    CastStep casts{.step = step, .tensors = {}};
    for (int layer = 0; layer < layers; ++layer) {
        for (const char* kind :
             {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
              "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
            for (const char* role : {"x", "x_t", "dy", "dy_t", "weight"}) {
                // As noisy as a run, and something of everything.
                const auto n = static_cast<float>((step * 37 + layer * 11 + role[0]) % 101);
                const float scale = std::exp2(std::floor(n / 20 - 9));
                casts.tensors.push_back(
                    {"model.layers." + std::to_string(layer) + "." + kind + "." + role,
                     {400 * scale, scale / 2, scale, n > 80 ? n * 1e-5f : 0, n * 1e-6f,
                      0.02f + n * 1e-4f}});
            }
        }
    }
    return casts;
}

inline RunData sample_run(const std::string& name, std::int64_t steps, double factor = 1) {
    RunData run;
    run.info = {.name = name,
                .recipe = name,
                .model = "llama",
                .parameters = 6812672,
                .state_bytes = 109002752};
    for (std::int64_t step = 1; step <= steps; ++step) {
        run.steps.push_back(sample_step(step));
        run.steps.back().loss *= factor;
        if (auto& held_out = run.steps.back().held_out_loss) *held_out *= factor;
    }
    return run;
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
}

// What the action throws, as the user sees it.
template <class Action>
std::string error_of(Action action) {
    try {
        action();
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

}  // namespace octavo
