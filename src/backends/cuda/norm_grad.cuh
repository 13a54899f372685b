// Gradients of both norms. With n = (x - mean) * rstd and g = dy * w:
//     dx = rstd * (g - mean(g) - n * mean(g * n)) [+ acc],   dw = sum over rows of dy * n,
//     db = sum over rows of dy
// RMS norm has no means and no db: kCentred is false, `mean` and `db` are null.
#pragma once

#include "backends/cuda/column_sums.cuh"
#include "backends/cuda/dynamic_rescale.h"
#include "backends/cuda/rows.cuh"
#include "backends/cuda/statistic.cuh"

namespace octavo::cuda {

template <class T, bool kCentred>
struct NormGrad {
    using C = compute_t<T>;
    static constexpr int kSums = kCentred ? 2 : 1;  // dw, db

    const T *x, *dy, *acc;  // acc: null if there is none
    const C *w, *mean, *rstd;
    T* dx;
    std::int64_t rows, c;
    double* squares = nullptr;  // of dx, by blocks, where they are wanted

    __device__ C centre(std::int64_t row) const {
        if constexpr (kCentred) {
            return mean[row];
        } else {
            return C(0);
        }
    }
};

// What the elements of a row of dx share.
template <class C>
struct RowMeans {
    C g, gn;
};

// ---- One pass over memory: a block keeps a row, and its share of dw and db, in registers --------

inline constexpr int kNormBlock = 512;

template <class T, bool kCentred, int kPackets, bool kMeasured>
__global__ void __launch_bounds__(kNormBlock, kPackets == 1 ? 2 : 1)
    norm_grad_kernel(NormGrad<T, kCentred> op, compute_t<T>* partials) {
    using C = compute_t<T>;
    using Raw = Packet<T, kPacket>;
    const std::int64_t chunk = blockIdx.x, chunks = gridDim.x, c = op.c;
    const RowRange range = chunk_rows(op.rows, chunk, chunks);
    const auto column = [](int p) { return std::int64_t{threadIdx.x + p * blockDim.x} * kPacket; };

    C w[kPackets][kPacket] = {}, dw[kPackets][kPacket] = {}, db[kPackets][kPacket] = {};
    [[maybe_unused]] double squares = 0;
    Raw next_x[kPackets], next_dy[kPackets];
    const auto fetch = [&](std::int64_t row) {
#pragma unroll
        for (int p = 0; p < kPackets; ++p) {
            if (column(p) >= c) continue;
            next_x[p] = read_packet<kPacket>(op.x + row * c + column(p));
            next_dy[p] = read_packet<kPacket>(op.dy + row * c + column(p));
        }
    };
#pragma unroll
    for (int p = 0; p < kPackets; ++p) {
        if (column(p) < c) load<kPacket>(op.w + column(p), w[p]);
    }
    if (range.begin < range.end) fetch(range.begin);

    for (std::int64_t row = range.begin; row < range.end; ++row) {
        Raw x[kPackets], dy[kPackets], acc[kPackets];
#pragma unroll
        for (int p = 0; p < kPackets; ++p) {
            x[p] = next_x[p];
            dy[p] = next_dy[p];
            if (op.acc && column(p) < c) {
                acc[p] = read_packet<kPacket>(op.acc + row * c + column(p));
            }
        }
        // Under way while this row is summed; dx may take an operand's place, but of its own row.
        if (row + 1 < range.end) fetch(row + 1);

        const C m = op.centre(row), r = op.rstd[row];
        C sum = 0, dot = 0;
#pragma unroll
        for (int p = 0; p < kPackets; ++p) {
            if (column(p) >= c) continue;
#pragma unroll
            for (int k = 0; k < kPacket; ++k) {
                const C g = widen(dy[p].x[k]) * w[p][k];
                sum += g;
                dot += g * ((widen(x[p].x[k]) - m) * r);
            }
        }
        RowMeans<C> means{0, block_sum(dot) / C(c)};
        if constexpr (kCentred) means.g = block_sum(sum) / C(c);

#pragma unroll
        for (int p = 0; p < kPackets; ++p) {
            if (column(p) >= c) continue;
            C dx[kPacket];
#pragma unroll
            for (int k = 0; k < kPacket; ++k) {
                const C d = widen(dy[p].x[k]), n = (widen(x[p].x[k]) - m) * r;
                dw[p][k] += d * n;
                if constexpr (kCentred) db[p][k] += d;
                dx[k] = r * (d * w[p][k] - means.g - n * means.gn);
                if (op.acc) dx[k] += widen(acc[p].x[k]);
            }
            if constexpr (kMeasured) {
                round_values<T>(dx);
                squares += packet_statistic<Statistic::l2>(dx);
            }
            store<kPacket>(op.dx + row * c + column(p), dx);
        }
    }
    if constexpr (kMeasured) {
        squares = block_joined<Statistic::l2>(squares);
        if (threadIdx.x == 0) op.squares[chunk] = squares;
    }

#pragma unroll
    for (int p = 0; p < kPackets; ++p) {
        if (column(p) >= c) continue;
        store<kPacket>(partials + chunk * c + column(p), dw[p]);
        if constexpr (kCentred) {
            store<kPacket>(partials + (chunks + chunk) * c + column(p), db[p]);
        }
    }
}

// ---- Two passes, for rows of any length --------------------------------------------------------

template <class T, bool kCentred>
struct NormGradMeans {
    using C = compute_t<T>;
    NormGrad<T, kCentred> op;
    RowMeans<C>* means;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        const T *xr = op.x + row * op.c, *dyr = op.dy + row * op.c;
        const C m = op.centre(row), r = op.rstd[row];
        C sum = 0, dot = 0;
        over_row<Team, N>(op.c, [&](std::int64_t i) {
            C x[N], dy[N], w[N];
            load<N>(xr + i, x);
            load<N>(dyr + i, dy);
            load<N>(op.w + i, w);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const C g = dy[k] * w[k];
                sum += g;
                dot += g * ((x[k] - m) * r);
            }
        });
        RowMeans<C> result{0, Team::sum(dot) / C(op.c)};
        if constexpr (kCentred) result.g = Team::sum(sum) / C(op.c);
        if (Team::thread() == 0) means[row] = result;
    }
};

