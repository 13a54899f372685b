#include <array>

#include "backends/cuda/cross_entropy.cuh"
#include "backends/cuda/matmul.h"

namespace octavo::cuda {
namespace {

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

Chunk make_chunk(const HeadLoss& op, const NodeView& node, std::int64_t rows) {
    const Type &w = node.in[1], &dw = node.out[2];
    const Type x{node.in[0].dtype, {rows, node.in[0].shape[1]}};
    const Type logits{x.dtype, {rows, w.shape[op.trans_b ? 0 : 1]}};
    const Type &a = op.trans_b ? logits : x, &b = op.trans_b ? x : logits;
    Matmul wgrad{.trans_a = true, .kind = MatmulKind::wgrad, .out = dw.dtype};
    wgrad.accumulate = op.accumulate;
    Matmul wgrad_add = wgrad;
    wgrad_add.accumulate = true;
    return {
        x,
        logits,
        prepare_matmul({.trans_b = op.trans_b, .kind = MatmulKind::fprop, .out = x.dtype}, x, w),
        prepare_matmul({.trans_b = !op.trans_b, .kind = MatmulKind::dgrad, .out = x.dtype}, logits,
                       w),
        prepare_matmul(wgrad, a, b),
        prepare_matmul(wgrad_add, a, b)};
}

struct Parts {  // of scratch, offsets in bytes
    std::int64_t logits, losses, products;
};

template <class T>
class HeadLossKernel {
    using C = compute_t<T>;

  public:
    explicit HeadLossKernel(const NodeView& node) : op_(std::get<HeadLoss>(node.op)) {
        const std::int64_t m = node.in[0].shape[0], rows = std::min(op_.chunk, m);
        ScratchCounter counter;
        parts_.losses = counter.reserve(m * static_cast<std::int64_t>(sizeof(double)));
        if (rows > 0) {
            full_ = make_chunk(op_, node, rows);
            if (m % rows != 0) last_ = make_chunk(op_, node, m % rows);
            parts_.logits = counter.reserve(data_bytes(full_.logits));
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
        total_loss<C>(losses, m, call.in[3].as<C>(), call.out[0].as<C>());
        if (m == 0) start_dw(call);
    }

  private:
    void run_chunk(const KernelCall& call, const Chunk& chunk, std::int64_t begin,
                   double* losses) const {
        const std::int64_t rows = chunk.rows(), c = chunk.x.shape[1], v = chunk.logits.shape[1];
        const TensorRef x{chunk.x, call.in[0].as<T>() + begin * c};
        const TensorRef dx{chunk.x, call.out[1].as<T>() + begin * c};
        const TensorRef logits{chunk.logits, call.scratch + parts_.logits};
        const TensorRef &w = call.in[1], &dw = call.out[2];
        std::byte* scratch = call.scratch + parts_.products;
        const auto product = [scratch](const Prepared& p, std::array<TensorRef, 3> in,
                                       std::size_t operands, const TensorRef& out) {
            p.run({std::span(in).first(operands), {&out, 1}, scratch});
        };

        product(chunk.fprop, {x, w}, 2, logits);
        row_losses_and_gradients(logits.as<T>(), call.in[2].as<std::int32_t>() + begin, rows, v,
                                 call.in[4].as<C>(), call.in[3].as<C>(), losses);

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

    // dw without any rows.
    void start_dw(const KernelCall& call) const {
        const TensorRef& dw = call.out[2];
        const auto bytes = static_cast<std::size_t>(data_bytes(dw.type));
        if (!op_.accumulate) {
            expect(cudaMemsetAsync(dw.data, 0, bytes, stream()), "memset");
        } else if (dw.data != call.in[5].data) {
            expect(cudaMemcpyAsync(dw.data, call.in[5].data, bytes, cudaMemcpyDeviceToDevice,
                                   stream()),
                   "cudaMemcpyAsync");
        }
    }

    HeadLoss op_;
    Chunk full_, last_;
    Parts parts_{};
    std::int64_t scratch_bytes_ = 0;
};

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        HeadLossKernel<typename decltype(tag)::type> kernel(node);
        const std::int64_t bytes = kernel.scratch_bytes();
        return Prepared{std::move(kernel), bytes};
    });
}

}  // namespace

void register_head_loss(KernelRegistry& registry) {
    registry.add<HeadLoss>({"head_loss", takes_all, prepare});
}

}  // namespace octavo::cuda
