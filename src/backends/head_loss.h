// The head's loss and gradients, a chunk of rows at a time, for any backend
// (src/ops/head_loss.cpp).
#pragma once

#include <algorithm>
#include <initializer_list>
#include <span>
#include <utility>

#include "backends/kernels.h"
#include "base/scale_rule.h"

namespace octavo {

// Elements from one row to the next of the operands and the result of a product; 0: rows follow
// each other.
struct RowStrides {
    std::int64_t a = 0, b = 0, c = 0;
    bool operator==(const RowStrides&) const = default;
};

// What logits and their gradients are multiplied by: powers of two.
struct LogitFactors {
    float logits = 1, gradient = 1;
};

// Device is the backend's part. Logits are of type T, statistics and scalars of type C:
//
//     const KernelRegistry& registry()
//     std::int64_t logits_stride(const Type& x, std::int64_t v)       from one row to the next, >=
//     v Prepared prepare_product(const Matmul&, const Type& a, const Type& b, const RowStrides&)
//     void losses_and_gradients(T* logits, const std::int32_t* targets, std::int64_t rows,
//                               std::int64_t v, std::int64_t stride, const C* dloss,
//                               const C* weight, LogitFactors, C* lse, double* loss)
//                                                            gradients take the place of logits
//     void total_loss(const double* loss, std::int64_t rows, const C* weight, C* out)
//     void copy_or_clear(const void* from, void* to, std::int64_t bytes)     from null: zeros
//
// all static; `lse` is scratch for a C per row.
//
// FP8 products read both operands along the sum, so the codes of dlogits, x and w are laid out both
// ways.
template <class T, class Device>
class HeadLossKernel {
    using C = compute_t<T>;

  public:
    explicit HeadLossKernel(const NodeView& node) : op_(std::get<HeadLoss>(node.op)) {
        const std::int64_t m = node.in[0].shape[0], rows = std::min(op_.chunk, m);
        const std::int64_t vocab = node.in[1].shape[op_.trans_b ? 0 : 1];
        // The quantiser takes rows without gaps.
        stride_ = op_.quantise ? vocab : Device::logits_stride(node.in[0], vocab);
        ScratchCounter counter;
        parts_.losses = counter.reserve(m * static_cast<std::int64_t>(sizeof(double)));
        if (rows > 0) {
            full_ = make_chunk(node, rows);
            if (m % rows != 0) last_ = make_chunk(node, m % rows);
            parts_.logits = counter.reserve(rows * stride_ * static_cast<std::int64_t>(sizeof(T)));
            parts_.lse = counter.reserve(rows * static_cast<std::int64_t>(sizeof(C)));
            if (op_.quantise) reserve_codes(node.in[1], counter);
            parts_.products =
                counter.reserve(std::max(full_.scratch_bytes(), last_.scratch_bytes()));
        }
        scratch_bytes_ = counter.bytes();
    }

    std::int64_t scratch_bytes() const { return scratch_bytes_; }

    void operator()(const KernelCall& call) const {
        const std::int64_t m = call.in[0].type.shape[0];
        double* losses = reinterpret_cast<double*>(call.scratch + parts_.losses);
        if (op_.quantise && m > 0) {
            step(full_.transpose_w, call, {call.in[1]}, {part(call, w_t_, parts_.w_t)});
        }
        for (std::int64_t begin = 0; begin < m; begin += full_.rows()) {
            run_chunk(call, m - begin < full_.rows() ? last_ : full_, begin, losses + begin);
        }
        Device::total_loss(losses, m, call.in[3].as<C>(), call.out[0].template as<C>());
        if (m == 0) run_empty(call);
    }

  private:
    // The types and products of a chunk: as in the op's definition, for fewer rows.
    struct Chunk {
        Type x, logits;
        Prepared fprop, dgrad;
        Prepared wgrad;      // of the first chunk: adds to acc, if there is one
        Prepared wgrad_add;  // of the others: adds to what dw holds
        // With `quantise`:
        Type codes, codes_t, x_t;  // dlogits, both ways, and x^T
        Prepared quantise, transpose_x, transpose_w;

        std::int64_t rows() const { return x.shape[0]; }
        std::int64_t scratch_bytes() const {
            return std::max({fprop.scratch_bytes, dgrad.scratch_bytes, wgrad.scratch_bytes,
                             wgrad_add.scratch_bytes, quantise.scratch_bytes,
                             transpose_x.scratch_bytes, transpose_w.scratch_bytes});
        }
    };

