// The weights of a model, from a folder in the form of Hugging Face.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/state.h"

namespace octavo {

// A parameter that wants its values.
struct WeightTarget {
    std::string name;
    Shape shape;
    Dtype dtype;  // of the values that `write` takes: all of them, in the order of the tensor
    std::function<void(std::span<const std::byte>)> write;
};

// Gives every target what `folder`'s safetensors hold, which may be sharded; a checkpoint of Octavo
// is such a folder. Values are converted to the target's dtype. GPT-2's names may lack their prefix
// "transformer.", and what is no parameter (attention masks, rotary frequencies, a tied head that
// repeats the embedding) is passed over. Any other missing, unknown or misfit tensor is an Error
// that names it, before anything is written.
void load_weights(const std::filesystem::path& folder, std::span<const WeightTarget>);

// Error that names the first value which is infinite or NaN: codes of 8 bits saturate, so that
// nothing would tell later.
void check_finite(const WeightTarget&, std::span<const std::byte> values);

// The master weights of `state` (names without a role) as targets, of finite values.
std::vector<WeightTarget> master_weights(State&);
inline void load_weights(const std::filesystem::path& folder, State& state) {
    load_weights(folder, master_weights(state));
}

}  // namespace octavo
