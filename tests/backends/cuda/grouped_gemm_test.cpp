// Grouped products against sums in f64. Operands, scales and accumulators are small numbers, so
// that every sum is exact in whatever order and in the tensor cores' 14 bits: results are equal,
// not near. What must not be read is NaN, what must be written is NaN before.
#include "backends/cuda/grouped_gemm.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "backends/cuda/cuda.h"
#include "backends/cuda/device.h"
#include "base/convert.h"
#include "base/error.h"
#include "base/float16.h"
#include "base/rng.h"
#include "test_backend.h"

namespace octavo::cuda {

std::string to_string(const GroupedProduct& g) {
    std::string text = g.form == GroupedProduct::Form::by_k ? "ByK" : "ByRows";
    text += fmt::format("_{}_{}", name(g.a_type), name(g.b_type));
    if (g.a_transposed) text += "_AT";
    if (g.b_transposed) text += "_BT";
    if (g.a_scales != Granularity::tensor) text += "_blocks";
    if (g.fast_accumulation) text += "_fast";
    return text;
}
void PrintTo(const GroupedProduct& g, std::ostream* os) { *os << to_string(g); }

namespace {

#define SKIP_WITHOUT_GPU()                              \
    if (const auto why_none = why_no_cuda()) {          \
        if (test::on_cuda()) test::make_test_backend(); \
        GTEST_SKIP() << *why_none;                      \
    }

using Form = GroupedProduct::Form;
constexpr Granularity kRun = Granularity::block_1x128, kSquare = Granularity::block_128x128;

// ---- Memory ------------------------------------------------------------------------------------

class Buffer {
  public:
    explicit Buffer(const std::vector<std::byte>& bytes) : bytes_(bytes.size()) {
        expect(cudaMalloc(&data_, std::max<std::size_t>(bytes_, 1)), "cudaMalloc");
        expect(cudaMemcpy(data_, bytes.data(), bytes_, cudaMemcpyDefault), "cudaMemcpy");
        // It may be on its way yet, and our stream waits for no other.
        expect(cudaDeviceSynchronize(), "cudaMemcpy");
    }
    ~Buffer() { cudaFree(data_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }
    std::vector<std::byte> read() const {
        std::vector<std::byte> bytes(bytes_);
        expect(cudaMemcpy(bytes.data(), data_, bytes_, cudaMemcpyDefault), "cudaMemcpy");
        return bytes;
    }

  private:
    void* data_ = nullptr;
    std::size_t bytes_;
};

std::vector<std::byte> encode(const std::vector<float>& values, Dtype dtype) {
    std::vector<std::byte> bytes(values.size() * size_of(dtype));
    convert(values.data(), Dtype::f32, bytes.data(), dtype, std::ssize(values));
    return bytes;
}

std::vector<float> decode(const std::vector<std::byte>& bytes, Dtype dtype, std::size_t n) {
    std::vector<float> values(n);
    convert(bytes.data(), dtype, values.data(), Dtype::f32, std::ssize(values));
    return values;
}

template <class T>
std::vector<std::byte> raw(const std::vector<T>& values) {
    const auto* from = reinterpret_cast<const std::byte*>(values.data());
    return {from, from + values.size() * sizeof(T)};
}

// ---- A product on numbers ----------------------------------------------------------------------

// Experts' stretches in units of 128 rows, of buffers with so many rows.
struct Division {
    const char* name;
    std::vector<int> tiles;
    std::int64_t rows, m, n, k;
};

enum class Old { none, in_place, apart };

struct Problem {
    GroupedProduct product;
    std::vector<std::int32_t> offsets{0};
    std::vector<float> a, b;              // (M, K) and (N, K), or (E, N, K), however stored
    std::vector<float> a_scale, b_scale;  // laid out as the kernel reads them
    std::vector<float> old;               // like the result, or empty
    std::int64_t m = 0, k = 0, planes = 0, b_planes = 0;

