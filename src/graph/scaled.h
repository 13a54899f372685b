// Scale propagation (Scalify, arXiv 2407.17353): every value is data x scale, with a scale that is
// a power of two and follows from the scales of the operands alone. How each op does it is the
// `scale` of its Rules.
#pragma once

#include <vector>

#include "graph/builder.h"

namespace octavo {

// A scale: 2^offset, times `base` where that is a value of the graph, (1) f32, a power of two.
// Offsets are known beforehand; bases are born where a scale depends on numbers of the step.
struct Exponent {
    int offset = 0;
    Value base{};
    bool any = false;  // of zeros, which every scale suits

    bool operator==(const Exponent&) const = default;
};

// value = data * scale. Values of about 2^size: where it differs from the scale, the data is still
// to be brought to it, which is left to the next op that multiplies anyway.
struct Scaled {
    Value data;
    Exponent scale{};
    Exponent size = scale;
};
using ScaledValues = std::vector<Scaled>;

struct ScaleOptions {
    bool exact_eps = true;  // the eps of norms is added to values, else to data (paper, C.2)
    bool rebalance_attention = true;
    bool nan_casts = false;  // what casts to 8 bits would saturate becomes NaN
};

class ScaleBuilder {
  public:
    ScaleBuilder(Builder& builder, const ScaleOptions& o) : b(builder), options(o) {}

    // Data at its size, where that is known beforehand.
    Scaled settled(const Scaled&);
    // The scale as (1) f32.
    Value scale_value(const Exponent&);
    // The values themselves.
    Value value(const Scaled&);
    // The offset of a scale known beforehand; Error for others, naming the op.
    int offset(const Scaled&, std::string_view op) const;

    Builder& b;
    ScaleOptions options;
};

// The scale of a product of values.
Exponent product(ScaleBuilder&, const Exponent&, const Exponent&);
Exponent shifted(Exponent, int by);

// `op` of data, with NaN for what it would have to saturate in 8 bits if that is asked for.
Value cast_data(Builder&, const Cast& op, Value data, bool nan_casts);

// Results of an op that moves elements, or is linear in operand 0 alone: under its scale.
ScaledValues like_first(ScaleBuilder&, const Op&, const ScaledValues& in);

// The floor of log2 |v|; v is not zero.
int floor_log2(double v);
// 2^h is the largest power of two up to sqrt(n): what the sum of n independent products grows by.
int sum_exponent(std::int64_t n);
// 2^j is the largest power of two up to sqrt(V - 1) / V: how large softmax - onehot is when all of
// V classes are as likely.
int softmax_gradient_exponent(std::int64_t v);
// 2^k is the largest power of two up to (ln T / T)^(1/4): between what causal attention over T
// independent values makes of their size if it is uniform, and 1.
int attention_exponent(std::int64_t t);

}  // namespace octavo
