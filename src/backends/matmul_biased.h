// Products with a bias for where no kernel adds it by itself: in f32 first (f64 if anything is),
// then bias and rounding.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "backends/kernels.h"
#include "graph/rules.h"

namespace octavo {

inline Refusal reject_biased(const NodeView& node) {
    if (std::get<Matmul>(node.op).bias) return std::nullopt;
    return "there is no bias";
}

// The kernel for products without one.
template <Refusal (*reject)(const NodeView&)>
Refusal unbiased(const NodeView& node) {
    if (std::get<Matmul>(node.op).bias) return "it adds no bias";
    return reject(node);
}

inline Prepared prepare_matmul_biased(const KernelRegistry& registry, const NodeView& node) {
    const Type& c = node.out[0];
    const auto is_f64 = [](const Type& t) { return t.dtype == Dtype::f64; };
    const bool f64 = c.dtype == Dtype::f64 || std::ranges::any_of(node.in, is_f64);
    const Dtype wide = f64 ? Dtype::f64 : Dtype::f32;
    const bool narrow = c.dtype != wide;
    Matmul op = std::get<Matmul>(node.op);
    op.bias = false;
    op.out = wide;
    const Type sum{wide, c.shape}, bias = {wide, node.in[2].shape};
    const Prepared product = prepare_matmul(registry, op, node.in[0], node.in[1]);
    const Type terms[] = {sum, bias};
    const Prepared add = prepare_op(registry, BiasAdd{}, terms);

    ScratchCounter scratch;
    std::int64_t sum_at = 0, bias_at = 0;
    std::optional<Prepared> widen_acc, widen_bias, round;
    if (narrow) {
        sum_at = scratch.reserve(total_bytes(sum));
        bias_at = scratch.reserve(total_bytes(bias));
        if (op.accumulate) widen_acc = prepare_op(registry, Cast{wide}, {&c, 1});
        widen_bias = prepare_op(registry, Cast{wide}, {&node.in[2], 1});
        round = prepare_op(registry, Cast{c.dtype}, {&sum, 1});
    }
    std::int64_t most = std::max(product.scratch_bytes, add.scratch_bytes);
    for (const auto* cast : {&widen_acc, &widen_bias, &round}) {
        if (*cast) most = std::max(most, (*cast)->scratch_bytes);
    }
    const std::int64_t rest = scratch.reserve(most);

    const auto run = [=](const KernelCall& call) {
        std::byte* const pad = call.scratch + rest;
        const auto step = [&](const Prepared& prepared, const std::vector<TensorRef>& in,
                              const TensorRef& out) { prepared.run({in, {&out, 1}, pad}); };
        TensorRef y = call.out[0], b = call.in[2], acc = call.in.back();
        if (narrow) {
            y = tensor_at(sum, call.scratch + sum_at);
            b = tensor_at(bias, call.scratch + bias_at);
            step(*widen_bias, {call.in[2]}, b);
            if (widen_acc) step(*widen_acc, {call.in.back()}, y);
            acc = y;
        }
        std::vector<TensorRef> factors{call.in[0], call.in[1]};
        if (op.accumulate) factors.push_back(acc);
        step(product, factors, y);
        step(add, {y, b}, y);
        if (narrow) step(*round, {y}, call.out[0]);
    };
    return {run, scratch.bytes()};
}

}  // namespace octavo
