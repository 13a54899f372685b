// Products of operands under scales per row, block and group.
#include "ops/block_quantise_oracle.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

constexpr Scaling kRow{Granularity::row}, kRuns{Granularity::block_1x128},
    kSquares{Granularity::block_128x128};
constexpr Scaling micro(int group) { return {Granularity::micro, Dtype::f32, group}; }

HostTensor quantised(const HostTensor& x, Dtype to, const Scaling& scaling) {
    if (scaling == kPerTensor) return run(as_is(Quantise{to}), {x, scalar(1.0 / 64)})[0];
    return block_quantise_oracle({.to = to, .scaling = scaling, .floor = 0x1p-100f}, x);
}

// The same by the op, which tests of its own hold to the oracle: for large operands, and where
// scales and codes are Octavo's to get right.
HostTensor quantised_by_op(const HostTensor& x, Dtype to, const Scaling& scaling) {
    if (scaling == kPerTensor) return quantised(x, to, scaling);
    return run(as_is(BlockQuantise{.to = to, .scaling = scaling, .floor = 0x1p-100f}), {x})[0];
}

HostTensor codes_at(HostTensor x, const std::vector<std::pair<int, float>>& listed) {
    std::vector<double> values(x.values.size());
    for (const auto& [at, value] : listed) values[static_cast<std::size_t>(at)] = value;
    return tensor(Dtype::f32, x.type.shape, values);
}
HostTensor row(std::int64_t n, const std::vector<std::pair<int, float>>& listed) {
    return codes_at(tensor(Dtype::f32, {1, n}, std::vector<double>(static_cast<std::size_t>(n))),
                    listed);
}

// The bits that the definition of a product gives; GPUs sum the codes of a block in fewer bits.
void expect_golden(const HostTensor& a, const HostTensor& b, std::uint32_t want) {
    const Matmul op{.trans_b = true, .kind = MatmulKind::fprop};
    const float y = std::bit_cast<float>(want);
    const auto names = for_each_kernel(op, {a, b}, [&](std::string_view name, const auto& out) {
        const auto got = static_cast<float>(out[0].values[0]);
        if (name == "blocks") {
            EXPECT_EQ(std::bit_cast<std::uint32_t>(got), want);
        } else {
            EXPECT_NEAR(got, y, 1e-3f * std::abs(y));
        }
    });
    EXPECT_FALSE(names.empty());
    if (!on_cuda()) {
        EXPECT_EQ(std::ranges::count(names, "blocks"), 1);
    }
}

// An operand without its exact scales: products of such are sums of codes' products.
HostTensor unscaled(HostTensor x) {
    for (float& s : x.scales) s = 1;
    return x;
}
// Of a row, the elements in [begin, end) alone, with the byte of no group.
HostTensor part(HostTensor x, std::size_t begin, std::size_t end) {
    for (std::size_t i = 0; i < x.codes.size(); ++i) {
        if (i < begin || i >= end) x.codes[i] = std::byte{0};
    }
    for (auto& byte : x.groups) byte = 127;
    return x;
}
void expect_sum(const HostTensor& a, const HostTensor& b, std::size_t begin, std::size_t end,
                float want) {
    expect_golden(unscaled(part(a, begin, end)), unscaled(part(b, begin, end)),
                  std::bit_cast<std::uint32_t>(want));
}

std::vector<int> codes_from(const HostTensor& x, std::ptrdiff_t begin, std::ptrdiff_t n) {
    const std::vector<int> all = code_values(x);
    return {all.begin() + begin, all.begin() + begin + n};
}