    bool by_k() const { return product.form == Form::by_k; }
    bool blocks() const { return product.a_scales != Granularity::tensor; }
    std::int64_t used() const { return offsets.back(); }
    std::int64_t results() const { return planes * m * product.n; }
};

std::vector<float> draw(std::uint64_t stream, std::int64_t n, const std::vector<float>& from) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < n; ++i) {
        const auto at = Rng(7, stream).bits64(static_cast<std::uint64_t>(i)) % from.size();
        values.push_back(from[at]);
    }
    return values;
}

std::int64_t up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

Problem problem_of(GroupedProduct g, const Division& d, Old old,
                   const std::vector<float>& numbers = {-2, -1, 0, 1, 2}) {
    const bool by_k = g.form == Form::by_k;
    g.experts = std::ssize(d.tiles);
    g.rows = d.rows;
    g.m = by_k ? d.m : 0;
    g.n = d.n;
    g.k = by_k ? 0 : d.k;
    Problem p;
    p.product = g;
    for (const int n : d.tiles) p.offsets.push_back(p.offsets.back() + 128 * n);
    p.m = by_k ? d.m : d.rows;
    p.k = by_k ? d.rows : d.k;
    p.planes = by_k ? g.experts : 1;
    p.b_planes = by_k ? 1 : g.experts;
    p.a = draw(1, p.m * p.k, numbers);
    p.b = draw(2, p.b_planes * d.n * p.k, numbers);
    const std::vector<float> powers{0.5f, 1, 2};
    p.a_scale = p.b_scale = {0.5f};
    if (p.blocks()) {
        const std::int64_t k128 = (p.k + 127) / 128;
        p.a_scale = draw(3, k128 * up(p.m, 4), powers);
        p.b_scale = draw(
            4,
            g.b_scales == kRun ? k128 * up(d.n, 4) : (p.b_planes * d.n + 127) / 128 * up(k128, 4),
            powers);
    }
    if (old != Old::none) p.old = draw(5, p.results(), {-3, -1, 0, 1, 4});
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (std::int64_t row = p.used(); row < d.rows; ++row) {
        for (std::int64_t i = 0; i < (by_k ? p.m : p.k); ++i) {
            p.a[static_cast<std::size_t>(by_k ? i * p.k + row : row * p.k + i)] = nan;
        }
        for (std::int64_t i = 0; by_k && i < d.n; ++i) {
            p.b[static_cast<std::size_t>(i * p.k + row)] = nan;
        }
    }
    return p;
}

// (planes, rows, columns) as (planes, columns, rows).
std::vector<float> transposed(const std::vector<float>& x, std::int64_t planes, std::int64_t rows,
                              std::int64_t columns) {
    std::vector<float> y(x.size());
    for (std::int64_t p = 0; p < planes; ++p) {
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < columns; ++c) {
                y[static_cast<std::size_t>((p * columns + c) * rows + r)] =
                    x[static_cast<std::size_t>((p * rows + r) * columns + c)];
            }
        }
    }
    return y;
}

constexpr std::size_t kGuard = 256;  // bytes behind the result

std::vector<float> compute(const Problem& p, Old old) {
    const GroupedProduct& g = p.product;
    const Buffer a(encode(g.a_transposed ? transposed(p.a, 1, p.m, p.k) : p.a, g.a_type));
    const Buffer b(encode(g.b_transposed ? transposed(p.b, p.b_planes, g.n, p.k) : p.b, g.b_type));
    const Buffer offsets(raw(p.offsets)), a_scale(raw(p.a_scale)), b_scale(raw(p.b_scale));
    const std::vector<std::byte> before = encode(p.old, g.out_type);
    const Buffer acc(before);
    const auto results = static_cast<std::size_t>(p.results());
    std::vector<std::byte> memory(results * size_of(g.out_type) + kGuard, std::byte{0xFF});
    if (old == Old::in_place) std::ranges::copy(before, memory.begin());
    const Buffer out(memory);

    GroupedOperands on{.a = a.as<void>(),
                       .b = b.as<void>(),
                       .offsets = offsets.as<std::int32_t>(),
                       .out = out.as<void>()};
    if (is_fp8(g.a_type)) {
        on.a_scale = a_scale.as<float>();
        on.b_scale = b_scale.as<float>();
    }
    if (old != Old::none) on.acc = old == Old::in_place ? out.as<void>() : acc.as<void>();
    grouped_gemm(g, on, stream());
    expect(cudaStreamSynchronize(stream()), "grouped_gemm");
    const std::vector<std::byte> after = out.read();
    for (std::size_t i = after.size() - kGuard; i < after.size(); ++i) {
        EXPECT_EQ(after[i], std::byte{0xFF}) << "behind the result";
    }
    return decode(after, g.out_type, results);
}

