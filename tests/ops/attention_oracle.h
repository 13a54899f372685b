// Cases of attention and its gradient, and both in f64 by their definition.
#pragma once

#include "ops/kernel_test.h"

namespace octavo::test {

struct AttentionCase {
    std::int64_t b, t, h, g, d;
    Dtype dtype = Dtype::f32;
    double sigma = 1;           // of q and k
    std::int64_t document = 0;  // tokens of a document, and starts as the fourth operand

    float scale() const { return 1.0f / std::sqrt(static_cast<float>(d)); }
    Attention op() const { return {scale()}; }
    // Where the document of a query begins. They have document, 1, document, 1, ... tokens, in odd
    // rows of the batch with one more in front.
    std::int64_t start(std::int64_t batch, std::int64_t query) const {
        const std::int64_t place = query - batch % 2;
        if (document == 0 || place < 0) return 0;
        const std::int64_t within = place % (document + 1);
        return query - (within < document ? within : 0);
    }
};

inline void PrintTo(const AttentionCase& c, std::ostream* os) {
    *os << "B" << c.b << " T" << c.t << " H" << c.h << " G" << c.g << " D" << c.d << " "
        << name(c.dtype);
    if (c.document) *os << " documents of " << c.document;
}

inline std::vector<HostTensor> attention_operands(const AttentionCase& c) {
    const Shape q{c.b, c.t, c.h, c.d}, k{c.b, c.t, c.g, c.d};
    std::vector<HostTensor> in{random_tensor(c.dtype, q, 1, c.sigma),
                               random_tensor(c.dtype, k, 2, c.sigma), random_tensor(c.dtype, k, 3)};
    if (c.document) {
        std::vector<double> starts;
        for (std::int64_t i = 0; i < c.b * c.t; ++i) {
            starts.push_back(static_cast<double>(c.start(i / c.t, i % c.t)));
        }
        in.push_back(tensor(Dtype::i32, {c.b, c.t}, starts));
    }
    return in;
}

// Scores round relative to |q| |k| scale, about sqrt(D) here, and probabilities by as much; sums
// over D and T terms add their own.
inline double tolerance(const AttentionCase& c) {
    return rounding(c.dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32) *
           (16.0 + 4 * static_cast<double>(c.d + c.t));
}

// Whether a GPU has cuDNN's kernel for it beside the own one.
inline bool cudnn_takes(const AttentionCase& c) {
    const bool half = c.dtype == Dtype::bf16 || c.dtype == Dtype::f16;
    return half && c.b > 0 && c.d % 8 == 0 && (c.document == 0 || c.t % 8 == 0);
}

struct AttentionOracle {
    std::vector<double> o, lse, p;  // p (B, H, T, T)
};

inline AttentionOracle attention_oracle(const AttentionCase& c, const std::vector<HostTensor>& in) {
    AttentionOracle r;
    r.o.resize(in[0].values.size());
    r.p.resize(static_cast<std::size_t>(c.b * c.h * c.t * c.t));
    for (std::int64_t b = 0; b < c.b; ++b) {
        for (std::int64_t h = 0; h < c.h; ++h) {
            for (std::int64_t t = 0; t < c.t; ++t) {
                const std::int64_t q = ((b * c.t + t) * c.h + h) * c.d;
                double* p = r.p.data() + ((b * c.h + h) * c.t + t) * c.t;
                const auto key = [&](std::int64_t s) {
                    return ((b * c.t + s) * c.g + h / (c.h / c.g)) * c.d;
                };
                double sum = 0, top = -std::numeric_limits<double>::infinity();
                for (std::int64_t s = c.start(b, t); s <= t; ++s) {
                    for (std::int64_t i = 0; i < c.d; ++i) {
                        p[s] += in[0].values[q + i] * in[1].values[key(s) + i] * c.scale();
                    }
                    top = std::max(top, p[s]);
                }
                for (std::int64_t s = c.start(b, t); s <= t; ++s) {
                    p[s] = std::exp(p[s] - top);
                    sum += p[s];
                }
                for (std::int64_t s = c.start(b, t); s <= t; ++s) {
                    p[s] /= sum;
                    for (std::int64_t i = 0; i < c.d; ++i) {
                        r.o[q + i] += p[s] * in[2].values[key(s) + i];
                    }
                }
                r.lse.push_back(top + std::log(sum));
            }
        }
    }
    return r;
}

}  // namespace octavo::test