// Golden vector 8 of blockwise scales.
TEST(MatmulBlocks, GoldenBlocks) {
    const HostTensor x =
        row(256, {{0, 3}, {1, -2}, {2, 1}, {3, 0.1f}, {128, 0.75f}, {129, -0.7f}, {130, 0.0123f}});
    std::vector<std::pair<int, float>> w;
    for (int i = 0; i < 4; ++i) w.emplace_back(i, 0.5f / static_cast<float>(i + 1));
    w.insert(w.end(), {{128, -0.3f}, {129, 0.2f}, {130, 0.1f}});
    const HostTensor a = quantised_by_op(x, Dtype::e4m3, kRuns);
    const HostTensor b = quantised_by_op(row(256, w), Dtype::e4m3, kSquares);
    const std::uint32_t scales[][3] = {{0x3bdb6db7, 0x3a924925, 0x36fac689},
                                       {0x3adb6db7, 0x3a2f8af9, 0x3596771f}};
    for (std::int64_t block : {0, 1}) {
        const float of_x = a.scales[scale_layout(a.type).scale_at(0, block * 128)];
        const float of_w = b.scales[scale_layout(b.type).scale_at(0, block * 128)];
        EXPECT_EQ(std::bit_cast<std::uint32_t>(of_x), scales[block][0]);
        EXPECT_EQ(std::bit_cast<std::uint32_t>(of_w), scales[block][1]);
        EXPECT_EQ(std::bit_cast<std::uint32_t>(of_x * of_w), scales[block][2]);
    }
    expect_sum(a, b, 0, 128, 158608);
    expect_sum(a, b, 128, 256, -319432);
    expect_golden(part(a, 0, 128), b, 0x3f97bac7);
    expect_golden(a, b, 0x3f53c914);
}

const std::vector<std::pair<int, float>> kA = {{0, 3},        {1, -2},     {2, 1},      {3, 0.1f},
                                               {4, -0.01f},   {5, 0.001f}, {32, 0.75f}, {33, -0.7f},
                                               {34, 0.0123f}, {35, 1e-5f}};

// Golden vector 11 of MOSS: activations in groups, a weight under a predicted amax of 0.5.
TEST(MatmulBlocks, GoldenGroups) {
    const HostTensor a = quantised_by_op(row(64, kA), Dtype::e4m3, micro(32));
    const HostTensor w = row(64, {{0, 0.5f},
                                  {1, 0.25f},
                                  {2, -0.125f},
                                  {3, 0.4f},
                                  {4, 0.3f},
                                  {5, -0.2f},
                                  {32, -0.5f},
                                  {33, 0.1f},
                                  {34, 0.05f},
                                  {35, 0.45f}});
    const float scale = 0.5f / 448.0f;
    EXPECT_EQ(std::bit_cast<std::uint32_t>(scale), 0x3a924925u);
    const HostTensor b = run(as_is(Quantise{}), {w, scalar(scale)})[0];
    EXPECT_EQ(codes_from(b, 0, 6), (std::vector<int>{0x7e, 0x76, 0xee, 0x7b, 0x78, 0xf3}));
    EXPECT_EQ(codes_from(b, 32, 4), (std::vector<int>{0xfe, 0x6b, 0x63, 0x7d}));
    expect_sum(a, b, 0, 32, 124932.5f);
    expect_sum(a, b, 32, 64, -236979.5625f);
    expect_golden(unscaled(a), unscaled(b), 0x47804bce);  // the sum before its scales
    expect_golden(a, b, 0x3efb5b0c);
}

// Golden vector 12: a weight gradient, groups on both sides.
TEST(MatmulBlocks, GoldenGroupsOfBoth) {
    const HostTensor dy =
        quantised_by_op(row(64, {{0, 1e-4f}, {1, -2e-4f}, {2, 3e-5f}, {32, 1e-3f}, {33, -7e-4f}}),
                        Dtype::e4m3, micro(32));
    const HostTensor x = quantised_by_op(row(64, kA), Dtype::e4m3, micro(32));
    EXPECT_EQ(std::bit_cast<std::uint32_t>(dy.scales[0]), 0x3615cbedu);
    EXPECT_EQ(dy.groups[0], 125);
    EXPECT_EQ(dy.groups[1], 127);
    EXPECT_EQ(codes_from(dy, 0, 4), (std::vector<int>{0x73, 0xfb, 0x65, 0}));
    EXPECT_EQ(codes_from(dy, 32, 3), (std::vector<int>{0x7e, 0xfa, 0}));
    expect_sum(dy, x, 0, 32, 187712);
    expect_sum(dy, x, 32, 64, 333824);
    expect_golden(unscaled(dy), unscaled(x), std::bit_cast<std::uint32_t>(130384.0f));
    expect_golden(dy, x, 0x3aff723c);
}

