#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct Norm {
    Op whole, statistics;
    std::vector<HostTensor> in;
};

std::vector<Norm> norms(Dtype dtype, const Shape& shape) {
    const HostTensor x = random_tensor(dtype, shape, 1, 3);
    const HostTensor w = random_tensor(accumulator(dtype), {shape.last()}, 2);
    const HostTensor b = random_tensor(accumulator(dtype), {shape.last()}, 3);
    return {{RmsNorm{1e-3f}, RmsNorm{1e-3f, true}, {x, w}},
            {LayerNorm{1e-3f}, LayerNorm{1e-3f, true}, {x, w, b}}};
}

TEST(Normalise, GivesTheBitsOfTheNorm) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            for (const Norm& norm : norms(dtype, shape)) {
                SCOPED_TRACE(
                    fmt::format("{} {}", op_name(norm.whole), to_string(Type{dtype, shape})));
                const auto want = run(as_is(norm.whole), norm.in);
                std::vector<HostTensor> in = norm.in;
                in.insert(in.end(), want.begin() + 1, want.end());
                expect_identical(run(as_is(Normalise{}), in)[0], want[0]);
                expect_same_in_place(Normalise{}, in);
            }
        }
    }
}

TEST(Normalise, NormsGiveTheirStatisticsAlone) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            for (const Norm& norm : norms(dtype, shape)) {
                SCOPED_TRACE(
                    fmt::format("{} {}", op_name(norm.whole), to_string(Type{dtype, shape})));
                const auto want = run(as_is(norm.whole), norm.in);
                const auto got = run(as_is(norm.statistics), norm.in);
                const auto plain = run(decomposed(norm.statistics), norm.in);
                ASSERT_EQ(got.size(), want.size() - 1);
                ASSERT_EQ(plain.size(), got.size());
                for (std::size_t i = 0; i < got.size(); ++i) {
                    expect_identical(got[i], want[i + 1]);
                    expect_identical(plain[i], want[i + 1]);
                }
            }
        }
    }
}

TEST(Normalise, OnAnyThreads) {
    for (const Norm& norm : norms(Dtype::bf16, {301, 264})) {
        std::vector<HostTensor> in = norm.in;
        const auto statistics = run(as_is(norm.statistics), norm.in);
        in.insert(in.end(), statistics.begin(), statistics.end());
        expect_same_on_any_threads(as_is(Normalise{}), in);
    }
}

TEST(Normalise, RefusesOtherOperands) {
    const Type x{Dtype::bf16, {2, 4}}, w{Dtype::f32, {4}}, rstd{Dtype::f32, {2}};
    EXPECT_EQ(refusal(as_is(Normalise{}), {x, w}),
              "normalise: expected 3 operands (of rms_norm) or 5 (of layer_norm), got 2");
    EXPECT_EQ(refusal(as_is(Normalise{}), {x, w, w}),
              "normalise: operand 2 must have shape [2], got f32[4]");
    EXPECT_EQ(refusal(as_is(Normalise{}), {x, w, w, rstd, w}),
              "normalise: operand 4 must have shape [2], got f32[4]");
    EXPECT_EQ(refusal(as_is(Normalise{}), {x, w, {Dtype::bf16, {2}}}),
              "normalise: operand 2 must be unscaled f32, got bf16[2]");
}

}  // namespace
}  // namespace octavo::test
