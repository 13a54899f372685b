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
        launched("smooth_factors");
    };
    if (rows > 0 && columns % kPacket == 0) {
        launch.template operator()<kPacket>();
    } else if (rows > 0) {
        launch.template operator()<1>();
    }
    for_elements("smooth_factors", columns, FactorsOfTops<compute_t<T>>{tops, s, rounding});
}

// ---- Of rows -----------------------------------------------------------------------------------

template <class T>
struct FactorsOfRows {
    using C = compute_t<T>;
    const T* up;
    C* s;
    std::int64_t columns;
    ScaleRounding rounding;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        std::uint32_t top = 0;
        over_row<Team, N>(columns, [&](std::int64_t i) {
            C v[N];
            load<N>(up + row * columns + i, v);
#pragma unroll
            for (int k = 0; k < N; ++k) top = max(top, magnitude_bits(v[k]));
        });
        top = Team::max(top);
        if (Team::thread() == 0) s[row] = smooth_factor(__uint_as_float(top), rounding);
    }
};

Prepared prepare(const NodeView& node) {
    const auto op = std::get<SmoothFactors>(node.op);
    const Shape shape = node.in[0].shape;
    const std::int64_t scratch = op.axis == Axis::row ? 0 : shape.last() * std::int64_t{4};
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const auto run = [op, shape](const KernelCall& call) {
            auto* const s = call.out[0].as<compute_t<T>>();
            if (op.axis == Axis::column) {
                return column_factors<T>(call.in[0], op.rounding, call.scratch, s);
            }
            for_rows("smooth_factors", shape.rows(), shape.last(),
                     FactorsOfRows<T>{call.in[0].as<T>(), s, shape.last(), op.rounding});
        };
        return Prepared{run, scratch};
    });
}

}  // namespace

void register_smooth_factors(KernelRegistry& registry) {
    registry.add<SmoothFactors>({"smooth_factors", takes_all, prepare});
}

}  // namespace octavo::cuda
