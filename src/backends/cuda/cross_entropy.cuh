// Rows of the softmax cross entropy, for the kernels of cross_entropy, its gradient and head_loss.
// T is the type of the logits; statistics and factors are of type compute_t<T>. Scalars are in
// device memory. A block works on one row.
//
// Rows of an odd vocabulary (GPT-2's 50257) do not begin at multiples of 16 bytes: the elements up
// to the first such address and after the last whole packet are taken one by one.
#pragma once

#include <limits>

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

inline constexpr int kLossBlock = 512;

// Elements [0, head), packets, and from `tail` on elements again.
struct RowParts {
    std::int64_t head, packets, tail;
};

template <class T>
__device__ inline RowParts row_parts(const T* x, std::int64_t v) {
    using Raw = Packet<T, kPacket>;
    const auto past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(x) % alignof(Raw));
    const std::int64_t to_next = (alignof(Raw) - past) % alignof(Raw) / sizeof(T);
    const std::int64_t head = to_next < v ? to_next : v;
    const std::int64_t packets = (v - head) / kPacket;
    return {head, packets, head + packets * kPacket};
}

// f(i) for this thread's share of the elements outside the packets.
template <class F>
__device__ inline void over_ends(const RowParts& parts, std::int64_t v, F&& f) {
    for (std::int64_t i = threadIdx.x; i < parts.head; i += blockDim.x) f(i);
    for (std::int64_t i = parts.tail + threadIdx.x; i < v; i += blockDim.x) f(i);
}

// ---- log sum exp -------------------------------------------------------------------------------

// Logits are multiplied by k, a power of two, as they are read.

// For logits of type T: those of 16 bits are far coarser than the quick exponential.
template <class T>
__device__ inline compute_t<T> exponential(compute_t<T> x) {
    if constexpr (sizeof(T) == 2) {
        return __expf(x);
    } else {
        return exp(x);
    }
}

// sum exp(x[i]) = e^top * sum, over what has been added of logits of type T.
template <class T>
struct ExpSum {
    using C = compute_t<T>;
    // Not -infinity, for which x - top would be NaN as long as only -infinity has been seen.
    C top = std::numeric_limits<C>::lowest();
    C sum = 0;

    template <int N>
    __device__ void add(const C (&logits)[N], C factor) {
        C x[N], higher = top;
#pragma unroll
        for (int k = 0; k < N; ++k) {
            x[k] = logits[k] * factor;
            higher = fmax(higher, x[k]);
        }
        C part = 0;
#pragma unroll
        for (int k = 0; k < N; ++k) part += exponential<T>(x[k] - higher);
        sum = sum * exponential<T>(top - higher) + part;
        top = higher;
    }
};

// Of a whole row; the sums of threads are joined in double, so that large vocabularies cost no
// accuracy.
template <class C>
struct LogSumExp {
    C top;
    double sum;

    __device__ double value() const { return double(top) + log(sum); }
};

template <class T>
__device__ inline LogSumExp<compute_t<T>> join(const ExpSum<T>& mine) {
    using C = compute_t<T>;
    const C top = block_max(mine.top);
    return {top, block_sum(double(mine.sum) * exp(double(mine.top) - double(top)))};
}

// By one thread. The loss does not go through lse, which would cost its digits where logits are
// large.
template <class C>
__device__ inline double row_loss(const LogSumExp<C>& s, C at_target) {
    return (double(s.top) - double(at_target)) + log(s.sum);
}

// ---- Losses ------------------------------------------------------------------------------------

template <class T>
__global__ void __launch_bounds__(kLossBlock)
    row_losses_kernel(const T* logits, const std::int32_t* targets, std::int64_t v, compute_t<T> k,
                      compute_t<T>* lse, double* loss) {
    using C = compute_t<T>;
    const std::int64_t row = blockIdx.x;
    const std::int32_t target = targets[row];
    if (target < 0) {
        if (threadIdx.x == 0) {
            lse[row] = 0;
            loss[row] = 0;
        }
        return;
    }
    const T* x = logits + row * v;
    const RowParts parts = row_parts(x, v);
    ExpSum<T> sum;
#pragma unroll 2
    for (std::int64_t p = threadIdx.x; p < parts.packets; p += blockDim.x) {
        C packet[kPacket];
        load<kPacket>(x + parts.head + p * kPacket, packet);
        sum.add(packet, k);
    }
    over_ends(parts, v, [&](std::int64_t i) { sum.add({widen(x[i])}, k); });
    const LogSumExp<C> s = join(sum);
    if (threadIdx.x == 0) {
        lse[row] = C(s.value());
        loss[row] = row_loss(s, widen(x[target]) * k);
    }
}

