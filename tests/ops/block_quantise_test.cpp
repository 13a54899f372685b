#include <atomic>
#include <functional>
#include <set>
#include <span>

#include "base/convert.h"
#include "base/parallel.h"
#include "ops/block_quantise_oracle.h"
#include "ops/quantise_source.h"

namespace octavo::test {
namespace {

BlockQuantise runs(Dtype to = Dtype::e4m3, ScaleRounding rounding = ScaleRounding::exact,
                   float floor = 1e-10f) {
    return {.to = to, .scaling = {Granularity::block_1x128}, .rounding = rounding, .floor = floor};
}
BlockQuantise micro(int group = 32, Dtype to = Dtype::e4m3) {
    return {.to = to, .scaling = {Granularity::micro, Dtype::f32, group}};
}

// One row of `n` elements, zero but for those listed.
HostTensor row(std::int64_t n, const std::vector<std::pair<int, float>>& listed) {
    std::vector<double> values(static_cast<std::size_t>(n));
    for (const auto& [at, value] : listed) values[static_cast<std::size_t>(at)] = value;
    return tensor(Dtype::f32, {1, n}, values);
}

std::uint32_t bits(float x) { return std::bit_cast<std::uint32_t>(x); }

struct Golden {
    const char* what;
    BlockQuantise op;
    HostTensor x;
    std::vector<std::uint32_t> scales;
    std::vector<int> bytes;                  // of all groups of the row
    std::vector<std::pair<int, int>> codes;  // others are 0
};

const std::vector<std::pair<int, float>> kA = {{0, 3},        {1, -2},     {2, 1},      {3, 0.1f},
                                               {4, -0.01f},   {5, 0.001f}, {32, 0.75f}, {33, -0.7f},
                                               {34, 0.0123f}, {35, 1e-5f}};
const std::vector<std::pair<int, float>> kTileA = {
    {0, 3},      {1, -2},     {2, 1},      {3, 0.1f},     {4, -0.01f},
    {5, 0.001f}, {64, 0.75f}, {65, -0.7f}, {66, 0.0123f}, {67, 1e-5f}};

std::vector<std::pair<int, int>> codes(const std::vector<int>& first, int second_at = 0,
                                       const std::vector<int>& second = {}) {
    std::vector<std::pair<int, int>> listed;
    for (std::size_t i = 0; i < first.size(); ++i) listed.emplace_back(i, first[i]);
    for (std::size_t i = 0; i < second.size(); ++i) listed.emplace_back(second_at + i, second[i]);
    return listed;
}

std::vector<Golden> goldens() {
    const auto pow2 = ScaleRounding::pow2;
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = INFINITY;
    const float up = std::nextafterf(2, 3), down = std::nextafterf(2, 1);
    const std::vector<int> a = {0x7e, 0xf9, 0x71, 0x57, 0xbc, 0x22};
    const auto poisoned = [](float with) {
        auto listed = kA;
        listed[3].second = with;
        return listed;
    };
    return {
        // MOSS, section 5.
        {"1",
         micro(),
         row(64, kA),
         {0x3bdb6db7},
         {127, 125},
         codes(a, 32, {0x7e, 0xfd, 0x4f, 0x03})},
        {"2", micro(64), row(64, kA), {0x3bdb6db7}, {127}, codes(a, 32, {0x6e, 0xed, 0x3f, 0x01})},
        {"4",
         micro(32, Dtype::e5m2),
         row(64, kA),
         {0x385b6db7},
         {127, 125},
         codes({0x7b, 0xf9, 0x75, 0x67, 0xda, 0x4d}, 32, {0x7b, 0xfb, 0x63, 0x3a})},
        {"5",
         micro(),
         row(128, {{0, 4}, {32, 2}, {64, up}, {96, down}}),
         {0x3c124925},
         {127, 126, 127, 126},
         {{0, 0x7e}, {32, 0x7e}, {64, 0x76}, {96, 0x7e}}},
        {"6", micro(), row(32, {}), {0x09124925}, {100}, {}},
        {"7",
         micro(),
         row(64, {{0, 1}, {32, 0x1p-140f}}),
         {0x3b124925},
         {127, 1},
         {{0, 0x7e}, {32, 0x0e}}},
        {"7, zero", micro(), row(64, {{0, 1}}), {0x3b124925}, {127, 1}, {{0, 0x7e}}},
        {"8",
         micro(),
         row(48, {{0, -6}, {40, 0.3f}}),
         {0x3c5b6db7},
         {127, 123},
         {{0, 0xfe}, {40, 0x7b}}},
        {"9",
         micro(),
         row(32, {{0, 448},
                  {1, 17},
                  {2, 19},
                  {3, 1.0625f},
                  {4, 0x1p-10f},
                  {5, 1.5f * 0x1p-10f},
                  {6, 1.5f * 0x1p-9f},
                  {7, -0.5f}}),
         {0x3f800000},
         {127},
         codes({0x7e, 0x58, 0x5a, 0x38, 0x00, 0x01, 0x02, 0xb0})},
        // Blockwise, section 5.
        {"b1", runs(), row(128, kTileA), {0x3bdb6db7}, {}, codes(a, 64, {0x6e, 0xed, 0x3f, 0x01})},
        {"b2",
         runs(Dtype::e4m3, pow2),
         row(128, kTileA),
         {bits(0x1p-7f)},
         {},
         codes({0x7c, 0xf8, 0x70, 0x55, 0xba, 0x20}, 64, {0x6c, 0xeb, 0x3d, 0x01})},
        {"b3",
         runs(Dtype::e5m2),
         row(128, kTileA),
         {0x385b6db7},
         {},
         codes({0x7b, 0xf9, 0x75, 0x67, 0xda, 0x4d}, 64, {0x73, 0xf3, 0x5b, 0x32})},
        {"b3, pow2",
         runs(Dtype::e5m2, pow2),
         row(128, kTileA),
         {bits(0x1p-14f)},
         {},
         codes({0x7a, 0xf8, 0x74, 0x66, 0xd9, 0x4c}, 64, {0x72, 0xf2, 0x5a, 0x31})},
        {"b4", runs(Dtype::e4m3, pow2), row(128, {{0, 448}}), {bits(1)}, {}, {{0, 0x7e}}},
        {"b4, above", runs(Dtype::e4m3, pow2), row(128, {{0, 449}}), {bits(2)}, {}, {{0, 0x76}}},
        {"b5", runs(), row(128, {{0, 448}, {1, 464}}), {0x3f849249}, {}, codes({0x7e, 0x7e})},
        {"b6",
         runs(Dtype::e4m3, ScaleRounding::exact, 0x1p-100f),
         row(128, {{0, 1e-14f}, {1, -3e-16f}}),
         {0x23cde0fb},
         {},
         codes({0x7e, 0xd5})},
        {"b6, floor",
         runs(),
         row(128, {{0, 1e-14f}, {1, -3e-16f}}),
         {0x2a7b5123},
         {},
         codes({0x13, 0x81})},
        {"b7", runs(), row(128, {}), {0x2a7b5123}, {}, {}},
        {"b7, pow2", runs(Dtype::e4m3, pow2), row(128, {}), {0x2a800000}, {}, {}},
        {"b7, gradients",
         runs(Dtype::e4m3, ScaleRounding::exact, 0x1p-100f),
         row(128, {}),
         {0x09124925},
         {},
         {}},
        {"b7, gradients, pow2",
         runs(Dtype::e4m3, pow2, 0x1p-100f),
         row(128, {}),
         {0x09800000},
         {},
         {}},
        {"-0", micro(), row(32, {{3, -0.0f}}), {0x09124925}, {100}, {{3, 0x80}}},
        {"inf",
         runs(),
         row(130, {{3, inf}, {129, 1}}),
         {0x7fc00000, bits(1.0f / 448)},
         {},
         [] {
             auto c = codes(std::vector<int>(128, 0x7f));
             c.emplace_back(129, 0x7e);
             return c;
         }()},
        {"10, nan",
         micro(),
         row(64, poisoned(nan)),
         {0x7fc00000},
         {127, 127},
         codes(std::vector<int>(64, 0x7f))},
        {"10, inf",
         micro(),
         row(64, poisoned(inf)),
         {0x7fc00000},
         {127, 127},
         codes(std::vector<int>(64, 0x7f))},
    };
}

TEST(BlockQuantise, GoldenVectors) {
    for (const Golden& g : goldens()) {
        SCOPED_TRACE(g.what);
        const HostTensor y = run(as_is(g.op), {g.x})[0];
        for (std::size_t i = 0; i < g.scales.size(); ++i) {
            const ScaleLayout layout = scale_layout(y.type);
            const auto at = layout.scale_at(0, static_cast<std::int64_t>(i) * 128);
            EXPECT_EQ(bits(y.scales[static_cast<std::size_t>(at)]), g.scales[i]);
        }
        for (std::size_t i = 0; i < g.bytes.size(); ++i) EXPECT_EQ(y.groups[i], g.bytes[i]);
        std::vector<int> want(y.codes.size());
        for (const auto& [at, code] : g.codes) want[static_cast<std::size_t>(at)] = code;
        EXPECT_EQ(code_values(y), want);
    }
}

BlockQuantise te(ScaleRounding rounding = ScaleRounding::exact) {
    BlockQuantise op = runs(Dtype::e4m3, rounding);
    op.rule = BlockRule::te;
    return op;
}

// r = RN(448 / a) and scale = RN(1 / r), which for tile A is the scale of the other rule, too.
TEST(BlockQuantise, TransformerEnginesRule) {
    const HostTensor a = run(as_is(te()), {row(128, kTileA)})[0];
    expect_identical(a, run(as_is(runs()), {row(128, kTileA)})[0]);
    EXPECT_EQ(bits(a.scales[0]), 0x3bdb6db7u);
    // No floor: small tiles keep their bits, and a tile of zeros has the scale 1.
    const HostTensor small = run(as_is(te()), {row(128, {{0, 1e-14f}, {1, -3e-16f}})})[0];
    EXPECT_EQ(code_values(small)[0], 0x7e);
    EXPECT_EQ(code_values(small)[1], 0xd5);
    for (const ScaleRounding rounding : {ScaleRounding::exact, ScaleRounding::pow2}) {
        const HostTensor zeros = run(as_is(te(rounding)), {row(128, {})})[0];
        EXPECT_EQ(zeros.scales[0], 1.0f);
        EXPECT_EQ(code_values(zeros), std::vector<int>(128));
        // 448 / a is infinite: the largest number is taken.
        const HostTensor tiny = run(as_is(te(rounding)), {row(128, {{5, 0x1p-140f}})})[0];
        EXPECT_TRUE(std::isfinite(tiny.values[5]));
        const HostTensor bad = run(as_is(te(rounding)), {row(128, {{3, INFINITY}})})[0];
        EXPECT_EQ(bits(bad.scales[0]), 0x7fc00000u);
    }
    EXPECT_EQ(
        refusal(as_is([] {
                    BlockQuantise op = micro();
                    op.rule = BlockRule::te;
                    return op;
                }()),
                {Type{Dtype::f32, {4, 32}}}),
        "block_quantise: exponents of micro groups need a floor, which rule te does not have");
}

// Where the rules part (arXiv 2601.18150): amax and element in bf16, and both codes.
TEST(BlockQuantise, RulesInExamples) {
    struct Example {
        std::uint16_t amax, x;
        int recip, te;
    };
    for (const Example& e : {Example{0x3B44, 0x3ACB, 0x77, 0x77},
                             {0x3E26, 0x3CF9, 0x6B, 0x6A},
                             {0x3E4C, 0x3D99, 0x73, 0x73}}) {
        const auto at = [](std::uint16_t code) {
            return static_cast<float>(bf16::from_bits(code));
        };
        const HostTensor x = row(128, {{0, at(e.amax)}, {1, at(e.x)}});
        EXPECT_EQ(code_values(run(as_is(runs()), {x})[0])[1], e.recip);
        EXPECT_EQ(code_values(run(as_is(te()), {x})[0])[1], e.te);
        if (e.amax != 0x3E26) continue;
        EXPECT_EQ(bits(run(as_is(runs()), {x})[0].scales[0]), 0x39bdb6dbu);
        EXPECT_EQ(bits(run(as_is(te()), {x})[0].scales[0]), 0x39bdb6dcu);
    }
}

// Of all maxima in bf16, 40 of 128 get another scale, in its last bit, and about 0.0165 % of
// elements another code (arXiv 2601.18150). Powers of two are the same.
TEST(BlockQuantise, RulesDifferInLastBits) {
    std::vector<double> maxima(128 * 128);
    for (std::uint16_t m = 0; m < 128; ++m) {
        maxima[m * std::size_t{128}] = static_cast<float>(bf16::from_bits(0x3F80 + m));
    }
    const HostTensor tops = tensor(Dtype::bf16, {128, 128}, maxima);
    const HostTensor r = run(as_is(runs()), {tops})[0], t = run(as_is(te()), {tops})[0];
    int differ = 0;
    for (std::size_t i = 0; i < 128; ++i) {
        const auto apart = static_cast<int>(bits(r.scales[i]) - bits(t.scales[i]));
        EXPECT_LE(std::abs(apart), 1);
        differ += apart != 0;
    }
    EXPECT_EQ(differ, 40);

    const HostTensor x = random_tensor(Dtype::bf16, {4096, 1024}, 5);
    const HostTensor one = run(as_is(runs()), {x})[0], other = run(as_is(te()), {x})[0];
    double codes = 0;
    for (std::size_t i = 0; i < one.codes.size(); ++i) codes += one.codes[i] != other.codes[i];
    EXPECT_NEAR(codes / static_cast<double>(one.codes.size()), 1.65e-4, 0.3e-4);
    expect_identical(run(as_is(runs(Dtype::e4m3, ScaleRounding::pow2)), {x})[0],
                     run(as_is(te(ScaleRounding::pow2)), {x})[0]);
}

// Golden vector 3: the scale of the whole tensor.
TEST(BlockQuantise, GlobalScale) {
    std::vector<double> values(128);
    for (const auto& [at, value] : kA) values[static_cast<std::size_t>(at)] = value;
    values[64 + 7] = -12;
    BlockQuantise op = micro();
    op.global = true;
    const HostTensor y = run(as_is(op), {tensor(Dtype::f32, {2, 64}, values)})[0];
    EXPECT_EQ(bits(y.scales[0]), 0x3cdb6db7u);
    EXPECT_EQ(bits(y.scales[1]), 0x3cdb6db7u);
    const std::vector<int> bytes = {125, 123, 127, 1};  // the last group is of zeros
    for (std::int64_t i = 0; i < 4; ++i) {
        const auto at = scale_layout(y.type).group_at(i / 2, i % 2 * 32);
        EXPECT_EQ(y.groups[static_cast<std::size_t>(at)], bytes[static_cast<std::size_t>(i)]) << i;
    }
    std::vector<int> want(128);
    const auto first = codes({0x7e, 0xf9, 0x71, 0x57, 0xbc, 0x22}, 32, {0x7e, 0xfd, 0x4f, 0x03});
    for (const auto& [at, code] : first) want[static_cast<std::size_t>(at)] = code;
    want[64 + 7] = 0xfe;
    EXPECT_EQ(code_values(y), want);
}

BlockQuantise random_op(std::uint64_t i) {
    const Granularity kinds[] = {Granularity::row, Granularity::block_1x128,
                                 Granularity::block_128x128, Granularity::micro};
    const Granularity kind = kinds[i % 4];
    BlockQuantise op{.to = i / 4 % 2 ? Dtype::e5m2 : Dtype::e4m3, .scaling = {kind}};
    if (kind == Granularity::micro) {
        op.scaling.group = 32 << (i / 8 % 3);
        op.global = i / 24 % 2 == 1;
    } else {
        op.rounding = i / 8 % 2 ? ScaleRounding::pow2 : ScaleRounding::exact;
        op.floor = i / 16 % 2 ? 1e-10f : 0x1p-100f;
        op.rule = i / 32 % 2 ? BlockRule::te : BlockRule::recip;
    }
    return op;
}

// Magnitudes over the whole range of f32 in groups that share theirs roughly, exact powers of two
// and what lies beside them, zeros, subnormals, now and then an infinity or a NaN.
HostTensor adversarial(Dtype dtype, const Shape& shape, std::uint64_t seed) {
    const Rng rng(seed, 7);
    std::vector<double> values(static_cast<std::size_t>(shape.elements()));
    for (std::uint64_t i = 0; i < values.size(); ++i) {
        const int base = static_cast<int>(rng.bits64(i / 16 + 1000000) % 280) - 150;
        const std::uint64_t kind = rng.bits64(2000000 + i) % 64;
        double x = std::ldexp(rng.normal(i), base);
        if (kind < 8) x = std::ldexp(1.0, base);
        if (kind == 8) x = std::ldexp(1.0 + 0x1p-7, base);
        if (kind == 9) x = std::ldexp(2.0 - 0x1p-7, base);
        if (kind == 10) x = std::ldexp(1.75, base);
        if (kind < 16 && kind > 10) x = 0;
        if (rng.bits64(3000000 + i) % 4096 == 0) x = kind % 2 ? kNan : -kInf;
        values[i] = rng.bits64(4000000 + i) % 2 ? x : -x;
    }
    return tensor(dtype, shape, values);
}

const Shape kMatrices[] = {{1, 1},    {3, 5},     {16, 32},   {128, 128}, {2, 33, 130},
                           {257, 96}, {144, 272}, {31, 1024}, {5, 300}};

struct Draw {
    int kind;
    BlockQuantise op;
    Shape shape;
    HostTensor x;
};

// Every kind in every shape: over the shapes each meets all dtypes, plain and hard values.
void for_each_draw(std::uint64_t seed, const std::function<void(const Draw&)>& f) {
    for (std::size_t s = 0; s < std::size(kMatrices); ++s) {
        std::map<std::pair<Dtype, bool>, HostTensor> known;  // a tensor serves several kinds
        for (std::size_t kind = 0; kind < 48; ++kind) {
            const BlockQuantise op = random_op(kind);
            const Dtype dtype = kPlainDtypes[(s + kind / 4) % 4];
            const bool hard = Rng(seed, kind).bits(s) % 3 != 0;
            HostTensor& x = known[{dtype, hard}];
            if (x.values.empty()) {
                const std::uint64_t at = seed + s * 8 + static_cast<std::uint64_t>(dtype);
                x = hard ? adversarial(dtype, kMatrices[s], at)
                         : random_tensor(dtype, kMatrices[s], at, 3);
            }
            SCOPED_TRACE(fmt::format("{} {}{} {}", hard ? "hard" : "plain", name(dtype),
                                     attributes(op), to_string(kMatrices[s])));
            f({static_cast<int>(kind), op, kMatrices[s], x});
        }
    }
}

TEST(BlockQuantise, DrawsMeetEveryFormatInEveryDtype) {
    for (const std::uint64_t seed : {1, 2}) {
        std::set<std::pair<int, Dtype>> kinds;
        std::set<std::pair<std::string, Dtype>> formats;
        std::set<std::pair<std::string, bool>> shapes;
        for_each_draw(seed, [&](const Draw& d) {
            const Dtype dtype = d.x.type.dtype;
            kinds.emplace(d.kind, dtype);
            formats.emplace(fmt::format("{} {}", name(d.op.to), to_string(d.op.scaling)), dtype);
            shapes.emplace(to_string(d.op.scaling) + to_string(d.shape), d.op.global);
        });
        EXPECT_EQ(kinds.size(), 48u * 4);
        // Rows, runs, squares and groups of three lengths, the latter under two scales.
        EXPECT_EQ(formats.size(), 6u * 2 * 4);
        EXPECT_EQ(shapes.size(), std::size(kMatrices) * (3 + 2 * 3));
    }
}

TEST(BlockQuantise, IsTheOracleBitForBit) {
    for_each_draw(1, [](const Draw& d) {
        expect_identical(run(as_is(d.op), {d.x})[0], block_quantise_oracle(d.op, d.x));
    });
}

TEST(BlockQuantise, CopiesOfTheTransposeComeFromTheTensor) {
    for_each_draw(2, [](const Draw& d) {
        BlockQuantise op = d.op;
        for (const Copies copies : {Copies::columns, Copies::both}) {
            op.copies = copies;
            const auto fused = run(as_is(op), {d.x}), parts = run(decomposed(op), {d.x});
            ASSERT_EQ(fused.size(), parts.size());
            for (std::size_t k = 0; k < parts.size(); ++k) expect_identical(fused[k], parts[k]);
        }
    });
}

// Each kind meets each source, and over the shapes with all copies.
TEST(BlockQuantise, SourcesAreTheOpsOfTheirNames) {
    const Shape shapes[] = {{144, 272}, {5, 300}, {3, 43, 136}};
    const std::vector<SourceCase> sources = source_cases();
    std::set<std::tuple<QuantiseSource, std::string, Copies, Dtype>> met;
    for (std::size_t s = 0; s < std::size(shapes); ++s) {
        for (std::size_t k = 0; k < sources.size(); ++k) {
            const std::uint64_t seed = 900 + 5 * (s * sources.size() + k);
            const std::vector<HostTensor> narrow =
                sources[k].operands(Dtype::bf16, shapes[s], seed, 3);
            const std::vector<HostTensor> wide =
                sources[k].operands(Dtype::f32, shapes[s], seed, 3);
            for (std::size_t kind = 0; kind < 48; ++kind) {
                BlockQuantise op = random_op(kind);
                op.of = sources[k].of;
                op.copies = static_cast<Copies>((kind / 4 + k + s) % 3);
                const auto& in = (kind / 24 + kind / 4 + s) % 2 ? narrow : wide;
                SCOPED_TRACE(fmt::format("{}{} {}", name(in[0].type.dtype), attributes(op),
                                         to_string(shapes[s])));
                met.emplace(op.of, to_string(op.scaling), op.copies, in[0].type.dtype);
                const auto fused = run(as_is(op), in), parts = run(decomposed(op), in);
                ASSERT_EQ(fused.size(), parts.size());
                for (std::size_t i = 0; i < parts.size(); ++i) expect_identical(fused[i], parts[i]);
            }
        }
    }
    // All formats with all copies in both dtypes; of the sources, two are normalise.
    EXPECT_EQ(met.size(), (sources.size() - 1) * 6 * 3 * 2);
}

// ---- A million groups --------------------------------------------------------------------------

// Of each matrix. GPUs have a kernel of their own for runs of so few rows in bf16.
constexpr std::int64_t kRows = 512, kColumns = 2048;
constexpr std::int64_t kGroup = 32, kTile = 128;

// The hardest values there are for exponents of groups: amaxes whose significands are the row's, or
// its neighbours, at all distances from it, over all of f32. And groups and rows of zeros,
// subnormals, now and then an infinity or a NaN.
void fill_hard(float* row, const Rng& rng, std::uint64_t at) {
    const std::uint64_t of_row = rng.bits64(at);
    const std::uint64_t whole = of_row >> 8 & 0x7FFFFF;
    const int highest = of_row % 64 == 0 ? 0 : static_cast<int>(1 + (of_row >> 32) % 254);
    for (std::uint64_t g = 0; g < kColumns / kGroup; ++g) {
        const std::uint64_t of_group = rng.bits64(at + 1 + g);
        const bool far = of_group % 16 == 0, zeros = of_row % 64 == 1 || of_group % 64 == 1;
        const int top = highest - static_cast<int>((of_group >> 9) % (far ? 256 : 24));
        const std::uint64_t significands[] = {whole,          whole + 1, whole - 1,
                                              of_group >> 40, 0,         0x7FFFFF};
        for (std::uint64_t i = 0; i < kGroup; ++i) {
            const std::uint64_t word = rng.bits64(at + 100 + kGroup * g + i);
            const bool largest = i == (of_group >> 4) % kGroup;
            const int exponent = largest ? top : top - 1 - static_cast<int>(word >> 32 & 7);
            auto magnitude = static_cast<std::uint32_t>(
                (largest ? significands[(of_group >> 32) % 6] : word) & 0x7FFFFF);
            if (exponent > 0) magnitude |= static_cast<std::uint32_t>(exponent) << 23;
            if (zeros || (!largest && (word >> 40) % 16 == 0)) magnitude = 0;
            if ((word >> 44) % 0x20000 == 0) magnitude = word % 2 ? 0x7F800000 : 0x7FC01234;
            row[kGroup * g + i] = std::bit_cast<float>(
                magnitude | (word >> 63 ? std::uint32_t{0x80000000} : std::uint32_t{0}));
        }
    }
}

std::vector<float> million_values(bool hard, std::uint64_t seed) {
    std::vector<float> x(kRows * kColumns);
    const Rng rng(seed, 11);
    parallel_for(kRows, 8, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            float* const to = &x[static_cast<std::size_t>(row * kColumns)];
            const auto at = static_cast<std::uint64_t>(row * 2 * kColumns);
            if (hard) fill_hard(to, rng, at);
            for (std::uint64_t j = 0; j < kColumns && !hard; ++j) to[j] = rng.normal(at + j);
        }
    });
    return x;
}

