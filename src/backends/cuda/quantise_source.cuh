// What fused quantisers quantise, computed on the way: get<N>(at, v) gives the N elements of each
// result from `at` on, rounded to T.
#pragma once

#include "backends/cuda/activations.cuh"
#include "backends/cuda/norms.cuh"
#include "ops/delayed_quantise.h"

namespace octavo::cuda {

// ---- Operands ----------------------------------------------------------------------------------

template <class T>
struct PlainOperand {
    static constexpr bool kFlat = true;  // rows and columns do not matter
    const T* x;

    template <int N>
    __device__ void get(const At& at, compute_t<T> (&v)[N]) const {
        load<N>(x + at.index(), v);
    }
};

// Times a factor for each row, or for each column.
template <class T, bool kRow>
struct ScaledOperand {
    static constexpr bool kFlat = false;
    const T* x;
    const compute_t<T>* factors;

    template <int N>
    __device__ void get(const At& at, compute_t<T> (&v)[N]) const {
        compute_t<T> f[N];
        if constexpr (kRow) {
            const compute_t<T> whole = factors[at.row];
#pragma unroll
            for (int k = 0; k < N; ++k) f[k] = whole;
        } else {
            load<N>(factors + at.column, f);
        }
        load<N>(x + at.index(), v);
#pragma unroll
        for (int k = 0; k < N; ++k) v[k] *= f[k];
        round_values<T>(v);
    }
};

// ---- Sources -----------------------------------------------------------------------------------

template <class T, class X = PlainOperand<T>>
struct ValueSource {
    static constexpr int kResults = 1;
    static constexpr bool kFlat = X::kFlat;
    X x;

    template <int N>
    __device__ void get(const At& at, compute_t<T> (&v)[1][N]) const {
        x.get(at, v[0]);
    }
};

template <class T, class F, int Operands>
struct MapSource {
    static constexpr int kResults = 1;
    static constexpr bool kFlat = true;
    const T* in[Operands];
    F f;

    template <int N>
    __device__ void get(const At& at, compute_t<T> (&v)[1][N]) const {
        compute_t<T> x[Operands][N];
#pragma unroll
        for (int k = 0; k < Operands; ++k) load<N>(in[k] + at.index(), x[k]);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if constexpr (Operands == 1) {
                v[0][k] = f(x[0][k]);
            } else {
                v[0][k] = f(x[0][k], x[1][k]);
            }
        }
        round_values<T>(v[0]);
    }
};

// Gate and up side by side, and twice as many columns as the result.
template <class T>
struct JoinedSwiGluSource {
    static constexpr int kResults = 1;
    static constexpr bool kFlat = false;
    const T* x;
    SwiGluFunction f;

    template <int N>
    __device__ void get(const At& at, compute_t<T> (&v)[1][N]) const {
        const T* gate = x + at.row * 2 * at.columns + at.column;
        compute_t<T> g[N], u[N];
        load<N>(gate, g);
        load<N>(gate + at.columns, u);
#pragma unroll
        for (int k = 0; k < N; ++k) v[0][k] = f(g[k], u[k]);
        round_values<T>(v[0]);
    }
};

template <class T, class Dy = PlainOperand<T>>
struct SwiGluGradSource {
    static constexpr int kResults = 2;
    static constexpr bool kFlat = Dy::kFlat;
    const T *gate, *up;
    Dy dy;
    compute_t<T> factor = 1;  // of the gate

    template <int N>
    __device__ void get(const At& at, compute_t<T> (&v)[2][N]) const {
        compute_t<T> g[N], u[N], d[N];
        load<N>(gate + at.index(), g);
        load<N>(up + at.index(), u);
        dy.get(at, d);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            swiglu_gradients(g[k], u[k], d[k], factor, v[0][k], v[1][k]);
        }
        round_values<T>(v[0]);
        round_values<T>(v[1]);
    }
};

// Of a norm whose statistics are known.
template <class T, class Norm>
struct NormSource {
    static constexpr int kResults = 1;
    static constexpr bool kFlat = false;
    const T* x;
    Norm norm;

    template <int N>
    __device__ void get(const At& at, compute_t<T> (&v)[1][N]) const {
        load<N>(x + at.index(), v[0]);
        norm.apply(at.row, at.column, v[0]);
        round_values<T>(v[0]);
    }
};

// f.operator()<N>(at) for the packets of an (rows, columns) matrix of n elements, as for_packets.
template <class Source, class F>
__device__ inline void over_source(std::int64_t n, std::int64_t columns, F&& f) {
    for_packets(n, [&]<int N>(std::int64_t i) {
        if constexpr (Source::kFlat) {
            f.template operator()<N>(At{0, i, n});
        } else if (columns % N == 0) {
            f.template operator()<N>(At{i / columns, i % columns, columns});
        } else {  // a packet across rows
            for (int k = 0; k < N; ++k) {
                f.template operator()<1>(At{(i + k) / columns, (i + k) % columns, columns});
            }
        }
    });
}

