// Scales of keys and values from a trainer (KvCalibration::given), as NeMo-RL calibrates them after
// each update (NeMo-RL#1212; arXiv 2601.18150): from the largest |q|, |k| or |v| of a layer in each
// micro-batch of each rank.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace octavo {

// Which of `count` sorted maxima stands for a rank: that at 0.999 (count - 1), rounded to even,
// which is the largest of up to 501.
std::int64_t calibration_index(std::int64_t count);

// Of a rank's maxima, in any order; there must be one. Error for one that is not finite.
float calibration_amax(std::vector<float> maxima);

// Over all ranks: 1.05 max / 448, in f64, then f32; 1 if nothing was seen but zeros.
float calibrated_scale(std::span<const float> amaxes);

}  // namespace octavo
