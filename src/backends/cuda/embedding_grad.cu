// Sorts the tokens by their row of the table, so that the summands of a row lie one after another,
// in token order. A frequent token may own most of them: the sorted list is cut into windows of
// equal length, and what belongs to a row that began in an earlier window is summed apart.
#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

constexpr int kWindow = 32;  // tokens
constexpr int kThreads = 128;
constexpr int kAhead = 4;  // rows of dy under way to a thread

// Tokens without an id come last: their key is the size of the vocabulary.
struct SortKeys {
    const std::int32_t* ids;
    std::uint32_t vocab;
    std::uint32_t* keys;
    std::int32_t* tokens;

    template <int N>
    __device__ void run(std::int64_t i) const {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const std::int32_t id = ids[i + k];
            keys[i + k] = id < 0 ? vocab : static_cast<std::uint32_t>(id);
            tokens[i + k] = static_cast<std::int32_t>(i + k);
        }
    }
};

template <class T>
struct SortedTokens {
    using C = compute_t<T>;
    const T* dy;
    const std::uint32_t* keys;  // ascending
    const std::int32_t* tokens;
    std::int64_t count, c;
    std::uint32_t vocab;
    C* dtable;
    C* partials;  // (windows, C)

    __device__ std::int64_t begin(std::int64_t window) const { return window * kWindow; }
    __device__ std::int64_t end(std::int64_t window) const {
        return begin(window + 1) < count ? begin(window + 1) : count;
    }
    // The row at the beginning of this window goes on from the one before.
    __device__ bool continues(std::int64_t window) const {
        const std::int64_t i = begin(window);
        return i > 0 && i < count && keys[i - 1] == keys[i];
    }
    template <int N>
    __device__ void add(std::uint32_t row, std::int64_t column, const C (&sum)[N]) const {
        C x[N];
        load<N>(dtable + row * c + column, x);
#pragma unroll
        for (int k = 0; k < N; ++k) x[k] += sum[k];
        store<N>(dtable + row * c + column, x);
    }
};

// Adds the rows that begin in a window to the table, as far as the window goes.
template <int N, class T>
__global__ void __launch_bounds__(kThreads) add_window_kernel(SortedTokens<T> s) {
    using C = compute_t<T>;
    const std::int64_t window = blockIdx.x;
    const std::int64_t column = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
    if (column >= s.c) return;
    const std::int64_t end = s.end(window);
    std::uint32_t row = s.keys[s.begin(window)];
    bool apart = s.continues(window);
    C sum[N] = {};
    const auto finish = [&] {
        if (apart) {
            store<N>(s.partials + window * s.c + column, sum);
        } else {
            s.add(row, column, sum);
        }
    };
    for (std::int64_t first = s.begin(window); first < end && row != s.vocab; first += kAhead) {
        Packet<T, N> dy[kAhead];
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
            if (first + a >= end) continue;
            const std::int64_t token = s.tokens[first + a];
            dy[a] = read_packet<N>(s.dy + token * s.c + column);
        }
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
            if (first + a >= end || row == s.vocab) continue;
            if (const std::uint32_t next = s.keys[first + a]; next != row) {
                finish();
                row = next;
                apart = false;
#pragma unroll
                for (int k = 0; k < N; ++k) sum[k] = 0;
            }
#pragma unroll
            for (int k = 0; k < N; ++k) sum[k] += widen(dy[a].x[k]);
        }
    }
    if (row != s.vocab) finish();
}

// Adds what later windows have of the row that a window ends with, if it began in this window.
template <int N, class T>
__global__ void __launch_bounds__(kThreads) add_continued_kernel(SortedTokens<T> s) {
    using C = compute_t<T>;
    const std::int64_t window = blockIdx.x, first = s.begin(window);
    const std::int64_t column = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
    const std::uint32_t row = s.keys[s.end(window) - 1];
    const bool began_before = s.continues(window) && s.keys[first] == row;
    if (column >= s.c || row == s.vocab || began_before || !s.continues(window + 1)) return;
    C sum[N] = {};
    for (std::int64_t w = window + 1; s.begin(w) < s.count && s.keys[s.begin(w)] == row; ++w) {
        C part[N];
        load<N>(s.partials + w * s.c + column, part);
#pragma unroll
        for (int k = 0; k < N; ++k) sum[k] += part[k];
    }
    s.add(row, column, sum);
}

struct Scratch {  // offsets in bytes
    std::int64_t keys, sorted_keys, tokens, sorted_tokens, partials, sort, bytes;
    std::size_t sort_bytes;
};