float amax_of(std::span<const float> x) {
    float top = 0;
    for (const float v : x) {
        if (!std::isfinite(v)) return std::numeric_limits<float>::quiet_NaN();
        top = std::max(top, std::abs(v));
    }
    return top;
}

// The definition's exponent of a group; `whole` is a'.
int exponent_in_steps(float group, float whole) {
    if (group < std::numeric_limits<float>::min()) return exponent_of(group, whole);
    int n = 0;
    while (n > -126 && std::ldexp(double{whole}, n - 1) >= double{group}) --n;
    return n;
}

struct Tally {
    using Count = std::atomic<std::int64_t>;
    Count groups = 0, tiles = 0, wrong = 0;
    // Groups with a bound on their scaled amax on both sides, and those that break one.
    Count bounded = 0, too_large = 0, too_small = 0;
    // What is there to be met: amaxes at the bounds, and what has no lower one.
    Count at_max = 0, just_above_half = 0, unbounded = 0, zeros = 0, poisoned = 0;
};

// Of a micro group, max a_i / (a' 2^n) lies in (max / 2, max], for n = ceil(log2(a_i / a')). The
// upper bound holds for all finite groups; the lower one where a_i is normal, since of subnormals
// only a bound is taken, and n is not clamped to -126, a_i > a' 2^-127. Both are exact here, in
// doubles. The three roundings of a scaled element take it a few 2^-24 beyond either end, which the
// cast takes back: codes of maxima are between those of max / 2 and of max.
void check_bounds(const BlockQuantise& op, float top, float whole, int byte, int highest_code,
                  Tally& t) {
    const double scaled = std::ldexp(double{top}, 127 - byte), a = whole;
    t.too_large += scaled > a;
    t.zeros += top == 0;
    if (top < std::numeric_limits<float>::min() || double{top} <= std::ldexp(a, -127)) {
        ++t.unbounded;
        return;
    }
    const int max_code = op.to == Dtype::e4m3 ? 0x7E : 0x7B,
              binade = op.to == Dtype::e4m3 ? 8 : 4;  // codes of one
    ++t.bounded;
    t.too_small += scaled <= a / 2 || highest_code < max_code - binade;
    t.too_large += highest_code > max_code;
    t.at_max += scaled == a;
    t.just_above_half += scaled <= a / 2 * (1 + 0x1p-22);
}

