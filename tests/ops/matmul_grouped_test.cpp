// Products of groups, as mixtures of experts have them.
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

constexpr Dtype kF64 = Dtype::f64, kF32 = Dtype::f32, kBf16 = Dtype::bf16;
constexpr Dtype kE4m3 = Dtype::e4m3, kE5m2 = Dtype::e5m2;

// Rows of each expert, and some behind them that belong to none.
struct Groups {
    std::vector<std::int64_t> rows;
    std::int64_t behind = 0;

    std::int64_t count() const { return std::ssize(rows); }
    std::vector<double> offsets() const {
        std::vector<double> at{0};
        for (const std::int64_t n : rows) at.push_back(at.back() + static_cast<double>(n));
        return at;
    }
    // Of which all first rows are multiples: some kernels ask for whole tiles.
    std::int64_t alignment() const {
        return std::ranges::all_of(rows, [](std::int64_t n) { return n % 128 == 0; }) ? 128 : 1;
    }
    std::int64_t total() const { return static_cast<std::int64_t>(offsets().back()) + behind; }
};

struct GroupedCase {
    Groups groups;
    std::int64_t m, n, k;  // m of group_k alone, where K is the rows
    bool group_k = false, trans_a = false, trans_b = false;
    Dtype a = kF32, b = kF32, out = kF32;
    bool accumulate = false;
};

Matmul op_of(const GroupedCase& c) {
    return {.trans_a = c.trans_a,
            .trans_b = c.trans_b,
            .out = c.out,
            .accumulate = c.accumulate,
            .groups = c.groups.count(),
            .group_k = c.group_k,
            .alignment = c.groups.alignment()};
}

HostTensor operand(Dtype dtype, Shape shape, std::uint64_t seed) {
    if (is_fp8(dtype)) return scaled_tensor(dtype, shape, seed, seed == 1 ? 0.25f : 0.3f);
    return random_tensor(dtype, shape, seed);
}

std::vector<HostTensor> operands(const GroupedCase& c) {
    const std::int64_t r = c.groups.total(), e = c.groups.count();
    const auto turned = [](bool turn, std::int64_t x, std::int64_t y) {
        return turn ? Shape{y, x} : Shape{x, y};
    };
    std::vector<HostTensor> in;
    if (c.group_k) {
        in = {operand(c.a, turned(c.trans_a, c.m, r), 1),
              operand(c.b, turned(c.trans_b, r, c.n), 2)};
    } else {
        in = {operand(c.a, {r, c.k}, 1),
              operand(c.b, c.trans_b ? Shape{e, c.n, c.k} : Shape{e, c.k, c.n}, 2)};
    }
    in.push_back(tensor(Dtype::i32, {e + 1}, c.groups.offsets()));
    const Shape result = c.group_k ? Shape{e, c.m, c.n} : Shape{r, c.n};
    if (c.accumulate) in.push_back(random_tensor(c.out, result, 3));
    return in;
}

std::vector<double> oracle(const GroupedCase& c, const std::vector<HostTensor>& in) {
    const std::vector<double> offsets = c.groups.offsets();
    const std::int64_t r = c.groups.total(), e_count = c.groups.count();
    const auto elements = static_cast<std::size_t>((c.group_k ? e_count * c.m : r) * c.n);
    std::vector<double> want(elements);
    if (c.accumulate) want = in[3].values;
    for (std::int64_t e = 0; e < e_count; ++e) {
        const auto first = static_cast<std::int64_t>(offsets[static_cast<std::size_t>(e)]);
        const std::int64_t rows = c.groups.rows[static_cast<std::size_t>(e)];
        const std::int64_t m = c.group_k ? c.m : rows, k = c.group_k ? rows : c.k;
        for (std::int64_t i = 0; i < m; ++i) {
            for (std::int64_t j = 0; j < c.n; ++j) {
                double sum = 0;
                for (std::int64_t p = 0; p < k; ++p) {
                    const std::int64_t at = first + p;
                    const std::int64_t a = !c.group_k  ? (first + i) * k + p
                                           : c.trans_a ? at * c.m + i
                                                       : i * r + at;
                    const std::int64_t b =
                        c.group_k ? (c.trans_b ? j * r + at : at * c.n + j)
                                  : e * c.n * k + (c.trans_b ? j * k + p : p * c.n + j);
                    sum += in[0].values[a] * in[1].values[b];
                }
                const std::int64_t to = (c.group_k ? e * c.m + i : first + i) * c.n + j;
                want[static_cast<std::size_t>(to)] += sum;
            }
        }
    }
    return want;
}

