// Shared by the type rules of the ops that make and use per-tensor scales.
#pragma once

#include "graph/rules.h"

namespace octavo {

// A tensor of codes of format `to` under one f32 scale; Error if the format takes no scale.
inline Type scaled_type(std::string_view op, Dtype to, const Shape& shape) {
    check(is_fp8(to) || to == Dtype::f16,
          "{}: expected a format that takes a scale (e4m3, e5m2 or f16), got {}", op, name(to));
    return {to, shape, kPerTensor};
}

// Operand `i` holds codes under one f32 scale.
inline void expect_scaled(std::string_view op, const Operands& in, std::size_t i) {
    check(in[i].scaling == kPerTensor,
          "{}: operand {} must have one f32 scale for the whole tensor, got {}", op, i,
          to_string(in[i]));
}

// Operand `i` holds floats: plain, or codes under one f32 scale.
inline void expect_float_or_scaled(const Operands& in, std::size_t i) {
    if (in[i].scaling != kPerTensor) in.expect_float(i);
}

// Operand `i` holds floats without a scale of their own, also in 8 bits.
inline void expect_code(const Operands& in, std::size_t i) {
    if (is_fp8(in[i].dtype) && in[i].scaling == kUnscaled) return;
    in.expect_float(i);
}

// Operand `i` is one number: a scale, an amax, a counter, a loss.
inline void expect_scalar(const Operands& in, std::size_t i, Dtype dtype) {
    in.expect_dtype(i, dtype);
    in.expect_shape(i, {1});
}

// Operand `i` is a history: f32, slot 0 belongs to the running step.
inline void expect_history(std::string_view op, const Operands& in, std::size_t i) {
    in.expect_dtype(i, Dtype::f32);
    in.expect_rank(i, 1);
    check(in[i].shape[0] >= 1, "{}: the history must have at least one slot, got {}", op,
          to_string(in[i]));
}

}  // namespace octavo