// One element before it is rounded.
double exact(const Problem& p, std::int64_t plane, std::int64_t i, std::int64_t j) {
    const GroupedProduct& g = p.product;
    std::int64_t from = 0, to = p.k, expert = 0;
    if (p.by_k()) {
        from = p.offsets[static_cast<std::size_t>(plane)];
        to = p.offsets[static_cast<std::size_t>(plane) + 1];
    } else if (i >= p.used()) {
        to = 0;
    } else {
        while (p.offsets[static_cast<std::size_t>(expert) + 1] <= i) ++expert;
    }
    const std::int64_t b_row = expert * g.n + j, k128 = (p.k + 127) / 128;
    double sum = 0;
    for (std::int64_t k = from; k < to; ++k) {
        double x = static_cast<double>(p.a[static_cast<std::size_t>(i * p.k + k)]) *
                   static_cast<double>(p.b[static_cast<std::size_t>(b_row * p.k + k)]);
        if (p.blocks()) {
            const std::int64_t b_at =
                g.b_scales == kRun ? k / 128 * up(g.n, 4) + j : b_row / 128 * up(k128, 4) + k / 128;
            x *= static_cast<double>(p.a_scale[static_cast<std::size_t>(k / 128 * up(p.m, 4) + i)] *
                                     p.b_scale[static_cast<std::size_t>(b_at)]);
        }
        sum += x;
    }
    const double scale = (is_fp8(g.a_type) && !p.blocks() ? 0.25 : 1) * double{g.factor};
    const double old =
        p.old.empty()
            ? 0
            : static_cast<double>(p.old[static_cast<std::size_t>((plane * p.m + i) * g.n + j)]);
    return sum * scale + old;
}

float rounded(double y, Dtype dtype) {
    const auto x = static_cast<float>(y);
    return dtype == Dtype::bf16 ? static_cast<float>(bf16(x)) : x;
}

// Every element, or of large results those of every `stride`-th row.
void expect_exact(const Problem& p, const std::vector<float>& y, std::int64_t stride = 1) {
    int wrong = 0;
    const std::int64_t n = p.product.n;
    for (std::int64_t row = 0; row < p.planes * p.m; row += stride) {
        for (std::int64_t j = 0; j < n; ++j) {
            const float want = rounded(exact(p, row / p.m, row % p.m, j), p.product.out_type);
            const float got = y[static_cast<std::size_t>(row * n + j)];
            if (got == want) continue;
            EXPECT_EQ(got, want) << "plane " << row / p.m << ", row " << row % p.m << ", column "
                                 << j;
            if (++wrong == 5) return;
        }
    }
}

// ---- Cases -------------------------------------------------------------------------------------

constexpr GroupedProduct rows(Dtype a, Dtype b, bool fast = false) {
    return {.a_type = a, .b_type = b, .fast_accumulation = fast, .factor = 2};
}
constexpr GroupedProduct by_k(GroupedProduct g) {
    g.form = Form::by_k;
    return g;
}
constexpr GroupedProduct transposed(GroupedProduct g, bool a) {
    g.a_transposed = a;
    g.b_transposed = true;
    return g;
}
constexpr GroupedProduct scaled(GroupedProduct g, Granularity b) {
    g.a_scales = kRun;
    g.b_scales = b;
    return g;
}

constexpr Dtype kBf16 = Dtype::bf16, kE4m3 = Dtype::e4m3, kE5m2 = Dtype::e5m2;
const GroupedProduct kProducts[] = {
    rows(kBf16, kBf16),
    transposed(rows(kBf16, kBf16), false),
    rows(kE4m3, kE4m3, true),
    rows(kE4m3, kE4m3),
    rows(kE5m2, kE4m3, true),
    rows(kE5m2, kE4m3),
    rows(kE4m3, kE5m2, true),
    rows(kE4m3, kE5m2),
    scaled(rows(kE4m3, kE4m3), kSquare),
    scaled(rows(kE5m2, kE4m3), kSquare),
    transposed(by_k(rows(kBf16, kBf16)), true),
    by_k(rows(kE4m3, kE4m3, true)),
    by_k(rows(kE4m3, kE4m3)),
    by_k(rows(kE5m2, kE4m3, true)),
    by_k(rows(kE5m2, kE4m3)),
    by_k(rows(kE4m3, kE5m2)),
    scaled(by_k(rows(kE4m3, kE4m3)), kRun),
    scaled(by_k(rows(kE5m2, kE4m3)), kRun),
};