double tolerance(const GroupedCase& c) {
    const auto sums = static_cast<double>(c.group_k ? c.groups.total() : c.k);
    // Hopper's products of FP8 keep about 14 bits of their sums.
    const bool fp8 = on_cuda() && is_fp8(c.a);
    return rounding(c.out) + (fp8 ? 0x1p-11 : rounding(c.a == kF64 ? kF64 : kF32) * (4 + sums));
}

void expect_sums_in_f64(const GroupedCase& c) {
    const std::vector<HostTensor> in = operands(c);
    const std::vector<double> want = oracle(c, in);
    const auto names = for_each_kernel(op_of(c), in, [&](const std::vector<HostTensor>& out) {
        expect_close(out[0], want, tolerance(c));
    });
    EXPECT_FALSE(names.empty());
}

const Groups kGroups[] = {
    {{3}, 0},    {{5, 0, 33, 1}, 2},        {{0, 0, 70}, 0},
    {{0, 0}, 3}, {{128, 0, 256, 128}, 128}, {{40, 19, 2, 1, 17, 16, 50, 3}, 0}};

TEST(GroupedMatmul, RowsAgreeWithSumsInF64) {
    for (const Groups& g : kGroups) {
        for (const auto& [n, k] : {std::array<std::int64_t, 2>{7, 5}, {64, 48}, {96, 128}}) {
            for (const bool trans_b : {true, false}) {
                const GroupedCase c{.groups = g, .m = 0, .n = n, .k = k, .trans_b = trans_b};
                const auto with = [&](Dtype a, Dtype b, Dtype out, bool accumulate = false) {
                    GroupedCase other = c;
                    other.a = a, other.b = b, other.out = out, other.accumulate = accumulate;
                    expect_sums_in_f64(other);
                };
                with(kF32, kF32, kF32);
                with(kF64, kF64, kF64, true);
                with(kBf16, kBf16, kBf16, true);
                with(kE4m3, kE4m3, kBf16);
                with(kE5m2, kE4m3, kF32, true);
            }
        }
    }
}

TEST(GroupedMatmul, GroupsAlongKAgreeWithSumsInF64) {
    for (const Groups& g : kGroups) {
        for (const auto& [m, n] : {std::array<std::int64_t, 2>{7, 5}, {64, 48}, {96, 128}}) {
            for (const auto& [trans_a, trans_b] :
                 {std::array{true, false}, std::array{false, true}}) {
                const GroupedCase c{.groups = g,
                                    .m = m,
                                    .n = n,
                                    .k = 0,
                                    .group_k = true,
                                    .trans_a = trans_a,
                                    .trans_b = trans_b};
                const auto with = [&](Dtype a, Dtype b, Dtype out, bool accumulate = false) {
                    GroupedCase other = c;
                    other.a = a, other.b = b, other.out = out, other.accumulate = accumulate;
                    expect_sums_in_f64(other);
                };
                with(kF32, kF32, kF32, true);
                with(kF64, kF64, kF64);
                with(kBf16, kBf16, kF32, true);
                with(kBf16, kBf16, kBf16);
                with(kE5m2, kE4m3, kF32);
                with(kE5m2, kE4m3, kF32, true);
            }
        }
    }
}

// Blocks, groups and rows with scales of their own: the same product of what they stand for.
TEST(GroupedMatmul, FineScales) {
    const Groups g{{128, 0, 256, 128}, 128};
    const std::int64_t r = g.total(), n = 128, k = 256;
    const Scaling rows{Granularity::block_1x128}, tiles{Granularity::block_128x128};
    const Scaling micro{Granularity::micro, Dtype::f32, 32};
    const HostTensor x = random_tensor(kF32, {r, k}, 1), dy = random_tensor(kF32, {r, n}, 2);
    const HostTensor w = random_tensor(kF32, {g.count(), n, k}, 3);
    const HostTensor offsets = tensor(Dtype::i32, {g.count() + 1}, g.offsets());
    const auto quantised = [](Builder& b, Value v, const Scaling& s) {
        return b.one(BlockQuantise{.to = kE4m3, .scaling = s}, {v});
    };
    for (const bool groups : {false, true}) {
        const Scaling fine = groups ? micro : rows;
        const Build build = [&](Builder& b, const Values& in) {
            const Value qx = quantised(b, in[0], fine);
            const Value qw = groups
                                 ? b.one(Quantise{kE4m3}, {in[2], b.constant({kF32, {1}}, 0x1p-6)})
                                 : quantised(b, in[2], tiles);
            const Value x_t = quantised(b, b.one(Transpose{}, {in[0]}), fine);
            const Value dy_t = quantised(b, b.one(Transpose{}, {in[1]}), fine);
            const Matmul by_rows{.trans_b = true, .groups = g.count(), .alignment = 128};
            Matmul by_k = by_rows;
            by_k.group_k = true;
            return Values{b.one(by_rows, {qx, qw, in[3]}), b.one(by_k, {dy_t, x_t, in[3]}),
                          b.one(Dequantise{kF32}, {qx}),   b.one(Dequantise{kF32}, {qw}),
                          b.one(Dequantise{kF32}, {dy_t}), b.one(Dequantise{kF32}, {x_t})};
        };
        const auto out = run(build, {x, dy, w, offsets});
        const GroupedCase c{.groups = g, .m = 0, .n = n, .k = k, .trans_b = true};
        expect_close(out[0], oracle(c, {out[2], out[3], offsets}), 0x1p-11);
        const GroupedCase d{.groups = g, .m = n, .n = k, .k = 0, .group_k = true, .trans_b = true};
        expect_close(out[1], oracle(d, {out[4], out[5], offsets}), 0x1p-11);
    }
}

