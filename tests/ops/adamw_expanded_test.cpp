// Moments in E4M3 with an expanded range (COAT, arXiv 2410.19313).
#include "base/expansion.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

HostTensor expanded_tensor(const Shape& shape, const std::vector<double>& values) {
    HostTensor t{{Dtype::e4m3, shape, kExpanded}, values, {}};
    const std::vector<float> x(values.begin(), values.end());
    t.codes.resize(values.size());
    t.scales.resize(static_cast<std::size_t>(scale_count(t.type)));
    auto* groups = reinterpret_cast<Expansion*>(t.scales.data());
    expand(x.data(), std::ssize(x), t.codes.data(), groups);
    std::vector<float> back(x.size());
    contract(t.codes.data(), groups, std::ssize(x), back.data());
    t.values.assign(back.begin(), back.end());
    return t;
}
HostTensor zeros(const Shape& shape) {
    return expanded_tensor(shape, std::vector<double>(static_cast<std::size_t>(shape.elements())));
}

// A step without memory: m' = g and v' = g^2, which every processor rounds alike.
constexpr AdamW kNoMemory{.beta1 = 0, .beta2 = 0};

std::vector<HostTensor> first_step(const HostTensor& g) {
    const Shape& shape = g.type.shape;
    const std::vector<double> none(g.values.size());
    return {tensor(Dtype::f32, shape, none), g,       zeros(shape), zeros(shape), scalar(1),
            vector(Dtype::f32, {1, 1, 1}),   count(1)};
}

TEST(AdamWExpanded, GoldenCodes) {
    const auto codes_of = [](const std::vector<double>& g) {
        return code_values(run(as_is(kNoMemory), first_step(vector(Dtype::f32, g)))[1]);
    };
    EXPECT_EQ(codes_of({1, -0.25, 0.0625, 0.5, 0}), (std::vector{0x7e, 0xbc, 0x02, 0x5d, 0x00}));
    EXPECT_EQ(codes_of({1, 1e-3f, 1e-7f}), (std::vector{0x7e, 0x48, 0x04}));
    EXPECT_EQ(codes_of({3e-4f, -1e-4f, 2e-5f, 7e-6f}), (std::vector{0x7e, 0xd7, 0x1e, 0x02}));
    EXPECT_EQ(codes_of({0.3f, 0.3f}), (std::vector{0x7e, 0x7e}));
}

// Codes and expansions, bit for bit on every backend, also of groups that are cut short and of
// packets that are.
TEST(AdamWExpanded, QuantisesGroupsInTheOrderOfMemory) {
    std::uint64_t seed = 1;
    for (const Shape& shape : {Shape{1}, Shape{7}, Shape{128}, Shape{133}, Shape{3, 43},
                               Shape{5, 1024}, Shape{61, 67}, Shape{2, 4096}}) {
        HostTensor g = random_tensor(Dtype::f32, shape, ++seed);
        for (std::size_t i = 0; i < g.values.size(); ++i) {
            if (i % 11 == 3) g.values[i] = 0;
            if (i / 128 % 5 == 3) g.values[i] = 0;         // a group of zeros
            if (i / 128 % 5 == 4) g.values[i] = -0.7;      // of equal values
            if (i / 128 % 5 == 2) g.values[i] *= 0x1p-60;  // of small ones
        }
        g = tensor(Dtype::f32, shape, g.values);
        std::vector<double> squares = g.values;
        for (double& x : squares) x = static_cast<float>(x) * static_cast<float>(x);
        const auto out = run(as_is(kNoMemory), first_step(g));
        const HostTensor m = expanded_tensor(shape, g.values), v = expanded_tensor(shape, squares);
        SCOPED_TRACE(to_string(shape));
        expect_identical(out[1], m);
        expect_identical(out[2], v);
    }
}

struct Operands {
    std::vector<HostTensor> in;
    std::vector<HostTensor> plain;  // the same with the values of m and v in f32
};

Operands operands(const Shape& shape, Dtype w = Dtype::f32) {
    HostTensor v = random_tensor(Dtype::f32, shape, 4, 0.1);
    for (double& x : v.values) x = x * x;
    const HostTensor weight = random_tensor(w, shape, 1);
    const HostTensor m = expanded_tensor(shape, random_tensor(Dtype::f32, shape, 3, 0.1).values);
    v = expanded_tensor(shape, v.values);
    Operands o{{weight, random_tensor(Dtype::f32, shape, 2, 0.1), m, v, scalar(0.5),
                vector(Dtype::f32, {1e-2, 0.19, 0.0975}), count(2)},
               {}};
    o.plain = o.in;
    for (const std::size_t i : {2, 3}) {
        o.plain[i] = tensor(Dtype::f32, shape, o.in[i].values);
    }
    return o;
}