// Blocks of scales do not straddle experts.
Division suited(Division d, const GroupedProduct& g) {
    if (g.b_scales == kSquare) d.n = up(d.n, 128);
    return d;
}

// M, N and K are not multiples of tiles or stages, of 16 bytes only.
const Division kDivisions[] = {
    {"one expert", {2}, 256, 256, 256, 256},
    {"less than a tile", {1}, 128, 16, 16, 16},
    {"unlike experts, rows to spare", {1, 0, 3, 2, 0}, 1024, 208, 272, 336},
    {"one has all", {0, 7, 0}, 896, 400, 144, 80},
    {"clusters between experts", {1, 1, 1, 1, 1}, 640, 128, 512, 192},
    {"half a cluster", {2, 1}, 384, 256, 128, 144},
    {"half a tile to spare", {1, 1}, 304, 144, 304, 208},
    {"nobody has any", {0, 0, 0}, 256, 144, 272, 64},
    {"many", std::vector<int>(511, 0), 256, 32, 32, 32},
};

class GroupedGemm : public testing::TestWithParam<GroupedProduct> {};

TEST_P(GroupedGemm, Divisions) {
    SKIP_WITHOUT_GPU();
    for (Division d : kDivisions) {
        SCOPED_TRACE(d.name);
        if (d.tiles.size() == 511) d.tiles[17] = d.tiles[510] = 1;
        const Problem p = problem_of(GetParam(), suited(d, GetParam()), Old::none);
        ASSERT_EQ(why_not(p.product), std::nullopt);
        expect_exact(p, compute(p, Old::none));
    }
}

TEST_P(GroupedGemm, Results) {
    SKIP_WITHOUT_GPU();
    for (const Dtype out : {Dtype::bf16, Dtype::f32}) {
        for (const Old old : {Old::none, Old::in_place, Old::apart}) {
            SCOPED_TRACE(fmt::format("{}, old values {}", name(out), static_cast<int>(old)));
            GroupedProduct g = GetParam();
            g.out_type = out;
            const Problem p = problem_of(g, suited(kDivisions[2], g), old);
            expect_exact(p, compute(p, old));
        }
    }
}

// Every block takes several tiles, and the ring of stages goes around with rests. The same bits
// again.
TEST_P(GroupedGemm, MoreTilesThanBlocks) {
    SKIP_WITHOUT_GPU();
    const bool along_k = GetParam().form == Form::by_k;
    const Division d = along_k ? Division{"", {3, 0, 1, 9, 2, 1}, 2048, 1296, 1040, 0}
                               : Division{"", {3, 0, 11, 1, 1, 24}, 5248, 0, 1296, 720};
    const Problem p = problem_of(GetParam(), suited(d, GetParam()), Old::none);
    const std::vector<float> y = compute(p, Old::none);
    expect_exact(p, y, 61);
    const std::vector<float> again = compute(p, Old::none);
    EXPECT_EQ(std::memcmp(y.data(), again.data(), y.size() * sizeof(float)), 0);
}

// Numbers that round. The limits are some three times what cuBLASLt's products lose at this K
// (docs/performance.md), which tells sums in f32 from those in the tensor cores' 14 bits.
TEST_P(GroupedGemm, Errors) {
    SKIP_WITHOUT_GPU();
    GroupedProduct g = GetParam();
    g.out_type = Dtype::f32;
    const Division d{"", {8, 1, 7}, 2048, 128, 128, 2048};
    std::vector<float> numbers;
    for (const float unit : {0x1p-4f, -0x1p-4f, 0x1p-6f, -0x1p-6f, 0x1p-8f, -0x1p-8f}) {
        for (const float x : {1.0f, 3.0f, 5.0f, 6.0f, 7.0f}) numbers.push_back(x * unit);
    }
    const Problem p = problem_of(g, d, Old::none, numbers);
    const std::vector<float> y = compute(p, Old::none);
    double errors = 0, squares = 0;
    for (std::int64_t row = 0; row < p.planes * p.m; row += 19) {
        for (std::int64_t j = 0; j < g.n; j += 3) {
            const double want = exact(p, row / p.m, row % p.m, j);
            const double got = static_cast<double>(y[static_cast<std::size_t>(row * g.n + j)]);
            errors += (got - want) * (got - want);
            squares += want * want;
        }
    }
    const double limit = !is_fp8(g.a_type) ? 6e-6 : g.fast_accumulation ? 2.5e-3 : 3e-4;
    EXPECT_LT(std::sqrt(errors / squares), limit);
}