struct Case {
    std::int64_t m, n, k;
    Scaling a, b;
    Dtype a_dtype = Dtype::e4m3, b_dtype = Dtype::e4m3, out = Dtype::f32;
    bool accumulate = false, bias = false;
    MatmulKind kind = MatmulKind::dgrad;
};

// Of the Frobenius norm. Hopper's tensor cores keep about 14 bits of a sum, which products promote
// to f32 after each group or block; the CPU sums in f32.
double allowed(const Case& c) {
    if (c.out == Dtype::bf16) return 4e-3;
    if (!on_cuda()) return c.k > 4096 ? 4e-6 : 1e-6;
    return c.a == micro(32) ? 1e-3 : 2e-3;
}

void expect_product_of_values(const Case& c, const HostTensor& a, const HostTensor& b,
                              std::uint64_t seed) {
    SCOPED_TRACE(to_string(a.type) + " x " + to_string(b.type));
    std::vector<HostTensor> in{a, b};
    if (c.bias) in.push_back(random_tensor(c.out, {c.n}, seed));
    if (c.accumulate) in.push_back(random_tensor(c.out, {c.m, c.n}, seed + 1));
    std::vector<double> want(static_cast<std::size_t>(c.m * c.n));
    double squares = 0;
    for (std::int64_t i = 0; i < c.m; ++i) {
        for (std::int64_t j = 0; j < c.n; ++j) {
            double sum = 0;
            for (std::int64_t k = 0; k < c.k; ++k) {
                sum += a.values[i * c.k + k] * b.values[j * c.k + k];
            }
            squares += sum * sum;
            if (c.bias) sum += in[2].values[j];
            if (c.accumulate) sum += in.back().values[i * c.n + j];
            want[i * c.n + j] = sum;
        }
    }
    const Matmul op{
        .trans_b = true, .kind = c.kind, .out = c.out, .bias = c.bias, .accumulate = c.accumulate};
    const auto names = for_each_kernel(op, in, [&](const auto& out) {
        double errors = 0;
        for (std::size_t i = 0; i < want.size(); ++i) {
            errors += std::pow(out[0].values[i] - want[i], 2);
        }
        EXPECT_LE(std::sqrt(errors / squares), allowed(c));
    });
    EXPECT_FALSE(names.empty());
    const bool tiles = c.m % 16 == 0 && c.n % 16 == 0 && c.k % 16 == 0;
    const bool groups = c.a.granularity == Granularity::micro;
    if (!on_cuda() || !tiles || c.bias) return;
    const bool few = c.m <= 64 && c.a_dtype == Dtype::e4m3 && c.a == kRuns && c.b == kSquares;
    EXPECT_EQ(names[0], groups ? "moss" : few ? "few_rows" : "cublaslt_fp8");
}

std::vector<Case> cases() {
    using enum Dtype;
    std::vector<Case> all;
    const std::pair<Scaling, Scaling> pairs[] = {{kRow, kRow},
                                                 {kRow, kPerTensor},
                                                 {kPerTensor, kRow},
                                                 {kRuns, kRuns},
                                                 {kRuns, kSquares},
                                                 {kSquares, kRuns},
                                                 {micro(32), micro(32)},
                                                 {micro(64), micro(64)},
                                                 {micro(128), micro(128)},
                                                 {micro(32), kPerTensor},
                                                 {micro(64), kPerTensor},
                                                 {micro(128), kPerTensor}};
    for (const auto& [a, b] : pairs) {
        all.push_back({16, 32, 64, a, b});
        all.push_back({48, 144, 272, a, b, e5m2, e4m3, bf16});
        all.push_back({5, 300, 320, a, b});
        all.push_back({144, 80, 1024, a, b, e4m3, e4m3, f32, true});
        all.push_back({17, 3, 130, a, b, e4m3, e4m3, bf16, true});
        all.push_back({64, 48, 4096, a, b, e5m2, e4m3, f32});
        all.push_back({48, 144, 272, a, b, e4m3, e4m3, bf16, false, true});
        all.push_back({32, 48, 128, a, b, e4m3, e4m3, f32, true, true});
        all.push_back({17, 3, 130, a, b, e4m3, e4m3, bf16, true, true});
    }
    return all;
}

