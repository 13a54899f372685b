// The scale and the codes of tensors that follow windows of past amaxes, in one pass once the
// windows are filled; and with them, the element-wise op whose results they are, and transposed
// copies.
//     the operands of the source op (`of`; the value itself: x, any float without scales; with
//     `scaled` also the factors of the last one), then for each of its results, the last first:
//     history (W) f32, counter (1) i32, scale (1) f32
//         -> for each result: y in the rule's format under the scale used, history', used (1);
//            with `transpose` also a y^T (N, M) for each, M the rows of y and N its last dimension
//
// Scaled operands and results of the source are rounded to its dtype, as if they had been written.
#include "ops/delayed_quantise.h"

#include "graph/builder.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

std::size_t source_operands(const Operands& in, std::size_t results) {
    check(in.size() > 3 * results, "delayed_quantise: expected more than {} operands, got {}",
          3 * results, in.size());
    return in.size() - 3 * results;
}

Types type(const DelayedQuantise& op, Operands in) {
    const std::size_t results = quantised_results(op.of), n = source_operands(in, results);
    const Types values = source_types(op.of, op.scaled, in.first("delayed_quantise", n));
    Types out, transposed;
    for (std::size_t k = 0; k < results; ++k) {
        const std::size_t history = history_operand(in.size(), k);
        expect_history("delayed_quantise", in, history);
        expect_scalar(in, history + 1, Dtype::i32);
        expect_scalar(in, history + 2, Dtype::f32);
        const Shape& shape = values[k].shape;
        out.push_back(scaled_type("delayed_quantise", op.rule.to, shape));
        out.push_back(in[history]);
        out.push_back(in[history + 2]);
        if (!op.transpose) continue;
        check(shape.rank() >= 2, "delayed_quantise: expected a matrix to transpose, got {}",
              to_string(values[k]));
        transposed.push_back({op.rule.to, {shape.last(), shape.rows()}, kPerTensor});
    }
    out.insert(out.end(), transposed.begin(), transposed.end());
    return out;
}

Values decompose(Builder& b, const DelayedQuantise& op, const Values& in) {
    const std::size_t results = quantised_results(op.of);
    const Values values = emit_source(
        b, op.of, op.scaled, {in.begin(), in.end() - static_cast<std::ptrdiff_t>(3 * results)});
    Values out, transposed;
    for (std::size_t k = 0; k < results; ++k) {
        const std::size_t history = history_operand(in.size(), k);
        const Value amax = b.one(Amax{}, {values[k]});
        const Values delayed =
            b.emit(DelayedScale{op.rule}, {amax, in[history], in[history + 1], in[history + 2]});
        const Value y = b.one(Quantise{op.rule.to}, {values[k], delayed[0]});
        out.insert(out.end(), {y, delayed[1], delayed[0]});
        if (op.transpose) transposed.push_back(b.one(Transpose{}, {y}));
    }
    out.insert(out.end(), transposed.begin(), transposed.end());
    return out;
}

// Histories only: history_operand(n, 0) and (n, 1).
constexpr RulesFor<DelayedQuantise> kDelayedQuantise{
    .type = type, .decompose = decompose, .in_place = {{{1, -3}, {4, -6}}}};

}  // namespace

std::optional<Op> source_op(QuantiseSource of, int exponent) {
    switch (of) {
        case QuantiseSource::value:
            return std::nullopt;
        case QuantiseSource::swiglu:
            return SwiGlu{exponent};
        case QuantiseSource::joined_swiglu:
            return SwiGlu{exponent, /*joined=*/true};
        case QuantiseSource::gelu:
            return Gelu{exponent};
        case QuantiseSource::gelu_grad:
            return GeluGrad{exponent};
        case QuantiseSource::swiglu_grad:
            return SwiGluGrad{exponent};
        case QuantiseSource::normalise:
            return Normalise{};
    }
    return std::nullopt;
}

std::optional<QuantiseSource> quantise_source(const Op& op) {
    if (const auto* swiglu = std::get_if<SwiGlu>(&op)) {
        return swiglu->joined ? QuantiseSource::joined_swiglu : QuantiseSource::swiglu;
    }
    for (const auto of : {QuantiseSource::gelu, QuantiseSource::gelu_grad,
                          QuantiseSource::swiglu_grad, QuantiseSource::normalise}) {
        if (source_op(of)->index() == op.index()) return of;
    }
    return std::nullopt;
}

int source_exponent(const Op& op) {
    return std::visit(
        [](const auto& source) {
            int exponent = 0;
            if constexpr (requires { exponent = source.exponent; }) exponent = source.exponent;
            return exponent;
        },
        op);
}

Types source_types(QuantiseSource of, const std::optional<ScaleAlong>& scaled, const Operands& in) {
    Types operands;
    for (std::size_t i = 0; i < in.size(); ++i) operands.push_back(in[i]);
    if (scaled) {
        check(in.size() >= 2, "scaled source: expected an operand and its factors, got {} operands",
              in.size());
        const auto pair = std::span(operands).last(2);
        pair[0] = rules_of(*scaled).type(*scaled, Operands("scale_along", pair))[0];
        operands.pop_back();
    }
    if (const std::optional<Op> source = source_op(of)) {
        return rules_of(*source).type(*source, Operands(op_name(*source), operands));
    }
    in.expect_count(scaled ? 2 : 1);
    in.expect_float(0);
    return operands;
}

Values emit_source(Builder& b, QuantiseSource of, const std::optional<ScaleAlong>& scaled,
                   Values in) {
    if (scaled) {
        const Value factors = in.back();
        in.pop_back();
        in.back() = b.one(*scaled, {in.back(), factors});
    }
    const std::optional<Op> source = source_op(of);
    return source ? b.emit(*source, in) : in;
}

const Rules& rules(const DelayedQuantise&) { return kRules<kDelayedQuantise>; }

}  // namespace octavo