// Rows of x against those of y: under scales of runs of `length`, and groups if there are any.
void check_rows(const BlockQuantise& op, const std::vector<float>& x, const HostTensor& y,
                Tally& t) {
    const bool groups = op.scaling.granularity == Granularity::micro;
    const std::int64_t length = groups ? kColumns : kTile, part = groups ? kGroup : kTile;
    const ScaleLayout layout = scale_layout(y.type);
    parallel_for(kRows, 8, [&](std::int64_t begin, std::int64_t end) {
        CodecReference codec = op.to == Dtype::e4m3 ? e4m3_reference() : e5m2_reference();
        std::int64_t wrong = 0;
        for (std::int64_t at = begin * kColumns; at < end * kColumns; at += length) {
            const std::int64_t row = at / kColumns, first = at % kColumns;
            const float* const run = &x[static_cast<std::size_t>(at)];
            const float amax = amax_of({run, static_cast<std::size_t>(length)});
            const auto [whole, scale, inv_scale] = oracle_factors(op, amax);
            wrong += bits(y.scales[static_cast<std::size_t>(layout.scale_at(row, first))]) !=
                     bits(scale);
            t.poisoned += std::isnan(amax);
            for (std::int64_t j = 0; j < length; j += part) {
                const float top = amax_of({run + j, static_cast<std::size_t>(part)});
                const int n = groups && !std::isnan(amax) ? exponent_in_steps(top, whole) : 0;
                int highest = 0;
                for (std::int64_t i = j; i < j + part; ++i) {
                    // Exact but for the last product, as doubles are long enough.
                    const float raised = static_cast<float>(std::ldexp(double{run[i]}, -n));
                    const int got = static_cast<int>(y.codes[static_cast<std::size_t>(at + i)]);
                    wrong += got != codec.cast(double{raised * inv_scale});
                    highest = std::max(highest, got & 0x7F);
                }
                if (!groups) continue;
                const int byte = y.groups[static_cast<std::size_t>(layout.group_at(row, j))];
                wrong += byte > 127 || byte != 127 + n;
                if (!std::isnan(amax)) check_bounds(op, top, whole, byte, highest, t);
            }
            (groups ? t.groups : t.tiles) += length / part;
        }
        t.wrong += wrong;
    });
}

