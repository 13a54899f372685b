// What fused quantisers compute before they quantise, and how the operands of a DelayedQuantise are
// laid out, for whoever makes or reads one.
#pragma once

#include <cstddef>
#include <optional>

#include "graph/rules.h"

namespace octavo {

// The op that computes the values, whose function sees its operand times 2^exponent; nullopt for
// QuantiseSource::value.
std::optional<Op> source_op(QuantiseSource, int exponent = 0);
// The source that stands for this op, whatever its exponent, if there is one.
std::optional<QuantiseSource> quantise_source(const Op&);
// The exponent of an op that is a source.
int source_exponent(const Op&);

// The whole source of a quantiser: with `scaled`, the last operand of that op is multiplied first,
// by factors that follow it as one operand more.
//
// The types of its results; `in` are its operands alone, under the name of the quantiser.
Types source_types(QuantiseSource, const std::optional<ScaleAlong>& scaled, const Operands& in);
Values emit_source(Builder&, QuantiseSource, const std::optional<ScaleAlong>& scaled, Values in);

constexpr std::size_t quantised_results(QuantiseSource of) {
    return of == QuantiseSource::swiglu_grad ? 2 : 1;
}

// The exponent of result `k` of a cast's source.
constexpr int cast_exponent(const Cast& op, std::size_t k) {
    return k == 0 ? op.exponent : op.second_exponent;
}

// Where the history of result `k` stands among `operands` of them; counter and scale follow it.
constexpr std::size_t history_operand(std::size_t operands, std::size_t k) {
    return operands - 3 * (k + 1);
}

}  // namespace octavo
