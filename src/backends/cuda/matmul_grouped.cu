#include "backends/cuda/matmul_grouped.h"

#include "backends/cuda/convert.h"
#include "backends/cuda/kernels.cuh"
#include "backends/matmul_grouped.h"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

constexpr int kTile = 64;  // rows and columns of a block's result
constexpr int kStep = 16;  // of K, at a time
constexpr int kSide = 4;   // rows and columns of a thread's result

// Elements of an operand are at line * line_step + k * k_step, of expert e's matrix
// e * expert_step further on.
struct Strides {
    std::int64_t line = 0, k = 0, expert = 0;
};

template <class T, class Out>
struct Groups {
    using C = compute_t<T>;
    const T *a, *b;
    Strides a_at, b_at;
    const std::int32_t* offsets;
    std::int64_t experts, rows, m, n, k;  // m with group_k, k without
    const float *a_scale, *b_scale;       // null: 1
    C factor;
    const Out* acc;  // null: 0
    Out* out;

    __device__ C scale() const {
        return factor * (a_scale ? *a_scale : 1.0f) * (b_scale ? *b_scale : 1.0f);
    }
    __device__ void write(std::int64_t at, C sum) const {
        out[at] = round_to<Out>(sum + (acc ? static_cast<C>(widen(acc[at])) : C(0)));
    }
};

// sums[i][j] += products over k in [begin, end) of lines row0 + ... of a and column0 + ... of b;
// lines from `rows` and `columns` on count as zero.
template <class T, class Out>
__device__ void add_products(const Groups<T, Out>& g, std::int64_t expert, std::int64_t row0,
                             std::int64_t rows, std::int64_t column0, std::int64_t begin,
                             std::int64_t end, compute_t<T> (&sums)[kSide][kSide]) {
    using C = compute_t<T>;
    __shared__ C a_tile[kStep][kTile + 1], b_tile[kStep][kTile + 1];
    const int thread = static_cast<int>(threadIdx.x);
    const int i0 = thread / (kTile / kSide) * kSide, j0 = thread % (kTile / kSide) * kSide;
    for (std::int64_t k0 = begin; k0 < end; k0 += kStep) {
        for (int at = thread; at < kStep * kTile; at += kBlock) {
            const int line = at / kStep, k = at % kStep;
            const std::int64_t row = row0 + line, column = column0 + line;
            const bool in_k = k0 + k < end;
            a_tile[k][line] =
                in_k && row < rows ? widen(g.a[row * g.a_at.line + (k0 + k) * g.a_at.k]) : C(0);
            b_tile[k][line] =
                in_k && column < g.n
                    ? widen(
                          g.b[expert * g.b_at.expert + column * g.b_at.line + (k0 + k) * g.b_at.k])
                    : C(0);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < kStep; ++k) {
#pragma unroll
            for (int i = 0; i < kSide; ++i) {
#pragma unroll
                for (int j = 0; j < kSide; ++j) {
                    sums[i][j] += a_tile[k][i0 + i] * b_tile[k][j0 + j];
                }
            }
        }
        __syncthreads();
    }
}

// f(row, column, i, j) for a thread's part of a tile.
template <class F>
__device__ void over_tile(std::int64_t row0, std::int64_t column0, F&& f) {
    const int thread = static_cast<int>(threadIdx.x);
    const int i0 = thread / (kTile / kSide) * kSide, j0 = thread % (kTile / kSide) * kSide;
#pragma unroll
    for (int i = 0; i < kSide; ++i) {
#pragma unroll
        for (int j = 0; j < kSide; ++j) f(row0 + i0 + i, column0 + j0 + j, i, j);
    }
}

// A tile of rows may belong to several experts: a product for each, of which its own rows stay.
template <class T, class Out>
__global__ void __launch_bounds__(kBlock) by_rows_kernel(Groups<T, Out> g) {
    using C = compute_t<T>;
    const std::int64_t column0 = std::int64_t{blockIdx.x} * kTile;
    const std::int64_t row0 = std::int64_t{blockIdx.y} * kTile;
    const std::int64_t row_end = row0 + kTile < g.rows ? row0 + kTile : g.rows;
    const C scale = g.scale();
    for (std::int64_t e = 0; e < g.experts; ++e) {
        const std::int64_t first = g.offsets[e], last = g.offsets[e + 1];
        if (last <= row0 || first == last) continue;
        if (first >= row_end) break;
        C sums[kSide][kSide] = {};
        add_products(g, e, row0, row_end, column0, 0, g.k, sums);
        over_tile(row0, column0, [&](std::int64_t row, std::int64_t column, int i, int j) {
            if (row < first || row >= last || row >= row_end || column >= g.n) return;
            g.write(row * g.n + column, sums[i][j] * scale);
        });
    }
    const std::int64_t behind = g.offsets[g.experts];
    over_tile(row0, column0, [&](std::int64_t row, std::int64_t column, int, int) {
        if (row >= behind && row < row_end && column < g.n) g.write(row * g.n + column, C(0));
    });
}