TEST(GroupedMatmul, Gradient) {
    const Groups g{{2, 0, 3}, 1};
    const HostTensor offsets = tensor(Dtype::i32, {4}, g.offsets());
    for (const bool trans_b : {true, false}) {
        const Matmul op{.trans_b = trans_b, .out = kF64, .groups = 3};
        const Shape w = trans_b ? Shape{3, 4, 5} : Shape{3, 5, 4};
        check_gradient(as_is(op),
                       {random_tensor(kF64, {6, 5}, 1), random_tensor(kF64, w, 2), offsets},
                       {0, 1});
    }
}

TEST(GroupedMatmul, RefusesWhatDoesNotFit) {
    const Type a{kF32, {6, 5}}, w{kF32, {3, 4, 5}}, offsets{Dtype::i32, {4}};
    const Matmul op{.trans_b = true, .groups = 3};
    EXPECT_EQ(refusal(as_is(op), {a, w, offsets}), "accepted");
    EXPECT_EQ(refusal(as_is(op), {a, {kF32, {2, 4, 5}}, offsets}),
              "matmul: expected rows of a, not transposed, and a stack of 3 matrices, got "
              "f32[6, 5] and f32[2, 4, 5]");
    EXPECT_EQ(refusal(as_is(op), {a, w, {Dtype::i32, {3}}}),
              "matmul: operand 2 must have shape [4], got i32[3]");
    const Type tiles{kE4m3, {3, 64, 128}, {Granularity::block_128x128}};
    const Type blocks{kE4m3, {128, 128}, {Granularity::block_1x128}};
    EXPECT_EQ(
        refusal(as_is(op), {blocks, tiles, offsets}),
        "matmul: expected a stack of matrices of whole 128x128 blocks, got " + to_string(tiles));
}

TEST(Transpose, TurnsEachMatrixOfAStack) {
    for (const Dtype dtype : {kF32, kBf16}) {
        const HostTensor x = random_tensor(dtype, {3, 33, 70}, 1);
        const auto y = run(as_is(Transpose{.batched = true}), {x})[0];
        EXPECT_EQ(y.type, (Type{dtype, {3, 70, 33}}));
        for (std::int64_t i = 0; i < x.type.shape.elements(); ++i) {
            const std::int64_t e = i / (33 * 70), row = i / 70 % 33, column = i % 70;
            ASSERT_EQ(y.values[e * 33 * 70 + column * 33 + row], x.values[i]);
        }
    }
    // Codes and scales of whole blocks.
    const auto quantised = run(as_is(BlockQuantise{.scaling = {Granularity::block_128x128}}),
                               {random_tensor(kF32, {2, 128, 384}, 3)})[0];
    const auto y = run(as_is(Transpose{.batched = true}), {quantised})[0];
    for (std::int64_t i = 0; i < quantised.type.shape.elements(); ++i) {
        const std::int64_t e = i / (128 * 384), row = i / 384 % 128, column = i % 384;
        ASSERT_EQ(y.values[(e * 384 + column) * 128 + row], quantised.values[i]);
    }
    const HostTensor codes = scaled_tensor(kE5m2, {2, 40, 24}, 2, 0.25f);
    const auto z = run(as_is(Transpose{.batched = true}), {codes})[0];
    EXPECT_EQ(z.scales, codes.scales);
    EXPECT_EQ(z.values[24 * 40 + 1], codes.values[40 * 24 + 24]);
}

}  // namespace
}  // namespace octavo::test