// One step away from the same step with plain moments: only the new moments are rounded. An element
// of E4M3 with a power k is off by 1/16 of k-th part.
TEST(AdamWExpanded, IsTheStepOfPlainMoments) {
    const AdamW op{.beta1 = 0.9f, .beta2 = 0.95f, .weight_decay = 0.1f};
    for (const Shape& shape : {Shape{300}, Shape{64, 96}, Shape{17, 31}}) {
        const Operands o = operands(shape);
        const auto want = run(as_is(op), o.plain);
        for_each_kernel(op, o.in, [&](const std::vector<HostTensor>& out) {
            expect_close(out[0], want[0].values, 4e-7);
            for (const std::size_t k : {1, 2}) {
                EXPECT_EQ(out[k].type.scaling, kExpanded);
                double signal = 0, noise = 0;
                for (std::size_t i = 0; i < out[k].values.size(); ++i) {
                    signal += std::pow(want[k].values[i], 2);
                    noise += std::pow(out[k].values[i] - want[k].values[i], 2);
                    const bool lost = out[k].values[i] == 0 && want[k].values[i] != 0;
                    EXPECT_FALSE(lost) << i;
                }
                EXPECT_GT(10 * std::log10(signal / noise), k == 1 ? 34 : 29);
            }
        });
    }
}

// One moment alone, beside one under a scale with its options, weights under one, and copies.
TEST(AdamWExpanded, GoesWithOtherFormats) {
    const Shape shape{37, 29};
    const Operands o = operands(shape);
    const HostTensor none = [&] {
        HostTensor t = tensor(Dtype::e5m2, shape,
                              std::vector<double>(static_cast<std::size_t>(shape.elements())));
        t.type.scaling = kPerTensor;
        t.scales = {1};
        return t;
    }();
    AdamW op{.stochastic_moments = true, .seed = 3, .v_floor = true};
    std::vector<HostTensor> in = o.in, apart = o.plain;
    in[3] = apart[3] = none;
    const auto mixed = run(as_is(op), in), other = run(as_is(op), apart);
    expect_identical(mixed[2], other[2]);
    expect_close(mixed[0], other[0].values, 4e-7);
    in = o.in;
    in[2] = apart[2] = none;
    in[2].type.dtype = apart[2].type.dtype = Dtype::e4m3;
    EXPECT_NO_THROW(run(as_is(op), in));

    op = {.amax = true, .copy = WorkingCopy{.to = Dtype::bf16}};
    in = o.in;
    HostTensor w = tensor(Dtype::f16, shape, in[0].values);
    w.type.scaling = kPerTensor;
    w.scales = {0x1p-3f};
    in[0] = w;
    const auto whole = run(as_is(op), in), parts = run(decomposed(op), in);
    ASSERT_EQ(whole.size(), parts.size());
    for (std::size_t i = 0; i < whole.size(); ++i) expect_identical(whole[i], parts[i]);
    in[0] = tensor(Dtype::bf16, shape, o.in[0].values);
    op = {.stochastic = true, .stream = 5};
    const auto rounded = run(as_is(op), in), plain = run(as_is(op), [&] {
                                                 auto same = o.plain;
                                                 same[0] = in[0];
                                                 return same;
                                             }());
    expect_identical(rounded[0], plain[0]);
}

TEST(AdamWExpanded, SkippedStepsChangeNothing) {
    Operands o = operands({5, 77});
    o.in[4] = scalar(kNan);
    for_each_kernel(AdamW{}, o.in, [&](const std::vector<HostTensor>& out) {
        expect_identical(out[1], o.in[2]);
        expect_identical(out[2], o.in[3]);
        EXPECT_EQ(out[0].codes, o.in[0].codes);
    });
}

TEST(AdamWExpanded, OnAnyThreads) {
    expect_same_on_any_threads(as_is(AdamW{}), operands({301, 300}).in);
}

TEST(AdamWExpanded, Refusals) {
    const Type plain{Dtype::f32, {4}}, expanded{Dtype::e4m3, {4}, kExpanded}, one{Dtype::f32, {1}};
    const Type schedule{Dtype::f32, {3}}, step{Dtype::i32, {1}};
    EXPECT_EQ(refusal(as_is(AdamW{}), {expanded, plain, plain, plain, one, schedule, step}),
              "adamw: operand 0 must be plain f32, bf16 or f16, or f16, e4m3 or e5m2 with one f32 "
              "scale for the whole tensor (moments also e4m3 expanded), got e4m3[4] x expanded");
    EXPECT_EQ(refusal(as_is(Dequantise{}), {expanded}),
              "dequantise: operand 0 must hold codes under scales, got e4m3[4] x expanded");
    EXPECT_EQ(refusal(as_is(BlockQuantise{.scaling = kExpanded}), {Type{Dtype::f32, {4, 8}}}),
              "block_quantise: expected f32 scales per row, 1x128, 128x128 or micro group, got "
              "expanded");
}

}  // namespace
}  // namespace octavo::test