template <class T, class Out>
__global__ void __launch_bounds__(kBlock) by_k_kernel(Groups<T, Out> g) {
    using C = compute_t<T>;
    const std::int64_t column0 = std::int64_t{blockIdx.x} * kTile;
    const std::int64_t row0 = std::int64_t{blockIdx.y} * kTile, e = blockIdx.z;
    C sums[kSide][kSide] = {};
    add_products(g, 0, row0, g.m, column0, g.offsets[e], g.offsets[e + 1], sums);
    const C scale = g.scale();
    over_tile(row0, column0, [&](std::int64_t row, std::int64_t column, int i, int j) {
        if (row >= g.m || column >= g.n) return;
        g.write((e * g.m + row) * g.n + column, sums[i][j] * scale);
    });
}

// What holds both operands: FP8 codes are exact in bf16.
Dtype common_dtype(const NodeView& node) {
    const auto wide = [](Dtype d) { return is_fp8(d) ? Dtype::bf16 : d; };
    const Dtype a = wide(node.in[0].dtype), b = wide(node.in[1].dtype), c = node.out[0].dtype;
    if (a == Dtype::f64 || b == Dtype::f64 || c == Dtype::f64) return Dtype::f64;
    return a == b ? a : Dtype::f32;
}

// Of an operand whose lines are rows of `pitch` elements, or columns. A function, because nvcc 13.0
// crashes on a conditional of braced aggregates in the initialiser of a template.
Strides strides_of(bool columns, std::int64_t pitch) {
    Strides s;
    s.line = columns ? 1 : pitch;
    s.k = columns ? pitch : 1;
    return s;
}

template <class T, class Out>
void launch(const KernelCall& call, const Matmul& op, const void* a, const void* b) {
    using C = compute_t<T>;
    const Shape &as = call.in[0].type.shape, &bs = call.in[1].type.shape;
    const Shape& cs = call.out[0].type.shape;
    Groups<T, Out> g{.a = static_cast<const T*>(a),
                     .b = static_cast<const T*>(b),
                     .a_at = strides_of(op.trans_a, as[1]),
                     .b_at = strides_of(!op.trans_b, bs[-1]),
                     .offsets = call.in[2].as<std::int32_t>(),
                     .experts = op.groups,
                     .rows = op.group_k ? 0 : as[0],
                     .m = op.group_k ? cs[1] : 0,
                     .n = cs[-1],
                     .k = op.group_k ? 0 : as[1],
                     .a_scale = call.in[0].scales(),
                     .b_scale = call.in[1].scales(),
                     .factor = static_cast<C>(power_of_two(op.exponent)),
                     .acc = op.accumulate ? call.in[3].as<Out>() : nullptr,
                     .out = call.out[0].as<Out>()};
    if (!op.group_k) g.b_at.expert = bs[1] * bs[2];
    if (cs.elements() == 0) return;
    const auto tiles = [](std::int64_t n) { return static_cast<unsigned>(ceil_div(n, kTile)); };
    if (op.group_k) {
        const dim3 grid(tiles(g.n), tiles(g.m), static_cast<unsigned>(op.groups));
        by_k_kernel<<<grid, kBlock, 0, stream()>>>(g);
    } else {
        by_rows_kernel<<<dim3(tiles(g.n), tiles(g.rows)), kBlock, 0, stream()>>>(g);
    }
    launched("matmul");
}

// Operands in the dtype of both: where they are, or in scratch.
struct Converted {
    Dtype dtype;
    std::int64_t at[2] = {-1, -1}, bytes = 0;

    explicit Converted(const NodeView& node) : dtype(common_dtype(node)) {
        ScratchCounter scratch;
        for (std::size_t i = 0; i < 2; ++i) {
            if (node.in[i].dtype == dtype) continue;
            at[i] = scratch.reserve(node.in[i].shape.elements() *
                                    static_cast<std::int64_t>(size_of(dtype)));
        }
        bytes = scratch.bytes();
    }
    const void* operator()(const KernelCall& call, std::size_t i) const {
        const TensorRef& t = call.in[i];
        if (at[i] < 0) return t.data;
        convert(t.data, t.type.dtype, call.scratch + at[i], dtype, t.type.shape.elements());
        return call.scratch + at[i];
    }
};

template <class T>
Prepared prepare_of(const Matmul& op, const Converted& operands) {
    return dispatch_plain(op.out, [&](auto tag) {
        using Out = typename decltype(tag)::type;
        const auto run = [op, operands](const KernelCall& call) {
            launch<T, Out>(call, op, operands(call, 0), operands(call, 1));
        };
        return Prepared{run, operands.bytes};
    });
}

}  // namespace

Refusal reject_grouped_simple(const NodeView& node) {
    if (const Refusal none = reject_ungrouped(node)) return none;
    for (const Type& t : node.in.first(2)) {
        if (has_fine_scales(t)) return "an operand has scales per row, block or group";
    }
    constexpr std::int64_t kMostTiles = 65535;  // of a grid along y and z
    const auto& op = std::get<Matmul>(node.op);
    const std::int64_t lines = op.group_k ? node.out[0].shape[1] : node.out[0].shape[0];
    if (lines > kMostTiles * kTile || op.groups > kMostTiles) return "more rows than a grid has";
    return std::nullopt;
}

Prepared prepare_grouped_simple(const NodeView& node) {
    const auto op = std::get<Matmul>(node.op);
    const Converted operands(node);
    return dispatch_plain(operands.dtype, [&](auto tag) {
        return prepare_of<typename decltype(tag)::type>(op, operands);
    });
}

}  // namespace octavo::cuda