TEST(MatmulBlocks, IsTheProductOfTheValues) {
    std::uint64_t seed = 1;
    for (const Case& c : cases()) {
        const HostTensor a =
            quantised_by_op(random_tensor(Dtype::f32, {c.m, c.k}, ++seed), c.a_dtype, c.a);
        const HostTensor b =
            quantised_by_op(random_tensor(Dtype::f32, {c.n, c.k}, ++seed), c.b_dtype, c.b);
        expect_product_of_values(c, a, b, seed += 2);
    }
}

// The three products of every mode over long K, with extents of whole and of cut tiles. Rows under
// one scale each are left out in the forward product, whose sums stay in the tensor cores.
TEST(MatmulBlocks, LongSums) {
    struct Mode {
        Scaling a, b;
        std::vector<MatmulKind> kinds;
    };
    using enum MatmulKind;
    std::vector<Mode> modes{
        {kRow, kRow, {dgrad, wgrad}}, {kRuns, kSquares, {fprop, dgrad}}, {kRuns, kRuns, {wgrad}}};
    for (const int group : {32, 64, 128}) {
        modes.push_back({micro(group), kPerTensor, {fprop, dgrad}});
        modes.push_back({micro(group), micro(group), {wgrad}});
    }
    std::uint64_t seed = 1000;
    for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{80, 48, 1024},
                                  {16, 32, 16384},
                                  {5, 300, 300},
                                  {300, 5, 64},
                                  {19, 7, 16381}}) {
        const HostTensor x = random_tensor(Dtype::f32, {m, k}, ++seed),
                         w = random_tensor(Dtype::f32, {n, k}, ++seed);
        for (const Mode& mode : modes) {
            for (const MatmulKind kind : mode.kinds) {
                const bool hybrid = kind != fprop && k % 5 == 0;
                const Case c{.m = m,
                             .n = n,
                             .k = k,
                             .a = mode.a,
                             .b = mode.b,
                             .a_dtype = hybrid ? Dtype::e5m2 : Dtype::e4m3,
                             .accumulate = kind == wgrad,
                             .kind = kind};
                expect_product_of_values(c, quantised_by_op(x, c.a_dtype, c.a),
                                         quantised_by_op(w, c.b_dtype, c.b), ++seed);
            }
        }
    }
}

// A product that reads a wrong scale is off by far more than rounding.
TEST(MatmulBlocks, ReadsTheScaleOfEachBlock) {
    HostTensor x = random_tensor(Dtype::f32, {272, 384}, 5);
    HostTensor w = random_tensor(Dtype::f32, {144, 384}, 6);
    for (std::size_t i = 0; i < x.values.size(); ++i) {
        const auto row_of = static_cast<std::int64_t>(i) / 384,
                   block = static_cast<std::int64_t>(i) % 384 / 32;
        x.values[i] *= std::exp2(static_cast<double>((row_of * 7 + block * 5) % 9));
    }
    x = tensor(Dtype::f32, x.type.shape, x.values);
    for (const auto& [a_scaling, b_scaling] :
         {std::pair{kRuns, kSquares}, {kRuns, kRuns}, {kRow, kRow}, {micro(32), micro(32)}}) {
        const HostTensor a = quantised(x, Dtype::e4m3, a_scaling);
        const HostTensor b = quantised(w, Dtype::e4m3, b_scaling);
        SCOPED_TRACE(to_string(a.type));
        const HostTensor y =
            run(as_is(Matmul{.trans_b = true, .kind = MatmulKind::dgrad}), {a, b})[0];
        double errors = 0, squares = 0;
        for (std::int64_t i = 0; i < 272; ++i) {
            for (std::int64_t j = 0; j < 144; ++j) {
                double sum = 0;
                for (std::int64_t k = 0; k < 384; ++k) {
                    sum += a.values[i * 384 + k] * b.values[j * 384 + k];
                }
                errors += std::pow(y.values[i * 144 + j] - sum, 2);
                squares += sum * sum;
            }
        }
        EXPECT_LE(std::sqrt(errors / squares), 2e-3);
    }
}

