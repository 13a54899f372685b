// The product of any two operands: both are laid out as (M, K) and (K, N) in the arithmetic type,
// then rows of b are added up.
#include <array>

#include "backends/cpu/matmul.h"

namespace octavo::cpu {
namespace {

template <class C, class T>
C widen(T x) {
    if constexpr (std::is_same_v<T, double>) {
        return static_cast<C>(x);
    } else {
        return static_cast<C>(to_f32(x));
    }
}

template <class T, class C>
T narrow(C x) {
    if constexpr (std::is_same_v<C, double>) {
        return from_f64<T>(x);
    } else {
        return from_f32<T>(x);
    }
}

// out (rows, columns) from a tensor of that shape, or from its transpose.
template <class C>
void lay_out(const TensorRef& t, std::int64_t rows, std::int64_t columns, bool transposed, C* out) {
    const std::int64_t row_step = transposed ? 1 : columns, column_step = transposed ? rows : 1;
    dispatch_float(t.type.dtype, [&](auto tag) {
        const auto* in = t.as<typename decltype(tag)::type>();
        parallel_for(rows, row_grain(columns), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) {
                for (std::int64_t j = 0; j < columns; ++j) {
                    out[i * columns + j] = widen<C>(in[i * row_step + j * column_step]);
                }
            }
        });
    });
}

template <class T, class C>
void multiply(const KernelCall& call, const MatmulExtents& e, int exponent, const C* a,
              const C* b) {
    constexpr std::int64_t kTile = 256;  // columns whose sums are kept at hand
    const C scale = product_scale(call, exponent);
    const T* acc = call.in.size() > 2 ? call.in[2].as<T>() : nullptr;
    T* c = call.out[0].as<T>();
    parallel_for(e.m, row_grain(e.k * e.n), [&](std::int64_t begin, std::int64_t end) {
        std::array<C, kTile> sums;
        for (std::int64_t first = 0; first < e.n; first += kTile) {
            const std::int64_t width = std::min(kTile, e.n - first);
            for (std::int64_t i = begin; i < end; ++i) {
                sums.fill(0);
                for (std::int64_t k = 0; k < e.k; ++k) {
                    const C x = a[i * e.k + k];
                    const C* row = b + k * e.n + first;
#pragma omp simd
                    for (std::int64_t j = 0; j < width; ++j) sums[j] += x * row[j];
                }
                const std::int64_t at = i * e.n + first;
                for (std::int64_t j = 0; j < width; ++j) {
                    const C sum = sums[j] * scale + (acc ? widen<C>(acc[at + j]) : C(0));
                    c[at + j] = narrow<T>(sum);
                }
            }
        }
    });
}

template <class C>
Prepared prepare(const NodeView& node) {
    const auto& op = std::get<Matmul>(node.op);
    const MatmulExtents e = matmul_extents(node);
    ScratchCounter scratch;
    constexpr auto kSize = static_cast<std::int64_t>(sizeof(C));
    const std::int64_t a_offset = scratch.reserve(e.m * e.k * kSize);
    const std::int64_t b_offset = scratch.reserve(e.k * e.n * kSize);
    return dispatch_plain(op.out, [&](auto tag) {
        using T = typename decltype(tag)::type;
        auto run = [=, trans_a = op.trans_a, trans_b = op.trans_b,
                    exponent = op.exponent](const KernelCall& call) {
            C* a = reinterpret_cast<C*>(call.scratch + a_offset);
            C* b = reinterpret_cast<C*>(call.scratch + b_offset);
            lay_out(call.in[0], e.m, e.k, trans_a, a);
            lay_out(call.in[1], e.k, e.n, trans_b, b);
            multiply<T, C>(call, e, exponent, a, b);
        };
        return Prepared{run, scratch.bytes()};
    });
}

}  // namespace

Prepared prepare_matmul_reference(const NodeView& node) {
    const bool doubles = node.in[0].dtype == Dtype::f64 || node.in[1].dtype == Dtype::f64 ||
                         node.out[0].dtype == Dtype::f64;
    return doubles ? prepare<double>(node) : prepare<float>(node);
}

}  // namespace octavo::cpu