    struct Parts {  // of scratch, offsets in bytes
        std::int64_t logits = 0, lse = 0, losses = 0, products = 0;
        std::int64_t codes = 0, codes_t = 0, x_t = 0, w_t = 0;
    };

    static Type transposed(const Type& t) { return {t.dtype, {t.shape[1], t.shape[0]}, t.scaling}; }

    Chunk make_chunk(const NodeView& node, std::int64_t rows) const {
        const Type &w = node.in[1], &dw = node.out[2];
        const std::int64_t vocab = w.shape[op_.trans_b ? 0 : 1];
        Chunk c;
        c.x = {node.in[0].dtype, {rows, node.in[0].shape[1]}, node.in[0].scaling};
        c.logits = {node.out[1].dtype, {rows, vocab}};
        if (op_.quantise) {
            prepare_quantised(c, node);
        } else {
            const Type &a = op_.trans_b ? c.logits : c.x, &b = op_.trans_b ? c.x : c.logits;
            const Matmul wgrad{.trans_a = true,
                               .kind = MatmulKind::wgrad,
                               .out = dw.dtype,
                               .exponent = op_.exponents.wgrad};
            prepare_products(c, w, c.logits, w, !op_.trans_b, wgrad, a, b);
        }
        return c;
    }

    // FP8: every product is an (M, K) times an (N, K)^T.
    void prepare_quantised(Chunk& c, const NodeView& node) const {
        const KernelRegistry& kernels = Device::registry();
        const Type& w = node.in[1];
        const DelayedQuantise quantise{.rule = *op_.quantise, .transpose = true};
        c.codes = {quantise.rule.to, c.logits.shape, kPerTensor};
        c.codes_t = transposed(c.codes);
        c.x_t = transposed(c.x);
        const Type state[] = {c.logits, node.in[5], node.in[6], node.in[7]};
        c.quantise = prepare_op(kernels, quantise, state);
        c.transpose_x = prepare_op(kernels, Transpose{}, {&c.x, 1});
        c.transpose_w = prepare_op(kernels, Transpose{}, {&w, 1});
        const Matmul wgrad{.trans_b = true, .kind = MatmulKind::wgrad, .out = node.out[2].dtype};
        prepare_products(c, w, c.codes, transposed(w), true, wgrad, c.codes_t, c.x_t);
    }

    void prepare_products(Chunk& c, const Type& w, const Type& dlogits, const Type& dgrad_w,
                          bool dgrad_trans_b, Matmul wgrad, const Type& a, const Type& b) const {
        const Dtype out = c.logits.dtype;
        const Matmul fprop{.trans_b = op_.trans_b,
                           .kind = MatmulKind::fprop,
                           .out = out,
                           .exponent = op_.exponents.fprop};
        const Matmul dgrad{.trans_b = dgrad_trans_b,
                           .kind = MatmulKind::dgrad,
                           .out = out,
                           .exponent = op_.exponents.dgrad};
        wgrad.accumulate = op_.accumulate;
        Matmul wgrad_add = wgrad;
        wgrad_add.accumulate = true;
        const std::int64_t gaps = stride_ == c.logits.shape[1] ? 0 : stride_;
        const RowStrides of_wgrad =
            op_.trans_b || op_.quantise ? RowStrides{.a = gaps} : RowStrides{.b = gaps};
        c.fprop = Device::prepare_product(fprop, c.x, w, {.c = gaps});
        c.dgrad = Device::prepare_product(dgrad, dlogits, dgrad_w, {.a = gaps});
        c.wgrad = Device::prepare_product(wgrad, a, b, of_wgrad);
        c.wgrad_add = Device::prepare_product(wgrad_add, a, b, of_wgrad);
    }

    void reserve_codes(const Type& w, ScratchCounter& counter) {
        w_t_ = transposed(w);
        parts_.codes = counter.reserve(total_bytes(full_.codes));
        parts_.codes_t = counter.reserve(total_bytes(full_.codes_t));
        parts_.x_t = counter.reserve(total_bytes(full_.x_t));
        parts_.w_t = counter.reserve(total_bytes(w_t_));
    }

    static TensorRef part(const KernelCall& call, const Type& type, std::int64_t offset) {
        return tensor_at(type, call.scratch + offset);
    }

