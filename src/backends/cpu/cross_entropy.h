// Rows of the softmax cross entropy, for the kernels of cross_entropy, its gradient and head_loss.
// T is the type of the logits; statistics and factors are of type compute_t<T>.
#pragma once

#include <limits>

#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {

// log sum exp(k x[i]) = top + log(sum).
template <class C>
struct LogSumExp {
    C top;
    double sum;

    double value() const { return double(top) + std::log(sum); }
};

// One pass over memory: each block is read twice, but the second time from the nearest cache. Sums
// of a block in C, of blocks in double, so that large vocabularies cost no accuracy.
template <class T, class C = compute_t<T>>
LogSumExp<C> log_sum_exp(const T* x, std::int64_t v, C k) {
    constexpr std::int64_t kBlock = 1024;
    // Not -infinity, for which x - top would be NaN in a block of -infinities.
    LogSumExp<C> all{std::numeric_limits<C>::lowest(), 0.0};
    for (std::int64_t begin = 0; begin < v; begin += kBlock) {
        const std::int64_t end = std::min(begin + kBlock, v);
        C top = all.top;
#pragma omp simd reduction(max : top)
        for (std::int64_t j = begin; j < end; ++j) {
            top = k * C(x[j]) > top ? k * C(x[j]) : top;
        }
        C sum = 0;
#pragma omp simd reduction(+ : sum)
        for (std::int64_t j = begin; j < end; ++j) sum += exp(k * C(x[j]) - top);
        all.sum = all.sum * std::exp(double(all.top) - double(top)) + double(sum);
        all.top = top;
    }
    return all;
}

// loss[i] = -log softmax(k logits[i])[targets[i]] and lse[i]; both 0 in rows without a target.
template <class T, class C = compute_t<T>>
void row_losses(const T* logits, const std::int32_t* targets, std::int64_t rows, std::int64_t v,
                C k, C* lse, double* loss) {
    parallel_for(rows, row_grain(v), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            lse[i] = 0;
            loss[i] = 0;
            if (targets[i] < 0) continue;
            const T* x = logits + i * v;
            const LogSumExp<C> s = log_sum_exp(x, v, k);
            lse[i] = C(s.value());
            loss[i] = (double(s.top) - double(k * C(x[targets[i]]))) + std::log(s.sum);
        }
    });
}

// weight * sum of the losses: one order, whatever the number of threads.
template <class C>
C total_loss(const double* loss, std::int64_t rows, C weight) {
    double sum = 0;
    for (std::int64_t i = 0; i < rows; ++i) sum += loss[i];
    return C(double(weight) * sum);
}

// dx = factor * (softmax(k x) - onehot(target)); dx may be x.
template <class T, class C = compute_t<T>>
void row_gradient(const T* x, std::int32_t target, C lse, std::int64_t v, C k, C factor, T* dx) {
    const C at_target = exp(k * C(x[target]) - lse);
#pragma omp simd
    for (std::int64_t j = 0; j < v; ++j) dx[j] = round_to<T>(factor * exp(k * C(x[j]) - lse));
    dx[target] = round_to<T>(factor * (at_target - C(1)));
}

// The same for rows of logits, 0 in rows without a target; dlogits may be logits.
template <class T, class C = compute_t<T>>
void row_gradients(const T* logits, const std::int32_t* targets, const C* lse, std::int64_t rows,
                   std::int64_t v, C k, C factor, T* dlogits) {
    parallel_for(rows, row_grain(v), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            T* dx = dlogits + i * v;
            if (targets[i] < 0) {
                std::fill_n(dx, v, T(0));
            } else {
                row_gradient(logits + i * v, targets[i], lse[i], v, k, factor, dx);
            }
        }
    });
}

}  // namespace octavo::cpu
