// The head's loss and gradients, a chunk of rows at a time, for any backend
// (src/ops/head_loss.cpp).
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "backends/kernels.h"

namespace octavo {

// Device is the backend's part. Logits are of type T, statistics and scalars of type C:
//
//     const KernelRegistry& registry()
//     void losses_and_gradients(T* logits, const std::int32_t* targets, std::int64_t rows,
//                               std::int64_t v, const C* dloss, const C* weight, C* lse,
//                               double* loss)            gradients take the place of logits
//     void total_loss(const double* loss, std::int64_t rows, const C* weight, C* out)
//     void copy_or_clear(const void* from, void* to, std::int64_t bytes)     from null: zeros
//
// all static; `lse` is scratch for a C per row.
template <class T, class Device>
class HeadLossKernel {
    using C = compute_t<T>;

  public:
    explicit HeadLossKernel(const NodeView& node) : op_(std::get<HeadLoss>(node.op)) {
        const std::int64_t m = node.in[0].shape[0], rows = std::min(op_.chunk, m);
        ScratchCounter counter;
        parts_.losses = counter.reserve(m * static_cast<std::int64_t>(sizeof(double)));
        if (rows > 0) {
            full_ = make_chunk(node, rows);
            if (m % rows != 0) last_ = make_chunk(node, m % rows);
            parts_.logits = counter.reserve(data_bytes(full_.logits));
            parts_.lse = counter.reserve(rows * static_cast<std::int64_t>(sizeof(C)));
            parts_.products =
                counter.reserve(std::max(full_.scratch_bytes(), last_.scratch_bytes()));
        }
        scratch_bytes_ = counter.bytes();
    }

    std::int64_t scratch_bytes() const { return scratch_bytes_; }

    void operator()(const KernelCall& call) const {
        const std::int64_t m = call.in[0].type.shape[0];
        double* losses = reinterpret_cast<double*>(call.scratch + parts_.losses);
        for (std::int64_t begin = 0; begin < m; begin += full_.rows()) {
            run_chunk(call, m - begin < full_.rows() ? last_ : full_, begin, losses + begin);
        }
        Device::total_loss(losses, m, call.in[3].as<C>(), call.out[0].template as<C>());
        if (m == 0) {  // dw without any rows
            const TensorRef& dw = call.out[2];
            Device::copy_or_clear(op_.accumulate ? call.in[5].data : nullptr, dw.data,
                                  data_bytes(dw.type));
        }
    }

  private:
    // The types and products of a chunk: as in the op's definition, for fewer rows.
    struct Chunk {
        Type x, logits;
        Prepared fprop, dgrad;
        Prepared wgrad;      // of the first chunk: adds to acc, if there is one
        Prepared wgrad_add;  // of the others: adds to what dw holds

        std::int64_t rows() const { return x.shape[0]; }
        std::int64_t scratch_bytes() const {
            return std::max({fprop.scratch_bytes, dgrad.scratch_bytes, wgrad.scratch_bytes,
                             wgrad_add.scratch_bytes});
        }
    };

    struct Parts {  // of scratch, offsets in bytes
        std::int64_t logits = 0, lse = 0, losses = 0, products = 0;
    };

    Chunk make_chunk(const NodeView& node, std::int64_t rows) const {
        const Type &w = node.in[1], &dw = node.out[2];
        const Type x{node.in[0].dtype, {rows, node.in[0].shape[1]}};
        const Type logits{x.dtype, {rows, w.shape[op_.trans_b ? 0 : 1]}};
        const Type &a = op_.trans_b ? logits : x, &b = op_.trans_b ? x : logits;
        const Matmul fprop{.trans_b = op_.trans_b, .kind = MatmulKind::fprop, .out = x.dtype};
        const Matmul dgrad{.trans_b = !op_.trans_b, .kind = MatmulKind::dgrad, .out = x.dtype};
        Matmul wgrad{.trans_a = true, .kind = MatmulKind::wgrad, .out = dw.dtype};
        wgrad.accumulate = op_.accumulate;
        Matmul wgrad_add = wgrad;
        wgrad_add.accumulate = true;
        const KernelRegistry& kernels = Device::registry();
        return {x,
                logits,
                prepare_matmul(kernels, fprop, x, w),
                prepare_matmul(kernels, dgrad, logits, w),
                prepare_matmul(kernels, wgrad, a, b),
                prepare_matmul(kernels, wgrad_add, a, b)};
    }

    void run_chunk(const KernelCall& call, const Chunk& chunk, std::int64_t begin,
                   double* losses) const {
        const std::int64_t rows = chunk.rows(), c = chunk.x.shape[1], v = chunk.logits.shape[1];
        const TensorRef x{chunk.x, call.in[0].template as<T>() + begin * c};
        const TensorRef dx{chunk.x, call.out[1].template as<T>() + begin * c};
        const TensorRef logits{chunk.logits, call.scratch + parts_.logits};
        const TensorRef &w = call.in[1], &dw = call.out[2];
        std::byte* scratch = call.scratch + parts_.products;
        const auto product = [scratch](const Prepared& p, std::array<TensorRef, 3> in,
                                       std::size_t operands, const TensorRef& out) {
            p.run({std::span(in).first(operands), {&out, 1}, scratch});
        };

        product(chunk.fprop, {x, w}, 2, logits);
        Device::losses_and_gradients(logits.as<T>(), call.in[2].template as<std::int32_t>() + begin,
                                     rows, v, call.in[4].template as<C>(),
                                     call.in[3].template as<C>(),
                                     reinterpret_cast<C*>(call.scratch + parts_.lse), losses);

        // dw before dx: dx may take the place of x.
        const TensorRef &a = op_.trans_b ? logits : x, &b = op_.trans_b ? x : logits;
        if (begin > 0) {
            product(chunk.wgrad_add, {a, b, dw}, 3, dw);
        } else if (op_.accumulate) {
            product(chunk.wgrad, {a, b, call.in[5]}, 3, dw);
        } else {
            product(chunk.wgrad, {a, b}, 2, dw);
        }
        product(chunk.dgrad, {logits, w}, 2, dx);
    }

    HeadLoss op_;
    Chunk full_, last_;
    Parts parts_;
    std::int64_t scratch_bytes_ = 0;
};

// The kernel's `prepare`.
template <class Device>
Prepared prepare_head_loss(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        HeadLossKernel<typename decltype(tag)::type, Device> kernel(node);
        const std::int64_t bytes = kernel.scratch_bytes();
        return Prepared{std::move(kernel), bytes};
    });
}

}  // namespace octavo
