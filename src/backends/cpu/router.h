// What the kernels of routers do for one token.
#pragma once

#include <cmath>
#include <cstdint>

#include "backends/cpu/math.h"
#include "backends/router.h"

namespace octavo::cpu {

// Some of a token's logits, by which its probabilities are normalised: all, or those it chose.
template <class C>
struct Logits {
    const C* row;
    std::int64_t count;
    const std::int32_t* ids = nullptr;  // null: the first `count`

    C operator[](std::int64_t i) const { return row[ids ? ids[i] : i]; }
};

// Their softmax: e^(logit - top) / sum.
template <class C>
struct Softmax {
    C top, sum = 0;

    explicit Softmax(const Logits<C>& logits) : top(logits[0]) {
        for (std::int64_t i = 1; i < logits.count; ++i) {
            const C x = logits[i];
            top = x > top || x != x ? x : top;
        }
        for (std::int64_t i = 0; i < logits.count; ++i) sum += exp(logits[i] - top);
    }

    C operator()(C logit) const { return exp(logit - top) / sum; }
    C logsumexp() const { return top + std::log(sum); }
};

}  // namespace octavo::cpu
