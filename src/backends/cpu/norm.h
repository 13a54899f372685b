// Rows of norms once their statistics are known, for the norms themselves and for Normalise, whose
// bits are theirs.
#pragma once

#include "backends/cpu/math.h"
#include "backends/kernels.h"

namespace octavo::cpu {

// y = x * rstd * w
template <class T, class C = compute_t<T>>
void rms_row(const T* x, C rstd, const C* w, T* y, std::int64_t columns) {
#pragma omp simd
    for (std::int64_t i = 0; i < columns; ++i) y[i] = round_to<T>(C(x[i]) * rstd * w[i]);
}

// y = (x - mean) * rstd * w + b
template <class T, class C = compute_t<T>>
void layer_row(const T* x, C mean, C rstd, const C* w, const C* b, T* y, std::int64_t columns) {
#pragma omp simd
    for (std::int64_t i = 0; i < columns; ++i) {
        y[i] = round_to<T>((C(x[i]) - mean) * rstd * w[i] + b[i]);
    }
}

}  // namespace octavo::cpu