// ---- Choosing ----------------------------------------------------------------------------------

// Computed on the way are the sources of a training step, in bf16, and to the codes that a step
// has: E4M3 of what forward ops give, and either format of gradients. Others go through memory
// (QuantisedSource): a kernel for each would double the build.
inline bool is_gradient(QuantiseSource of) {
    return of == QuantiseSource::gelu_grad || of == QuantiseSource::swiglu_grad;
}
inline bool has_source(QuantiseSource of, Dtype dtype, Dtype to) {
    if (of == QuantiseSource::value) return true;
    return dtype == Dtype::bf16 && (to == Dtype::e4m3 || (is_gradient(of) && is_fp8(to)));
}
// With factors.
inline bool has_scaled_source(QuantiseSource of, Dtype dtype, Dtype to) {
    const bool known = of == QuantiseSource::value || of == QuantiseSource::swiglu_grad;
    return known && dtype == Dtype::bf16 && is_fp8(to);
}

// Columns of a source's results.
inline std::int64_t source_columns(QuantiseSource of, const Type& first_operand) {
    return first_operand.shape.last() / (of == QuantiseSource::joined_swiglu ? 2 : 1);
}

// f(source) for the operands of a source in 16 bits that goes to codes of To (has_source), whose
// function sees its operand times `factor`; norms in bf16 alone.
template <class T, class To, class F>
void with_source(QuantiseSource of, std::span<const TensorRef> operands, F&& f, float factor = 1) {
    const auto in = [&](std::size_t i) { return operands[i].as<T>(); };
    if (of == QuantiseSource::value) return f(ValueSource<T>{in(0)});
    if constexpr (sizeof(To) == 1) {
        if (of == QuantiseSource::gelu_grad) {
            return f(MapSource<T, GeluGradFunction, 2>{{in(0), in(1)}, {factor}});
        }
        if (of == QuantiseSource::swiglu_grad) {
            return f(SwiGluGradSource<T>{in(0), in(1), {in(2)}, compute_t<T>(factor)});
        }
    }
    if constexpr (std::is_same_v<To, e4m3>) {
        if (of == QuantiseSource::swiglu) {
            return f(MapSource<T, SwiGluFunction, 2>{{in(0), in(1)}, {factor}});
        }
        if (of == QuantiseSource::joined_swiglu) {
            return f(JoinedSwiGluSource<T>{in(0), {factor}});
        }
        if (of == QuantiseSource::gelu) {
            return f(MapSource<T, GeluFunction, 1>{{in(0)}, {factor}});
        }
        if constexpr (std::is_same_v<T, bf16>) {
            const auto vector = [&](std::size_t i) { return operands[i].as<float>(); };
            if (operands.size() == 3) {
                return f(NormSource<T, RmsFunction<float>>{in(0), {vector(1), vector(2)}});
            }
            check(operands.size() == 5, "a norm has 3 or 5 operands, got {}", operands.size());
            f(NormSource<T, LayerFunction<float>>{in(0),
                                                  {vector(1), vector(2), vector(3), vector(4)}});
        }
    }
}

// Factors that divide are inverted first, once for each row or column: an exact reciprocal
// branches.
struct Inverse {
    const float* s;
    float* inverse;

    template <int N>
    __device__ void run(std::int64_t i) const {
#pragma unroll
        for (int k = 0; k < N; ++k) inverse[i + k] = 1.0f / s[i + k];
    }
};

// Scratch for with_scaled_source; factors are the last of its operands.
inline std::int64_t inverse_bytes(const ScaleAlong& scaled, const Type& factors) {
    return scaled.inverse ? total_bytes(factors) : 0;
}

// f(source) for the operands and factors of a source that has_scaled_source.
template <class F>
void with_scaled_source(QuantiseSource of, const ScaleAlong& scaled,
                        std::span<const TensorRef> operands, std::byte* scratch, F&& f) {
    const auto in = [&](std::size_t i) { return operands[i].as<bf16>(); };
    const auto* factors = operands.back().as<float>();
    if (scaled.inverse) {
        auto* const inverse = reinterpret_cast<float*>(scratch);
        for_elements("scale_along", operands.back().type.shape.elements(),
                     Inverse{factors, inverse});
        factors = inverse;
    }
    const auto with = [&]<class X>(const X& last) {
        if (of == QuantiseSource::value) return f(ValueSource<bf16, X>{last});
        f(SwiGluGradSource<bf16, X>{in(0), in(1), last});
    };
    const bf16* const last = in(operands.size() - 2);
    if (scaled.axis == Axis::row) return with(ScaledOperand<bf16, true>{last, factors});
    with(ScaledOperand<bf16, false>{last, factors});
}

}  // namespace octavo::cuda
