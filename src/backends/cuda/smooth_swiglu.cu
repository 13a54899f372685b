#include "backends/cuda/activations.cuh"
#include "backends/cuda/rows.cuh"
#include "backends/cuda/scaling.cuh"

namespace octavo::cuda {
namespace {

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
void smooth_swiglu(const KernelCall& call, const SmoothSwiGlu& op, const Prepared& factors) {
    using C = compute_t<T>;
    const Shape& shape = call.in[0].type.shape;
    C* const s = call.out[1].as<C>();
    float* const amax = op.amax ? call.out[2].as<float>() : nullptr;
    if (amax) clear(amax, sizeof(float));
    if (!kRow) factors.run({call.in.subspan(1, 1), call.out.subspan(1, 1), call.scratch});
    for_rows(
        "smooth_swiglu", shape.rows(), shape.last(),
        SmoothRows<T, kRow>{call.in[0].as<T>(), call.in[1].as<T>(), call.out[0].as<T>(), s,
                            op.given ? call.in[2].as<C>() : s, amax, shape.last(), op.rounding});
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<SmoothSwiGlu>(node.op);
    // Of columns; those of a row are found while it is in the cache.
    Prepared factors;
    if (op.axis == Axis::column) {
        factors = prepare_op(kernel_registry(), SmoothFactors{op.axis, op.rounding},
                             node.in.subspan(1, 1));
    }
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const auto run = [=](const KernelCall& call) {
            if (op.axis == Axis::row) return smooth_swiglu<T, true>(call, op, factors);
            smooth_swiglu<T, false>(call, op, factors);
        };
        return Prepared{run, factors.scratch_bytes};
    });
}

}  // namespace

void register_smooth_swiglu(KernelRegistry& registry) {
    registry.add<SmoothSwiGlu>({"smooth_swiglu", takes_all, prepare});
}

}  // namespace octavo::cuda