INSTANTIATE_TEST_SUITE_P(Kernels, GroupedGemm, testing::ValuesIn(kProducts),
                         [](const auto& of) { return to_string(of.param); });

// ---- What is refused; no GPU is needed ---------------------------------------------------------

GroupedProduct usual() {
    GroupedProduct g = rows(kBf16, kBf16);
    g.experts = 8;
    g.rows = 1024;
    g.n = g.k = 256;
    return g;
}

TEST(GroupedProduct, Taken) { EXPECT_EQ(why_not(usual()), std::nullopt); }

TEST(GroupedProduct, Refused) {
    struct Refusal {
        void (*change)(GroupedProduct&);
        const char* reason;
    };
    const Refusal refusals[] = {
        {[](GroupedProduct& g) { g.experts = 512; }, "512 experts, not 1 to 511"},
        {[](GroupedProduct& g) { g.rows = 0; }, "no elements"},
        {[](GroupedProduct& g) { g.n = 1 << 30, g.rows = 1 << 20; }, "above 2^40"},
        {[](GroupedProduct& g) { g.a_type = g.b_type = kE5m2; }, "at most one e5m2"},
        {[](GroupedProduct& g) { g.a_type = kE4m3; }, "neither bf16 nor FP8"},
        {[](GroupedProduct& g) { g.a_type = g.b_type = kE4m3, g.b_transposed = true; },
         "e4m3 x e4m3 transposed"},
        {[](GroupedProduct& g) { g.a_transposed = true; }, "a is (rows, k)"},
        {[](GroupedProduct& g) { g.out_type = Dtype::f16; }, "the result is f16"},
        {[](GroupedProduct& g) { g.k = 100; }, "multiples of 16 bytes"},
        {[](GroupedProduct& g) { g.a_type = g.b_type = kE4m3, g.b_scales = kSquare; },
         "no kernel has scales"},
        {[](GroupedProduct& g) {
             g.a_type = g.b_type = kE4m3, g.a_scales = kRun, g.b_scales = kSquare, g.n = 192;
         },
         "N = 192 is no multiple of 128"},
    };
    for (const Refusal& r : refusals) {
        GroupedProduct g = usual();
        r.change(g);
        EXPECT_NE(why_not(g).value_or("taken").find(r.reason), std::string::npos)
            << why_not(g).value_or("taken") << " / " << r.reason;
    }
}

std::string refusal(const GroupedProduct& g, const GroupedOperands& on) {
    try {
        grouped_gemm(g, on, nullptr);
    } catch (const Error& e) {
        return e.what();
    }
    return "taken";
}

// Before anything is asked of a GPU.
TEST(GroupedProduct, RefusedOperands) {
    alignas(16) std::byte memory[32]{};
    const auto* scale = reinterpret_cast<const float*>(memory);
    const GroupedOperands good{.a = memory, .b = memory, .out = memory};
    GroupedOperands on = good;
    on.b = memory + 8;
    EXPECT_EQ(refusal(usual(), on),
              "grouped_gemm: operands and result must start at multiples of 16 bytes.");
    on = good;
    on.a_scale = scale;
    EXPECT_EQ(refusal(usual(), on), "grouped_gemm: bf16 has no scales.\n  Use factor.");
    GroupedProduct g = usual();
    g.a_type = g.b_type = kE4m3;
    g.a_scales = kRun;
    g.b_scales = kSquare;
    EXPECT_EQ(refusal(g, on),
              "grouped_gemm: scales of blocks must be there and start at multiples of 16 bytes.");
    g.k = 8;
    EXPECT_EQ(refusal(g, good),
              "grouped_gemm: rows of operands or result are no multiples of 16 bytes (M, N, K = "
              "1024, 256, 8).");
}

}  // namespace
}  // namespace octavo::cuda
