#include "backends/cuda/activations.cuh"
#include "backends/cuda/rows.cuh"
#include "backends/cuda/scaling.cuh"

namespace octavo::cuda {
namespace {

// ---- Maxima of columns: of chunks of rows, then over the chunks, in any order ------------------

constexpr std::int64_t kChunk = 128;  // rows

template <class T, int N>
__global__ void __launch_bounds__(kBlock)
    column_tops_kernel(const T* up, std::int64_t rows, std::int64_t columns, std::uint32_t* tops) {
    const std::int64_t column = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
    if (column >= columns) return;
    const std::int64_t begin = std::int64_t{blockIdx.x} * kChunk;
    const std::int64_t end = begin + kChunk < rows ? begin + kChunk : rows;
    std::uint32_t top[N] = {};
#pragma unroll 4
    for (std::int64_t row = begin; row < end; ++row) {
        compute_t<T> v[N];
        load<N>(up + row * columns + column, v);
#pragma unroll
        for (int k = 0; k < N; ++k) top[k] = max(top[k], magnitude_bits(v[k]));
    }
#pragma unroll
    for (int k = 0; k < N; ++k) atomicMax(tops + column + k, top[k]);
}

template <class C>
struct FactorsOfTops {
    const std::uint32_t* tops;
    C* s;
    ScaleRounding rounding;

    template <int N>
    __device__ void run(std::int64_t i) const {
#pragma unroll
        for (int k = 0; k < N; ++k)
            s[i + k] = smooth_factor(__uint_as_float(tops[i + k]), rounding);
    }
};

template <class T>
void column_factors(const TensorRef& up, ScaleRounding rounding, std::byte* scratch,
                    compute_t<T>* s) {
    const std::int64_t rows = up.type.shape.rows(), columns = up.type.shape.last();
    auto* const tops = reinterpret_cast<std::uint32_t*>(scratch);
    if (columns == 0) return;
    clear(tops, columns * std::int64_t{sizeof(std::uint32_t)});
    const auto launch = [&]<int N>() {
        const unsigned threads = std::min<unsigned>(kBlock, row_threads(columns * kPacket / N));
        const dim3 grid(static_cast<unsigned>(ceil_div(rows, kChunk)),
                        static_cast<unsigned>(ceil_div(columns, std::int64_t{threads} * N)));
        column_tops_kernel<T, N><<<grid, threads, 0, stream()>>>(up.as<T>(), rows, columns, tops);
        launched("smooth_swiglu");
    };
    if (rows > 0 && columns % kPacket == 0) {
        launch.template operator()<kPacket>();
    } else if (rows > 0) {
        launch.template operator()<1>();
    }
    for_elements("smooth_swiglu", columns, FactorsOfTops<compute_t<T>>{tops, s, rounding});
}

// ---- The function -------------------------------------------------------------------------------

// kRow: finds the factors of rows first; else those of columns are there.
template <class T, bool kRow>
struct SmoothRows {
    using C = compute_t<T>;
    const T *gate, *up;
    T* h;
    C* s;               // of rows: to write
    const C* divisors;  // of columns
    float* amax;        // null: not asked for
    std::int64_t columns;
    ScaleRounding rounding;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        const T *g = gate + row * columns, *u = up + row * columns;
        T* y = h + row * columns;
        C whole = 1;
        if constexpr (kRow) {
            std::uint32_t top = 0;
            over_row<Team, N>(columns, [&](std::int64_t i) {
                C v[N];
                load<N>(u + i, v);
#pragma unroll
                for (int k = 0; k < N; ++k) top = max(top, magnitude_bits(v[k]));
            });
            const C factor = smooth_factor(__uint_as_float(Team::max(top)), rounding);
            whole = C(1) / factor;
            if (Team::thread() == 0) s[row] = factor;
        }
        std::uint32_t top = 0;
        over_row<Team, N>(columns, [&](std::int64_t i) {
            C a[N], b[N], f[N];
            load<N>(g + i, a);
            load<N>(u + i, b);
            if constexpr (!kRow) load<N>(divisors + i, f);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                b[k] *= kRow ? whole : C(1) / f[k];
                a[k] = SwiGluFunction{}(a[k], b[k]);
                if (amax) top = max(top, magnitude_bits(widen(round_to<T>(a[k]))));
            }
            store<N>(y + i, a);
        });
        if (amax) raise_to_block_max(amax, top);
    }
};

template <class T, bool kRow>
void smooth_swiglu(const KernelCall& call, const SmoothSwiGlu& op) {
    using C = compute_t<T>;
    const Shape& shape = call.in[0].type.shape;
    C* const s = call.out[1].as<C>();
    float* const amax = op.amax ? call.out[2].as<float>() : nullptr;
    if (amax) clear(amax, sizeof(float));
    if (!kRow) column_factors<T>(call.in[1], op.rounding, call.scratch, s);
    for_rows(
        "smooth_swiglu", shape.rows(), shape.last(),
        SmoothRows<T, kRow>{call.in[0].as<T>(), call.in[1].as<T>(), call.out[0].as<T>(), s,
                            op.given ? call.in[2].as<C>() : s, amax, shape.last(), op.rounding});
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<SmoothSwiGlu>(node.op);
    const bool row = op.axis == Axis::row;
    const std::int64_t scratch = row ? 0 : node.in[0].shape.last() * std::int64_t{4};
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[op, row](const KernelCall& call) {
                            if (row) return smooth_swiglu<T, true>(call, op);
                            smooth_swiglu<T, false>(call, op);
                        },
                        scratch};
    });
}

}  // namespace

void register_smooth_swiglu(KernelRegistry& registry) {
    registry.add<SmoothSwiGlu>({"smooth_swiglu", takes_all, prepare});
}

}  // namespace octavo::cuda
