// Products with few rows, as decoding has them: bound by reading b once, which is therefore
// neither converted in memory nor packed.
#include <array>

#include "backends/cpu/matmul.h"
#include "base/convert.h"

namespace octavo::cpu {
namespace {

constexpr std::int64_t kMaxRows = 4;
constexpr std::int64_t kTile = 2048;  // elements of a row of b converted at a time

// In 32 lanes: enough independent sums to hide the latency of an addition.
float dot(const float* __restrict x, const float* __restrict y, std::int64_t n) {
    constexpr std::int64_t kLanes = 32;
    std::array<float, kLanes> sums;
#pragma omp simd
    for (std::int64_t l = 0; l < kLanes; ++l) sums[l] = 0;
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
        for (std::int64_t l = 0; l < kLanes; ++l) sums[l] += x[i + l] * y[i + l];
    }
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t l = 0; l < kLanes; ++l) sum += sums[l];
    for (; i < n; ++i) sum += x[i] * y[i];
    return sum;
}

// y += sum over four k of a[k] x[k]: four, because y is read and written each time.
using FourRows = std::array<const float*, 4>;
void add_products(float* __restrict y, const float* a, const FourRows& x, std::int64_t n) {
    const float a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
    const float *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) {
        y[j] += (a0 * x0[j] + a1 * x1[j]) + (a2 * x2[j] + a3 * x3[j]);
    }
}
void add_product(float* __restrict y, float a, const float* __restrict x, std::int64_t n) {
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) y[j] += a * x[j];
}

// `n` elements of b from index `first` as f32: where they are, or converted into `tile`.
const float* read(const TensorRef& b, std::int64_t first, std::int64_t n, float* tile) {
    if (b.type.dtype == Dtype::f32) return b.as<float>() + first;
    const auto size = static_cast<std::int64_t>(size_of(b.type.dtype));
    convert(b.as<std::byte>() + first * size, b.type.dtype, tile, Dtype::f32, n);
    return tile;
}

struct Gemv {
    MatmulExtents e;
    bool trans_b, accumulate;
    int exponent;

    // c[row, first...] = scale * sums (+ acc), for `n` sums.
    void write(const KernelCall& call, std::int64_t row, std::int64_t first, std::int64_t n,
               float scale, float* sums) const {
        const TensorRef& c = call.out[0];
        const Dtype dtype = c.type.dtype;
        const auto size = static_cast<std::int64_t>(size_of(dtype));
        const std::int64_t offset = (row * e.n + first) * size;
        for (std::int64_t j = 0; j < n; ++j) sums[j] *= scale;
        if (accumulate) {
            std::array<float, kTile> acc;
            convert(call.in[2].as<std::byte>() + offset, dtype, acc.data(), Dtype::f32, n);
            for (std::int64_t j = 0; j < n; ++j) sums[j] += acc[j];
        }
        convert(sums, Dtype::f32, c.as<std::byte>() + offset, dtype, n);
    }

    // b (N, K): each element of c is a dot product of two rows.
    void dots(const KernelCall& call, const float* a, std::int64_t begin, std::int64_t end) const {
        constexpr std::int64_t kBlock = 64;  // columns of c written at a time
        const float scale = product_scale(call, exponent);
        alignas(64) std::array<float, kTile> tile;
        std::array<std::array<float, kBlock>, kMaxRows> sums;
        for (std::int64_t first = begin; first < end; first += kBlock) {
            const std::int64_t width = std::min(kBlock, end - first);
            for (std::int64_t i = 0; i < e.m; ++i) sums[i].fill(0);
            for (std::int64_t j = 0; j < width; ++j) {
                for (std::int64_t k = 0; k < e.k; k += kTile) {
                    const std::int64_t length = std::min(kTile, e.k - k);
                    const std::int64_t at = (first + j) * e.k + k;
                    const float* row = read(call.in[1], at, length, tile.data());
                    for (std::int64_t i = 0; i < e.m; ++i) {
                        sums[i][j] += dot(a + i * e.k + k, row, length);
                    }
                }
            }
            for (std::int64_t i = 0; i < e.m; ++i) {
                write(call, i, first, width, scale, sums[i].data());
            }
        }
    }

    // b (K, N): rows of b are added up, a tile of columns at a time.
    void columns(const KernelCall& call, const float* a, std::int64_t begin,
                 std::int64_t end) const {
        const float scale = product_scale(call, exponent);
        alignas(64) std::array<std::array<float, kTile>, 4> tiles;
        alignas(64) std::array<std::array<float, kTile>, kMaxRows> sums;
        for (std::int64_t first = begin; first < end; first += kTile) {
            const std::int64_t width = std::min(kTile, end - first);
            for (std::int64_t i = 0; i < e.m; ++i) std::fill_n(sums[i].data(), width, 0.0f);
            const auto row = [&](std::int64_t k, std::size_t tile) {
                return read(call.in[1], k * e.n + first, width, tiles[tile].data());
            };
            std::int64_t k = 0;
            for (; k + 4 <= e.k; k += 4) {
                const FourRows rows{row(k, 0), row(k + 1, 1), row(k + 2, 2), row(k + 3, 3)};
                for (std::int64_t i = 0; i < e.m; ++i) {
                    add_products(sums[i].data(), a + i * e.k + k, rows, width);
                }
            }
            for (; k < e.k; ++k) {
                const float* last = row(k, 0);
                for (std::int64_t i = 0; i < e.m; ++i) {
                    add_product(sums[i].data(), a[i * e.k + k], last, width);
                }
            }
            for (std::int64_t i = 0; i < e.m; ++i) {
                write(call, i, first, width, scale, sums[i].data());
            }
        }
    }

    void operator()(const KernelCall& call) const {
        const auto* a = reinterpret_cast<const float*>(call.scratch);
        convert(call.in[0].data, call.in[0].type.dtype, call.scratch, Dtype::f32, e.m * e.k);
        parallel_for(e.n, row_grain(e.k), [&](std::int64_t begin, std::int64_t end) {
            if (trans_b) {
                dots(call, a, begin, end);
            } else {
                columns(call, a, begin, end);
            }
        });
    }
};

}  // namespace

Refusal reject_gemv(const NodeView& node) {
    if (const Refusal fine = reject_fine_scales(node)) return fine;
    const auto& op = std::get<Matmul>(node.op);
    if (op.trans_a) return "the first operand is transposed";
    const std::int64_t rows = matmul_extents(node).m;
    if (rows > kMaxRows) return fmt::format("{} rows are more than {}", rows, kMaxRows);
    for (const Type& t : {node.in[0], node.in[1], node.out[0]}) {
        if (t.dtype == Dtype::f64) return "f64";
    }
    return std::nullopt;
}

Prepared prepare_gemv(const NodeView& node) {
    const auto& op = std::get<Matmul>(node.op);
    const MatmulExtents e = matmul_extents(node);
    return {Gemv{e, op.trans_b, op.accumulate, op.exponent},
            e.m * e.k * static_cast<std::int64_t>(sizeof(float))};
}

}  // namespace octavo::cpu