template <class T, bool kCentred>
struct NormGradColumns {
    using C = compute_t<T>;
    NormGrad<T, kCentred> op;
    const RowMeans<C>* means;

    template <int N>
    __device__ void run(std::int64_t row, std::int64_t column,
                        C (&sums)[NormGrad<T, kCentred>::kSums][N]) const {
        const std::int64_t at = row * op.c + column;
        const C m = op.centre(row), r = op.rstd[row];
        const RowMeans<C> mean = means[row];
        C x[N], dy[N], w[N], acc[N] = {};
        load<N>(op.x + at, x);
        load<N>(op.dy + at, dy);
        load<N>(op.w + column, w);
        if (op.acc) load<N>(op.acc + at, acc);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const C n = (x[k] - m) * r;
            sums[0][k] += dy[k] * n;
            if constexpr (kCentred) sums[1][k] += dy[k];
            x[k] = r * (dy[k] * w[k] - mean.g - n * mean.gn) + acc[k];
        }
        store<N>(op.dx + at, x);
    }
};

// ---- Launch ------------------------------------------------------------------------------------

// Packets of a row that a thread holds; 0: the row does not fit into a block's registers.
template <class T>
int norm_grad_packets(std::int64_t c) {
    if (std::is_same_v<T, double> || c % kPacket != 0) return 0;
    const std::int64_t packets = ceil_div(c, kNormBlock * kPacket);
    return packets <= 2 ? static_cast<int>(packets) : 0;
}

// The size of dx, found while it is written.
struct NormGradSize {
    DynamicRescale op;
    const float* scale;
    float* size;
};

// Whether it can be: there are registers for it. Else dx is read once more.
template <class T>
bool measures_norm_grad(const DynamicRescale& op, std::int64_t rows, std::int64_t c) {
    const bool in_registers = sizeof(T) == 2 && norm_grad_packets<T>(c) > 0;
    return op.statistic == Statistic::l2 && rows > 0 && in_registers;
}

template <class T, bool kCentred>
std::int64_t norm_grad_bytes(std::int64_t rows, std::int64_t c) {
    using C = compute_t<T>;
    ScratchCounter counter;
    counter.reserve(rows * static_cast<std::int64_t>(sizeof(RowMeans<C>)));
    counter.reserve(NormGrad<T, kCentred>::kSums * partial_bytes<C>(rows, c));
    counter.reserve(row_chunks(rows, c) * static_cast<std::int64_t>(sizeof(double)));
    return counter.bytes();
}

// dx, and dw and db through partial rows in scratch; and the size of dx.
template <class T, bool kCentred>
void norm_grad(std::string_view what, NormGrad<T, kCentred> op, std::byte* scratch,
               compute_t<T>* dw, compute_t<T>* db, const std::optional<NormGradSize>& size) {
    using C = compute_t<T>;
    ScratchCounter counter;
    auto* means = reinterpret_cast<RowMeans<C>*>(
        scratch + counter.reserve(op.rows * static_cast<std::int64_t>(sizeof(RowMeans<C>))));
    C* partials =
        reinterpret_cast<C*>(scratch + counter.reserve(op.kSums * partial_bytes<C>(op.rows, op.c)));
    const std::int64_t chunks = row_chunks(op.rows, op.c);
    const int packets = norm_grad_packets<T>(op.c);
    op.squares = reinterpret_cast<double*>(
        scratch + counter.reserve(chunks * static_cast<std::int64_t>(sizeof(double))));

    if (packets == 0) {
        for_rows(what, op.rows, op.c, NormGradMeans<T, kCentred>{op, means});
        column_partials<NormGrad<T, kCentred>::kSums>(what, op.rows, op.c, partials,
                                                      NormGradColumns<T, kCentred>{op, means});
    } else if constexpr (!std::is_same_v<T, double>) {
        const auto blocks = static_cast<unsigned>(chunks);
        const unsigned threads = row_threads(ceil_div(op.c, packets));
        const auto launch = [&]<int kPackets>(std::integral_constant<int, kPackets>) {
            auto* kernel = norm_grad_kernel<T, kCentred, kPackets, false>;
            if constexpr (sizeof(T) == 2) {
                if (size) kernel = norm_grad_kernel<T, kCentred, kPackets, true>;
            }
            kernel<<<blocks, threads, 0, stream()>>>(op, partials);
        };
        if (packets == 1) {
            launch(std::integral_constant<int, 1>{});
        } else {
            launch(std::integral_constant<int, 2>{});
        }
        launched(what);
    }
    add_partials(what, partials, chunks, op.c, dw);
    if constexpr (kCentred) add_partials(what, partials + chunks * op.c, chunks, op.c, db);
    if (size) {
        find_size(size->op, op.squares, chunks, op.rows * op.c, size->scale, size->size);
    }
}

}  // namespace octavo::cuda
