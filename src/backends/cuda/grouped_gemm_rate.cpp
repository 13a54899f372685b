// Timing of grouped_gemm, for `octavo bench gemm --experts`.
#include <fmt/format.h>

#include <algorithm>

#include "backends/cuda/cuda.h"
#include "backends/cuda/device.h"
#include "backends/cuda/gemm.h"
#include "backends/cuda/grouped_gemm.h"
#include "base/error.h"

namespace octavo {
namespace {

using cuda::expect, cuda::GroupedProduct, cuda::stream;

struct Case {
    std::string_view name;
    GroupedProduct product;
};

std::vector<Case> cases(std::int64_t experts, std::int64_t rows, std::int64_t n, std::int64_t k) {
    constexpr Dtype bf16 = Dtype::bf16, e4m3 = Dtype::e4m3, e5m2 = Dtype::e5m2;
    constexpr Granularity kRun = Granularity::block_1x128, kSquare = Granularity::block_128x128;
    using Form = GroupedProduct::Form;
    const GroupedProduct fprop{.experts = experts, .rows = rows, .n = n, .k = k};
    const GroupedProduct dgrad{.experts = experts, .rows = rows, .n = k, .k = n};
    const GroupedProduct wgrad{.form = Form::by_k,
                               .experts = experts,
                               .rows = rows,
                               .m = n,
                               .n = k,
                               .out_type = Dtype::f32};
    const auto of = [](GroupedProduct g, Dtype a, Dtype b, bool fast = false) {
        g.a_type = a;
        g.b_type = b;
        g.fast_accumulation = fast;
        if (a == bf16) g.b_transposed = g.form == Form::by_k;
        if (a == bf16) g.a_transposed = g.form == Form::by_k;
        return g;
    };
    const auto scaled = [](GroupedProduct g, Granularity b) {
        g.a_scales = kRun;
        g.b_scales = b;
        return g;
    };
    GroupedProduct bf16_dgrad = of(dgrad, bf16, bf16);
    bf16_dgrad.b_transposed = true;
    return {{"fprop", of(fprop, bf16, bf16)},
            {"dgrad", bf16_dgrad},
            {"wgrad", of(wgrad, bf16, bf16)},
            {"fprop", of(fprop, e4m3, e4m3, true)},
            {"fprop", of(fprop, e4m3, e4m3)},
            {"dgrad", of(dgrad, e5m2, e4m3, true)},
            {"dgrad", of(dgrad, e5m2, e4m3)},
            {"wgrad", of(wgrad, e5m2, e4m3, true)},
            {"wgrad", of(wgrad, e5m2, e4m3)},
            {"fprop", scaled(of(fprop, e4m3, e4m3), kSquare)},
            {"dgrad", scaled(of(dgrad, e4m3, e4m3), kSquare)},
            {"wgrad", scaled(of(wgrad, e4m3, e4m3), kRun)}};
}

std::string text(const Case& c) {
    const GroupedProduct& g = c.product;
    const bool blocks = g.a_scales != Granularity::tensor;
    return fmt::format("{} {} x {} -> {}{}", c.name, name(g.a_type), name(g.b_type),
                       name(g.out_type),
                       !is_fp8(g.a_type)     ? ""
                       : blocks              ? ", blocks"
                       : g.fast_accumulation ? ", fast sums"
                                             : ", f32 sums");
}

// In units of 128 rows, as equally as that allows.
std::vector<std::int32_t> divide(std::int64_t experts, std::int64_t rows) {
    std::vector<std::int32_t> offsets;
    for (std::int64_t e = 0; e <= experts; ++e) {
        offsets.push_back(static_cast<std::int32_t>(rows / 128 * e / experts * 128));
    }
    return offsets;
}

// As for fill_for_timing, and scales of 1.
Buffer numbers(Backend& backend, Dtype dtype, std::int64_t n) {
    Buffer buffer(backend, n * static_cast<std::int64_t>(size_of(dtype)));
    cuda::fill_for_timing(buffer.data(), dtype, n);
    return buffer;
}

double seconds_of(Backend& backend, const GroupedProduct& g,
                  const std::vector<std::int32_t>& offsets, double seconds) {
    const bool by_k = g.form == GroupedProduct::Form::by_k;
    const std::int64_t k = by_k ? g.rows : g.k, m = by_k ? g.m : g.rows;
    const std::int64_t b_planes = by_k ? 1 : g.experts, planes = by_k ? g.experts : 1;
    const Buffer a = numbers(backend, g.a_type, m * k),
                 b = numbers(backend, g.b_type, b_planes * g.n * k),
                 out = numbers(backend, g.out_type, planes * m * g.n);
    // More scales of blocks than either operand has.
    const std::int64_t scales = (k / 128 + 4) * (std::max(m, b_planes * g.n) + 4);
    const Buffer scale = numbers(backend, Dtype::f32, scales);
    const Buffer bounds(backend, std::ssize(offsets) * 4);
    backend.copy_in(bounds.data(), reinterpret_cast<const std::byte*>(offsets.data()),
                    bounds.bytes());
    const auto* factors = is_fp8(g.a_type) ? reinterpret_cast<const float*>(scale.data()) : nullptr;
    const auto run = [&] {
        grouped_gemm(g,
                     {.a = a.data(),
                      .b = b.data(),
                      .offsets = reinterpret_cast<const std::int32_t*>(bounds.data()),
                      .a_scale = factors,
                      .b_scale = factors,
                      .out = out.data()},
                     stream());
    };
    cudaEvent_t begin = nullptr, end = nullptr;
    expect(cudaEventCreate(&begin), "cudaEventCreate");
    expect(cudaEventCreate(&end), "cudaEventCreate");
    std::vector<double> times;
    double sum = 0;
    for (run(); times.size() < 10 || sum < seconds;) {
        cudaEventRecord(begin, stream());
        run();
        cudaEventRecord(end, stream());
        backend.synchronize();
        float ms = 0;
        cudaEventElapsedTime(&ms, begin, end);
        times.push_back(double{ms} * 1e-3);
        sum += times.back();
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    std::ranges::nth_element(times, times.begin() + std::ssize(times) / 2);
    return times[times.size() / 2];
}

}  // namespace

std::vector<GroupedRate> measure_grouped_products(std::int64_t experts, std::int64_t rows,
                                                  std::int64_t n, std::int64_t k, double seconds) {
    const auto backend = make_cuda_backend();
    const std::vector<std::int32_t> offsets = divide(experts, rows);
    const double flops =
        2.0 * static_cast<double>(offsets.back()) * static_cast<double>(n) * static_cast<double>(k);
    std::vector<GroupedRate> rates;
    for (const Case& c : cases(experts, rows, n, k)) {
        if (const auto reason = cuda::why_not(c.product)) {
            rates.push_back({text(c) + ": " + *reason, 0});
            continue;
        }
        rates.push_back({text(c), flops / seconds_of(*backend, c.product, offsets, seconds)});
    }
    return rates;
}

}  // namespace octavo