void sort(void* memory, std::size_t& bytes, const std::uint32_t* keys, std::uint32_t* sorted_keys,
          const std::int32_t* tokens, std::int32_t* sorted_tokens, std::int64_t count,
          std::int64_t vocab) {
    const int bits = std::bit_width(static_cast<std::uint64_t>(vocab));
    expect(cub::DeviceRadixSort::SortPairs(memory, bytes, keys, sorted_keys, tokens, sorted_tokens,
                                           static_cast<int>(count), 0, bits, stream()),
           "cub::DeviceRadixSort");
}

Scratch cut_scratch(std::int64_t count, std::int64_t vocab, std::int64_t c,
                    std::size_t element_bytes) {
    Scratch s{};
    sort(nullptr, s.sort_bytes, nullptr, nullptr, nullptr, nullptr, count, vocab);
    ScratchCounter counter;
    for (std::int64_t* list : {&s.keys, &s.sorted_keys, &s.tokens, &s.sorted_tokens}) {
        *list = counter.reserve(count * 4);
    }
    s.partials =
        counter.reserve(ceil_div(count, kWindow) * c * static_cast<std::int64_t>(element_bytes));
    s.sort = counter.reserve(static_cast<std::int64_t>(s.sort_bytes));
    s.bytes = counter.bytes();
    return s;
}

void start_table(const KernelCall& call) {
    const TensorRef& out = call.out[0];
    if (call.in.size() < 3) {
        clear(out.data, data_bytes(out.type));
    } else {
        copy(call.in[2].data, out.data, data_bytes(out.type));
    }
}

template <int N, class T>
void add_tokens(const SortedTokens<T>& s) {
    const unsigned threads = std::min<unsigned>(kThreads, row_threads(ceil_div(s.c * kPacket, N)));
    const dim3 grid(static_cast<unsigned>(ceil_div(s.count, kWindow)),
                    static_cast<unsigned>(ceil_div(s.c, std::int64_t{threads} * N)));
    add_window_kernel<N><<<grid, threads, 0, stream()>>>(s);
    launched("embedding_grad");
    add_continued_kernel<N><<<grid, threads, 0, stream()>>>(s);
    launched("embedding_grad");
}

template <class T>
void embedding_grad(const KernelCall& call, const Scratch& at, std::int64_t vocab) {
    using C = compute_t<T>;
    const Shape& shape = call.in[0].type.shape;
    const std::int64_t count = shape.rows(), c = shape.last();
    start_table(call);
    if (count == 0 || c == 0) return;

    auto* keys = reinterpret_cast<std::uint32_t*>(call.scratch + at.keys);
    auto* sorted_keys = reinterpret_cast<std::uint32_t*>(call.scratch + at.sorted_keys);
    auto* tokens = reinterpret_cast<std::int32_t*>(call.scratch + at.tokens);
    auto* sorted_tokens = reinterpret_cast<std::int32_t*>(call.scratch + at.sorted_tokens);
    for_elements(
        "embedding_grad", count,
        SortKeys{call.in[1].as<std::int32_t>(), static_cast<std::uint32_t>(vocab), keys, tokens});
    std::size_t sort_bytes = at.sort_bytes;
    sort(call.scratch + at.sort, sort_bytes, keys, sorted_keys, tokens, sorted_tokens, count,
         vocab);

    const SortedTokens<T> s{.dy = call.in[0].as<T>(),
                            .keys = sorted_keys,
                            .tokens = sorted_tokens,
                            .count = count,
                            .c = c,
                            .vocab = static_cast<std::uint32_t>(vocab),
                            .dtable = call.out[0].as<C>(),
                            .partials = reinterpret_cast<C*>(call.scratch + at.partials)};
    if (c % kPacket == 0) {
        add_tokens<kPacket>(s);
    } else {
        add_tokens<1>(s);
    }
}

Prepared prepare(const NodeView& node) {
    const std::int64_t vocab = std::get<EmbeddingGrad>(node.op).vocab;
    const Shape& shape = node.in[0].shape;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const Scratch at = cut_scratch(shape.rows(), vocab, shape.last(), sizeof(compute_t<T>));
        return Prepared{[at, vocab](const KernelCall& call) { embedding_grad<T>(call, at, vocab); },
                        at.bytes};
    });
}

}  // namespace

void register_embedding_grad(KernelRegistry& registry) {
    registry.add<EmbeddingGrad>({"embedding_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