// 2^20 groups of 32 and 2^18 runs of 128, on a GPU 2^22 and 2^20: normal values and hard ones, f32
// and bf16, both formats and all rules, bit for bit.
TEST(BlockQuantise, AMillionGroups) {
    Tally t;
    for (std::uint64_t i = 0; i < (on_cuda() ? 128 : 32); ++i) {
        const Dtype dtype = i % 2 ? Dtype::bf16 : Dtype::f32;
        const bool hard = i / 2 % 2 == 0;
        const BlockQuantise groups = micro(32, i / 4 % 2 ? Dtype::e5m2 : Dtype::e4m3);
        BlockQuantise tiles =
            runs(groups.to, i / 8 % 2 ? ScaleRounding::pow2 : ScaleRounding::exact);
        if (i / 16 % 2) tiles.rule = BlockRule::te;
        SCOPED_TRACE(
            fmt::format("{} {} {}", name(dtype), hard ? "hard" : "normal", name(groups.to)));
        std::vector<float> x = million_values(hard, i);
        HostTensor in{{dtype, {kRows, kColumns}}, {}, {}};
        in.codes.resize(x.size() * size_of(dtype));
        convert(std::as_bytes(std::span(x)), Dtype::f32, in.codes, dtype);
        convert(in.codes, dtype, std::as_writable_bytes(std::span(x)), Dtype::f32);
        const auto out = run(
            [&](Builder& b, const Values& v) {
                return Values{b.one(groups, {v[0]}), b.one(tiles, {v[0]})};
            },
            {in});
        const std::int64_t wrong = t.wrong;
        check_rows(groups, x, out[0], t);
        check_rows(tiles, x, out[1], t);
        ASSERT_EQ(t.wrong, wrong);
    }
    EXPECT_GE(t.groups, 1'000'000);
    EXPECT_GE(t.tiles, on_cuda() ? 1'000'000 : 100'000);
    EXPECT_EQ(t.too_large, 0);
    EXPECT_EQ(t.too_small, 0);
    EXPECT_GT(t.bounded, t.groups * 3 / 4);
    EXPECT_GT(t.at_max, t.groups / 100);
    EXPECT_GT(t.just_above_half, t.groups / 100);
    EXPECT_GT(t.unbounded, t.groups / 100);
    EXPECT_GT(t.zeros, t.groups / 100);
    EXPECT_GT(t.poisoned, 100);
}

// Rows without elements have the scale of zeros.
TEST(BlockQuantise, WithoutElements) {
    for (const BlockQuantise& each :
         {BlockQuantise{.scaling = {Granularity::row}}, micro(), micro(64, Dtype::e5m2)}) {
        BlockQuantise op = each;
        op.copies = Copies::both;
        for (const Shape& shape : {Shape{5, 0}, Shape{0, 7}}) {
            const auto out = run(as_is(op), {tensor(Dtype::bf16, shape, {})});
            const float zero =
                run(as_is(each), {tensor(Dtype::bf16, {1, 32}, ones({1, 32}))})[0].scales.at(0) *
                op.floor;
            EXPECT_EQ(out[0].scales, std::vector<float>(static_cast<std::size_t>(shape[0]), zero));
            EXPECT_EQ(out[1].scales, std::vector<float>(static_cast<std::size_t>(shape[1]), zero));
        }
    }
}

TEST(BlockQuantise, OnAnyThreads) {
    for (int kind = 0; kind < 4; ++kind) {
        BlockQuantise op = random_op(static_cast<std::uint64_t>(kind));
        op.copies = Copies::both;
        expect_same_on_any_threads(as_is(op), {random_tensor(Dtype::f32, {301, 300}, 1)});
    }
}

TEST(BlockQuantise, Refusals) {
    const Type x{Dtype::f32, {4, 8}};
    EXPECT_EQ(refusal(as_is(micro(48)), {x}),
              "block_quantise: expected micro groups of 32, 64 or 128 elements, got micro(48)");
    EXPECT_EQ(refusal(as_is(BlockQuantise{.scaling = kPerTensor}), {x}),
              "block_quantise: expected f32 scales per row, 1x128, 128x128 or micro group, got "
              "tensor");
    EXPECT_EQ(refusal(as_is(runs()), {{Dtype::f32, {4}}}),
              "block_quantise: expected at least 2 dimensions, got f32[4]");
    EXPECT_EQ(refusal(as_is(BlockQuantise{.to = Dtype::f16}), {x}),
              "block_quantise: expected e4m3 or e5m2, got f16");
    BlockQuantise op = runs();
    op.global = true;
    EXPECT_EQ(refusal(as_is(op), {x}), "block_quantise: only micro groups share a global scale");
}

}  // namespace
}  // namespace octavo::test