    void step(const Prepared& prepared, const KernelCall& call, std::span<const TensorRef> in,
              std::span<const TensorRef> out) const {
        prepared.run({in, out, call.scratch + parts_.products});
    }
    void step(const Prepared& prepared, const KernelCall& call, std::initializer_list<TensorRef> in,
              std::initializer_list<TensorRef> out) const {
        step(prepared, call, std::span(in.begin(), in.size()), std::span(out.begin(), out.size()));
    }

    void run_chunk(const KernelCall& call, const Chunk& chunk, std::int64_t begin,
                   double* losses) const {
        const std::int64_t rows = chunk.rows(), c = chunk.x.shape[1], v = chunk.logits.shape[1];
        TensorRef x = call.in[0];
        x.type = chunk.x;
        x.data = x.as<std::byte>() + begin * c * static_cast<std::int64_t>(size_of(x.type.dtype));
        const TensorRef dx{{chunk.logits.dtype, chunk.x.shape},
                           call.out[1].template as<T>() + begin * c};
        const TensorRef logits{chunk.logits, call.scratch + parts_.logits};
        const TensorRef& w = call.in[1];

        const LogitFactors factors{power_of_two(op_.exponents.logits),
                                   power_of_two(op_.exponents.gradient)};
        step(chunk.fprop, call, {x, w}, {logits});
        Device::losses_and_gradients(logits.as<T>(), call.in[2].template as<std::int32_t>() + begin,
                                     rows, v, stride_, call.in[4].template as<C>(),
                                     call.in[3].template as<C>(), factors,
                                     reinterpret_cast<C*>(call.scratch + parts_.lse), losses);
        // dw before dx: dx may take the place of x.
        if (op_.quantise) {
            const TensorRef codes = part(call, chunk.codes, parts_.codes);
            const TensorRef codes_t = part(call, chunk.codes_t, parts_.codes_t);
            const TensorRef x_t = part(call, chunk.x_t, parts_.x_t);
            const TensorRef &history = begin > 0 ? call.out[3] : call.in[5], &used = call.out[4];
            step(chunk.quantise, call, {logits, history, call.in[6], call.in[7]},
                 {codes, call.out[3], used, codes_t});
            step(chunk.transpose_x, call, {x}, {x_t});
            add_to_dw(call, chunk, begin, codes_t, x_t);
            step(chunk.dgrad, call, {codes, part(call, w_t_, parts_.w_t)}, {dx});
        } else {
            add_to_dw(call, chunk, begin, op_.trans_b ? logits : x, op_.trans_b ? x : logits);
            step(chunk.dgrad, call, {logits, w}, {dx});
        }
    }

    void add_to_dw(const KernelCall& call, const Chunk& chunk, std::int64_t begin,
                   const TensorRef& a, const TensorRef& b) const {
        const TensorRef& dw = call.out[2];
        if (begin > 0) {
            step(chunk.wgrad_add, call, {a, b, dw}, {dw});
        } else if (op_.accumulate) {
            step(chunk.wgrad, call, {a, b, call.in.back()}, {dw});
        } else {
            step(chunk.wgrad, call, {a, b}, {dw});
        }
    }

    // dw without any rows, and a scale that nothing was cast with.
    void run_empty(const KernelCall& call) const {
        const auto keep = [](const void* from, const TensorRef& to) {
            Device::copy_or_clear(from, to.data, data_bytes(to.type));
        };
        keep(op_.accumulate ? call.in.back().data : nullptr, call.out[2]);
        if (!op_.quantise) return;
        keep(call.in[5].data, call.out[3]);
        keep(call.in[7].data, call.out[4]);
    }

    HeadLoss op_;
    std::int64_t stride_ = 0;  // from one row of logits to the next
    Chunk full_, last_;
    Type w_t_;
    Parts parts_;
    std::int64_t scratch_bytes_ = 0;
};

// The kernel's `prepare`.
template <class Device>
Prepared prepare_head_loss(const NodeView& node) {
    return dispatch_plain(node.out[1].dtype, [&](auto tag) {
        HeadLossKernel<typename decltype(tag)::type, Device> kernel(node);
        const std::int64_t bytes = kernel.scratch_bytes();
        return Prepared{std::move(kernel), bytes};
    });
}

}  // namespace octavo
