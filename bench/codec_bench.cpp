// Throughput of the codecs of base/convert.h on one core, in bytes of source a second. The working
// set (16 Ki elements) stays in the second-level cache, so this measures the arithmetic.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "base/convert.h"
#include "base/rng.h"

namespace octavo {
namespace {

constexpr std::int64_t kElements = 16384;

// Normal values, which exercise the subnormals of E4M3 too.
std::vector<std::byte> values(Dtype dtype) {
    std::vector<float> normal(kElements);
    const Rng rng(1, 0);
    for (std::int64_t i = 0; i < kElements; ++i) normal[i] = rng.normal(i);
    std::vector<std::byte> bytes(kElements * size_of(dtype));
    convert(normal.data(), Dtype::f32, bytes.data(), dtype, kElements);
    return bytes;
}

template <class Body>
void add(const std::string& label, Dtype from, Dtype to, Body body) {
    benchmark::RegisterBenchmark(label.c_str(), [=](benchmark::State& state) {
        const std::vector<std::byte> src = values(from);
        std::vector<std::byte> dst(kElements * size_of(to));
        for (auto _ : state) {
            body(src.data(), dst.data());
            benchmark::DoNotOptimize(dst.data());
            benchmark::ClobberMemory();
        }
        state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(src.size()));
        state.SetItemsProcessed(state.iterations() * kElements);
    });
}

void add_all(Dtype from, Dtype to) {
    const std::string pair = std::string(name(from)) + "_" + std::string(name(to));
    add("convert/" + pair, from, to,
        [=](const std::byte* src, std::byte* dst) { convert(src, from, dst, to, kElements); });
    add("quantise/" + pair, from, to, [=](const std::byte* src, std::byte* dst) {
        quantise(src, from, 0.5f, dst, to, kElements);
    });
    add("quantise_amax/" + pair, from, to, [=](const std::byte* src, std::byte* dst) {
        benchmark::DoNotOptimize(quantise_amax(src, from, 0.5f, dst, to, kElements));
    });
}

}  // namespace
}  // namespace octavo

int main(int argc, char** argv) {
    using octavo::Dtype;
    const Dtype wide[] = {Dtype::f32, Dtype::bf16};
    const Dtype narrow[] = {Dtype::bf16, Dtype::f16, Dtype::e4m3, Dtype::e5m2};
    for (Dtype w : wide) {
        for (Dtype n : narrow) {
            if (w == n) continue;
            octavo::add_all(w, n);
            octavo::add_all(n, w);
        }
    }
    for (Dtype d : {Dtype::f32, Dtype::bf16, Dtype::e4m3}) {
        octavo::add("amax/" + std::string(name(d)), d, d, [=](const std::byte* src, std::byte*) {
            benchmark::DoNotOptimize(octavo::amax(src, d, octavo::kElements));
        });
    }
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