// Blocks of 128 x 128 do not care which way the operand lies.
TEST(MatmulBlocks, TransposedSquares) {
    const HostTensor a = quantised(random_tensor(Dtype::f32, {32, 272}, 1), Dtype::e4m3, kRuns);
    const HostTensor w = quantised(random_tensor(Dtype::f32, {272, 144}, 2), Dtype::e4m3, kSquares);
    const HostTensor turned = run(as_is(Transpose{}), {w})[0];
    EXPECT_EQ(turned.type.scaling, kSquares);
    const Matmul op{.kind = MatmulKind::dgrad};
    Matmul op_t = op;
    op_t.trans_b = true;
    expect_close(run(as_is(op), {a, w})[0], run(as_is(op_t), {a, turned})[0].values, 3e-3);
    const auto values = run(as_is(Dequantise{}), {w})[0],
               values_t = run(as_is(Dequantise{}), {turned})[0];
    for (std::int64_t i = 0; i < 272; ++i) {
        for (std::int64_t j = 0; j < 144; ++j) {
            ASSERT_EQ(values.values[i * 144 + j], values_t.values[j * 272 + i]);
        }
    }
}

// A weight under one scale may lie either way, too.
TEST(MatmulBlocks, TransposedWeights) {
    const HostTensor a = quantised(random_tensor(Dtype::f32, {32, 272}, 1), Dtype::e4m3, micro(32));
    const HostTensor w =
        quantised(random_tensor(Dtype::f32, {272, 144}, 2), Dtype::e4m3, kPerTensor);
    const HostTensor turned = run(as_is(Transpose{}), {w})[0];
    const Matmul op{.kind = MatmulKind::dgrad};
    Matmul op_t = op;
    op_t.trans_b = true;
    expect_close(run(as_is(op), {a, w})[0], run(as_is(op_t), {a, turned})[0].values, 3e-3);
}

TEST(Dequantise, IsTheCodeTimesItsScales) {
    for (const Scaling& s : {kRow, kRuns, kSquares, micro(32), micro(64), micro(128)}) {
        const HostTensor x =
            quantised(random_tensor(Dtype::f32, {2, 65, 300}, 3, 100), Dtype::e5m2, s);
        const HostTensor y = run(as_is(Dequantise{}), {x})[0];
        for (std::size_t i = 0; i < x.values.size(); ++i) {
            ASSERT_EQ(y.values[i], static_cast<float>(x.values[i])) << to_string(s) << " " << i;
        }
    }
}

TEST(MatmulBlocks, Refusals) {
    const auto type = [](Dtype d, const Scaling& s) { return Type{d, {32, 64}, s}; };
    const Build build = as_is(Matmul{.trans_b = true});
    using enum Dtype;
    EXPECT_EQ(refusal(build, {type(e4m3, kSquares), type(e4m3, kSquares)}),
              "matmul: no product of scales e4m3[32, 64] x 128x128 and e4m3[32, 64] x 128x128");
    EXPECT_EQ(refusal(build, {type(e5m2, kRuns), type(e5m2, kRuns)}),
              "matmul: no product of e5m2 and e5m2 under scales per row or block, got "
              "e5m2[32, 64] x 1x128 and e5m2[32, 64] x 1x128");
    EXPECT_EQ(refusal(as_is(Matmul{}), {type(e4m3, kRuns), {e4m3, {64, 32}, kRuns}}),
              "matmul: operand 1 must be contiguous along K, as its scales are, got e4m3[64, 32] x "
              "1x128");
    EXPECT_NE(refusal(build, {type(e4m3, micro(32)), type(e4m3, micro(64))}), "accepted");
}

}  // namespace
}  // namespace octavo::test