// loss[i] = -log softmax(logits[i])[targets[i]] and lse[i]; both 0 in rows without a target.
template <class T>
void row_losses(const T* logits, const std::int32_t* targets, std::int64_t rows, std::int64_t v,
                compute_t<T> k, compute_t<T>* lse, double* loss) {
    if (rows == 0) return;
    row_losses_kernel<T><<<static_cast<unsigned>(rows), row_threads(v), 0, stream()>>>(
        logits, targets, v, k, lse, loss);
    launched("row_losses");
}

template <class C>
__global__ void __launch_bounds__(kLossBlock)
    total_loss_kernel(const double* loss, std::int64_t rows, const C* weight, C* out) {
    double sum = 0;
    for (std::int64_t i = threadIdx.x; i < rows; i += kLossBlock) sum += loss[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out = C(double(*weight) * sum);
}

// out = weight * sum of the losses, in a fixed order.
template <class C>
void total_loss(const double* loss, std::int64_t rows, const C* weight, C* out) {
    total_loss_kernel<<<1, kLossBlock, 0, stream()>>>(loss, rows, weight, out);
    launched("total_loss");
}

// ---- Gradients ---------------------------------------------------------------------------------

// factor * (softmax(k x) - onehot(target)) for elements [i, i + N) of a row.
template <class T, int N, class C>
__device__ inline void softmax_gradient(C (&x)[N], C k, C lse, C factor, std::int32_t target,
                                        std::int64_t i) {
    const int at = static_cast<int>(target - i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
        const C p = exponential<T>(x[j] * k - lse);
        x[j] = factor * (j == at ? p - C(1) : p);
    }
}

template <class T>
__device__ inline void clear_row(T* x, std::int64_t v) {
    const RowParts parts = row_parts(x, v);
    constexpr Packet<T, kPacket> kZeros{};
    for (std::int64_t p = threadIdx.x; p < parts.packets; p += blockDim.x) {
        write_packet<kPacket>(x + parts.head + p * kPacket, kZeros);
    }
    over_ends(parts, v, [&](std::int64_t i) { x[i] = T{}; });
}

template <class T>
__global__ void __launch_bounds__(kLossBlock)
    row_gradients_kernel(const T* logits, const std::int32_t* targets, const compute_t<T>* lse,
                         std::int64_t v, const compute_t<T>* dloss, const compute_t<T>* weight,
                         compute_t<T> k, compute_t<T> outer, T* dlogits) {
    using C = compute_t<T>;
    const std::int64_t row = blockIdx.x;
    const std::int32_t target = targets[row];
    const T* x = logits + row * v;
    T* dx = dlogits + row * v;
    if (target < 0) {
        clear_row(dx, v);
        return;
    }
    const C factor = *dloss * *weight * outer, s = lse[row];
    const RowParts parts = row_parts(x, v);
#pragma unroll 2
    for (std::int64_t p = threadIdx.x; p < parts.packets; p += blockDim.x) {
        const std::int64_t i = parts.head + p * kPacket;
        C packet[kPacket];
        load<kPacket>(x + i, packet);
        softmax_gradient<T>(packet, k, s, factor, target, i);
        store<kPacket>(dx + i, packet);
    }
    over_ends(parts, v, [&](std::int64_t i) {
        C element[1] = {widen(x[i])};
        softmax_gradient<T>(element, k, s, factor, target, i);
        store<1>(dx + i, element);
    });
}

// dlogits = outer * dloss * weight * (softmax(k logits) - onehot(target)), 0 in rows without a
// target. dlogits may be logits.
template <class T>
void row_gradients(const T* logits, const std::int32_t* targets, const compute_t<T>* lse,
                   std::int64_t rows, std::int64_t v, const compute_t<T>* dloss,
                   const compute_t<T>* weight, compute_t<T> k, compute_t<T> outer, T* dlogits) {
    if (rows == 0) return;
    row_gradients_kernel<T><<<static_cast<unsigned>(rows), row_threads(v), 0, stream()>>>(
        logits, targets, lse, v, dloss, weight, k, outer, dlogits);
    launched("row_gradients");
}

// ---- Both at once ------------------------------------------------------------------------------

// What a block keeps of its row, as it came from memory: two blocks to a multiprocessor, so that
// one reads while the other writes. The rest of a longer row, last read, comes from the L2 cache.
inline constexpr std::int64_t kKeptBytes = 104 << 10;

template <class T>
__global__ void __launch_bounds__(kLossBlock, 2)
    row_losses_and_gradients_kernel(T* logits, const std::int32_t* targets, std::int64_t v,
                                    std::int64_t stride, std::int64_t kept,
                                    const compute_t<T>* dloss, const compute_t<T>* weight,
                                    compute_t<T> k, compute_t<T> outer, double* loss) {
    using C = compute_t<T>;
    using Raw = Packet<T, kPacket>;
    extern __shared__ uint4 shared[];
    Raw* const copies = reinterpret_cast<Raw*>(shared);  // the first `kept` packets
    __shared__ C row_lse;

    const std::int64_t row = blockIdx.x;
    const std::int32_t target = targets[row];
    T* const x = logits + row * stride;
    if (target < 0) {
        clear_row(x, v);
        if (threadIdx.x == 0) loss[row] = 0;
        return;
    }
    const RowParts parts = row_parts(x, v);
    Raw* const packets = reinterpret_cast<Raw*>(x + parts.head);

    ExpSum<T> sum;
#pragma unroll 2
    for (std::int64_t p = threadIdx.x; p < parts.packets; p += blockDim.x) {
        const Raw raw = packets[p];
        if (p < kept) copies[p] = raw;
        C packet[kPacket];
        load<kPacket>(raw.x, packet);
        sum.add(packet, k);
    }
    over_ends(parts, v, [&](std::int64_t i) { sum.add({widen(x[i])}, k); });
    const LogSumExp<C> s = join(sum);
    if (threadIdx.x == 0) {
        row_lse = C(s.value());
        loss[row] = row_loss(s, widen(x[target]) * k);
    }
    __syncthreads();  // after it the row may change

    const C lse = row_lse, factor = *dloss * *weight * outer;
    for (std::int64_t p = parts.packets - 1 - threadIdx.x; p >= 0; p -= blockDim.x) {
        const Raw raw = p < kept ? copies[p] : packets[p];
        C packet[kPacket];
        load<kPacket>(raw.x, packet);
        softmax_gradient<T>(packet, k, lse, factor, target, parts.head + p * kPacket);
        store<kPacket>(packets[p].x, packet);
    }
    over_ends(parts, v, [&](std::int64_t i) {
        C element[1] = {widen(x[i])};
        softmax_gradient<T>(element, k, lse, factor, target, i);
        store<1>(x + i, element);
    });
}

// row_losses, and row_gradients in place, in one launch that reads the logits from memory once.
// Rows begin `stride` elements apart; what lies between them is left alone.
template <class T>
void row_losses_and_gradients(T* logits, const std::int32_t* targets, std::int64_t rows,
                              std::int64_t v, std::int64_t stride, const compute_t<T>* dloss,
                              const compute_t<T>* weight, compute_t<T> k, compute_t<T> outer,
                              double* loss) {
    if (rows == 0) return;
    constexpr auto kPacketBytes = static_cast<std::int64_t>(sizeof(Packet<T, kPacket>));
    static const bool allowed = [] {
        expect(cudaFuncSetAttribute(row_losses_and_gradients_kernel<T>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, kKeptBytes),
               "cudaFuncSetAttribute");
        return true;
    }();
    static_cast<void>(allowed);
    const std::int64_t kept = std::min(v / kPacket, kKeptBytes / kPacketBytes);
    row_losses_and_gradients_kernel<T>
        <<<static_cast<unsigned>(rows), row_threads(v), kept * kPacketBytes, stream()>>>(
            logits, targets, v, stride, kept, dloss, weight, k, outer, loss);
    launched("row_losses_and_gradients");
}

}  // namespace octavo::cuda
