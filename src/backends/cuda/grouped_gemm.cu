#include "backends/cuda/grouped_gemm.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "backends/cuda/device.h"
#include "backends/cuda/grouped_gemm.cuh"
#include "backends/cuda/tensor_map.h"
#include "base/error.h"

namespace octavo::cuda {
namespace {

using grouped::Config, grouped::Params, grouped::Sums;
using Form = GroupedProduct::Form;

std::int64_t rounded_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

template <class C>
Params params(const GroupedProduct& g, const GroupedOperands& on) {
    const bool by_k = g.form == Form::by_k;
    const std::int64_t m = by_k ? g.m : g.rows, k = by_k ? g.rows : g.k;
    const std::int64_t planes = by_k ? g.experts : 1, b_planes = by_k ? 1 : g.experts;
    const auto operand = [&](const void* data, Dtype dtype, bool transposed, std::int64_t mn,
                             std::int64_t count, int box) {
        return transposed ? tensor_map(data, dtype, std::array{mn, k, count}, C::kStageK)
                          : tensor_map(data, dtype, std::array{k, mn, count}, box);
    };
    Params p{};
    p.a = operand(on.a, g.a_type, g.a_transposed, m, 1, grouped::kM);
    p.b = operand(on.b, g.b_type, g.b_transposed, g.n, b_planes, C::kN / grouped::kCluster);
    p.out = tensor_map(on.out, g.out_type, std::array{g.n, m, planes}, 64);
    p.offsets = on.offsets;
    p.a_scale = on.a_scale;
    p.b_scale = on.b_scale;
    p.acc = on.acc;
    p.by_k = by_k;
    p.experts = static_cast<int>(g.experts);
    p.m = static_cast<int>(m);
    p.n = static_cast<int>(g.n);
    p.k = static_cast<int>(k);
    p.a_pitch = static_cast<int>(rounded_up(m, 4));
    p.b_pitch = static_cast<int>(by_k ? rounded_up(g.n, 4) : rounded_up((k + 127) / 128, 4));
    p.factor = g.factor;
    p.out_f32 = g.out_type == Dtype::f32;
    p.in_place = on.acc == on.out;
    p.add_boxes = p.in_place && p.out_f32;
    return p;
}

template <class C>
void launch(const GroupedProduct& g, const GroupedOperands& on, cudaStream_t stream) {
    static const bool ready = [] {
        expect(cudaFuncSetAttribute(grouped::kernel<C>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    C::kBytes),
               "shared memory of grouped_gemm");
        return true;
    }();
    static_cast<void>(ready);
    const Params p = params<C>(g, on);
    const typename C::Tiles tiles{p.by_k, p.experts, p.m, p.n, p.k};
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {grouped::kCluster, 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = static_cast<unsigned>(
        grouped::kCluster *
        std::min(tiles.count(), device().multiprocessors() / grouped::kCluster));
    config.blockDim = grouped::kThreads;
    config.dynamicSmemBytes = C::kBytes;
    config.stream = stream;
    config.attrs = &cluster;
    config.numAttrs = 1;
    expect(cudaLaunchKernelEx(&config, grouped::kernel<C>, p), "grouped_gemm");
}

// ---- Choice ------------------------------------------------------------------------------------

struct Kernel {
    Dtype a, b;
    bool a_transposed, b_transposed;
    Sums sums;
    void (*launch)(const GroupedProduct&, const GroupedOperands&, cudaStream_t);
};

template <ptx::Types kTypes, bool kTransA, bool kTransB, Sums kSums>
constexpr Kernel kernel_of() {
    constexpr Dtype kA = kTypes == ptx::Types::bf16        ? Dtype::bf16
                         : kTypes == ptx::Types::e5m2_e4m3 ? Dtype::e5m2
                                                           : Dtype::e4m3;
    constexpr Dtype kB = kTypes == ptx::Types::bf16        ? Dtype::bf16
                         : kTypes == ptx::Types::e4m3_e5m2 ? Dtype::e5m2
                                                           : Dtype::e4m3;
    return {kA, kB, kTransA, kTransB, kSums, launch<Config<kTypes, kTransA, kTransB, kSums>>};
}

template <Sums kSums>
constexpr std::array<Kernel, 3> kFp8{kernel_of<ptx::Types::e4m3_e4m3, false, false, kSums>(),
                                     kernel_of<ptx::Types::e4m3_e5m2, false, false, kSums>(),
                                     kernel_of<ptx::Types::e5m2_e4m3, false, false, kSums>()};
constexpr std::array<Kernel, 3> kBf16{
    kernel_of<ptx::Types::bf16, false, false, Sums::tensor_cores>(),
    kernel_of<ptx::Types::bf16, false, true, Sums::tensor_cores>(),
    kernel_of<ptx::Types::bf16, true, true, Sums::tensor_cores>()};

// nullopt: no kernel has such scales.
std::optional<Sums> sums_of(const GroupedProduct& g) {
    constexpr Granularity kTensor = Granularity::tensor, kRun = Granularity::block_1x128,
                          kSquare = Granularity::block_128x128;
    if (!is_fp8(g.a_type)) return Sums::tensor_cores;
    if (g.a_scales == kTensor && g.b_scales == kTensor) {
        return g.fast_accumulation ? Sums::tensor_cores : Sums::stages;
    }
    if (g.a_scales != kRun) return std::nullopt;
    if (g.form == Form::by_rows && g.b_scales == kSquare) return Sums::squares;
    if (g.form == Form::by_k && g.b_scales == kRun) return Sums::runs;
    return std::nullopt;
}

const Kernel* choose(const GroupedProduct& g) {
    const std::optional<Sums> sums = sums_of(g);
    for (const auto* kernels : {&kBf16, &kFp8<Sums::tensor_cores>, &kFp8<Sums::stages>,
                                &kFp8<Sums::squares>, &kFp8<Sums::runs>}) {
        for (const Kernel& k : *kernels) {
            if (k.a == g.a_type && k.b == g.b_type && k.a_transposed == g.a_transposed &&
                k.b_transposed == g.b_transposed && k.sums == sums) {
                return &k;
            }
        }
    }
    return nullptr;
}

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

}  // namespace

std::optional<std::string> why_not(const GroupedProduct& g) {
    constexpr std::int64_t kMost = std::int64_t{1} << 30;
    const bool by_k = g.form == Form::by_k;
    const std::int64_t m = by_k ? g.m : g.rows, k = by_k ? g.rows : g.k;
    if (g.experts < 1 || g.experts > grouped::kMaxExperts) {
        return fmt::format("{} experts, not 1 to {}", g.experts, grouped::kMaxExperts);
    }
    if (std::min({m, g.n, k}) < 1) return "no elements";
    if (std::max({m, g.n, k}) > kMost) return "an extent is above 2^30";
    if (m * g.n > (std::int64_t{1} << 40) / (by_k ? g.experts : 1)) {
        return "the number of results is above 2^40";
    }
    if (!sums_of(g)) return "no kernel has scales of these blocks";
    if (by_k != g.a_transposed && !is_fp8(g.a_type)) {
        return "in BF16, a is (rows, k), or (rows, m) by_k";
    }
    if (g.out_type != Dtype::bf16 && g.out_type != Dtype::f32) {
        return fmt::format("the result is {}, neither bf16 nor f32", name(g.out_type));
    }
    if (!choose(g)) {
        return fmt::format("{}{} x {}{} is neither bf16 nor FP8 along K with at most one e5m2",
                           name(g.a_type), g.a_transposed ? " transposed" : "", name(g.b_type),
                           g.b_transposed ? " transposed" : "");
    }
    // Bulk copies start at multiples of 16 bytes in every row.
    const auto ragged = [](std::int64_t extent, Dtype dtype) {
        return extent * static_cast<std::int64_t>(size_of(dtype)) % 16 != 0;
    };
    if (ragged(g.a_transposed ? m : k, g.a_type) || ragged(g.b_transposed ? g.n : k, g.b_type) ||
        ragged(g.n, g.out_type)) {
        return fmt::format(
            "rows of operands or result are no multiples of 16 bytes (M, N, K = "
            "{}, {}, {})",
            m, g.n, k);
    }
    if (g.b_scales == Granularity::block_128x128 && g.n % 128 != 0) {
        return fmt::format("N = {} is no multiple of 128: experts would share blocks", g.n);
    }
    return std::nullopt;
}

void grouped_gemm(const GroupedProduct& g, const GroupedOperands& on, cudaStream_t stream) {
    const std::optional<std::string> reason = why_not(g);
    check(!reason, "grouped_gemm: {}.", reason.value_or(""));
    for (const void* p : {on.a, on.b, on.acc, static_cast<const void*>(on.out)}) {
        check(aligned(p), "grouped_gemm: operands and result must start at multiples of 16 bytes.");
    }
    check(is_fp8(g.a_type) || (!on.a_scale && !on.b_scale),
          "grouped_gemm: bf16 has no scales.\n  Use factor.");
    const bool blocks = is_fp8(g.a_type) && g.a_scales != Granularity::tensor;
    check(!blocks || (on.a_scale && on.b_scale && aligned(on.a_scale) && aligned(on.b_scale)),
          "grouped_gemm: scales of blocks must be there and start at multiples of 16 bytes.");
    choose(g)->launch(g, on, stream);
}

}  // namespace octavo::cuda
