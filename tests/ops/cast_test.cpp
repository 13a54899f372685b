#include "ops/quantise_source.h"

namespace octavo::test {
namespace {

TEST(Cast, RoundsOnceBetweenAllPlainDtypes) {
    for (Dtype from : kPlainDtypes) {
        for (Dtype to : kPlainDtypes) {
            for (const Shape& shape : kShapes) {
                SCOPED_TRACE(fmt::format("{} to {}", to_string(Type{from, shape}), name(to)));
                const HostTensor x = random_tensor(from, shape, 5, 100);
                expect_identical(run(as_is(Cast{to}), {x})[0], tensor(to, shape, x.values));
            }
        }
    }
}

// 1 + 2^-8 is halfway between two bf16 and 2^-40 decides: through f32 it would be lost.
TEST(Cast, RoundsF64DirectlyTo16Bits) {
    const auto y = run(as_is(Cast{Dtype::bf16}), {vector(Dtype::f64, {1 + 0x1p-8 + 0x1p-40})})[0];
    EXPECT_EQ(y.values[0], 1 + 0x1p-7);
}

TEST(Cast, InfinityAndNan) {
    const HostTensor x = vector(Dtype::f32, {kInf, -kInf, kNan, 1e30});
    expect_close(run(as_is(Cast{Dtype::bf16}), {x})[0], {kInf, -kInf, kNan, 1e30}, 0x1p-8);
    expect_close(run(as_is(Cast{Dtype::f16}), {x})[0], {65504, -65504, kNan, 65504}, 0);
}

TEST(Cast, GradientHasTheOperandsDtype) {
    Graph graph;
    Builder b(graph);
    const Value x = b.input("x", {Dtype::f32, {4}}), y = b.cast(x, Dtype::bf16);
    const Op op = Cast{Dtype::bf16};
    const Value low = rules_of(op).vjp(b, op, {x}, {y}, {y})[0];
    EXPECT_EQ(b.type(low), b.type(x));
    const Value ready = b.input("dy", {Dtype::f32, {4}});  // as products give weight gradients
    EXPECT_EQ(rules_of(op).vjp(b, op, {x}, {y}, {ready})[0], ready);
}

TEST(Cast, SaturatesIn8Bits) {
    const HostTensor x = vector(Dtype::f32, {1, 1e9, -1e9, kInf, kNan, 0x1p-20});
    EXPECT_EQ(code_values(run(as_is(Cast{Dtype::e4m3}), {x})[0]),
              (std::vector<int>{0x38, 0x7E, 0xFE, 0x7E, 0x7F, 0}));
    EXPECT_EQ(code_values(run(as_is(Cast{Dtype::e5m2}), {x})[0]),
              (std::vector<int>{0x3C, 0x7B, 0xFB, 0x7B, 0x7F, 0}));
}

// Sources and transposed copies change nothing.
TEST(Cast, OfAnOpEqualsTheOpThenTheCast) {
    std::vector<SourceCase> sources = source_cases();
    sources.push_back({QuantiseSource::value, 1});
    for (const SourceCase& source : sources) {
        for (const Shape& shape : {Shape{48, 32}, Shape{2, 80, 144}, Shape{7, 5}, Shape{0, 8},
                                   Shape{256, 128}, Shape{130, 264}}) {
            for (const Dtype from : kPlainDtypes) {
                for (const Dtype to : {Dtype::e4m3, Dtype::e5m2, Dtype::f16}) {
                    for (const bool transpose : {false, true}) {
                        const bool value = source.of == QuantiseSource::value;
                        const bool gate = !value && source.of != QuantiseSource::normalise;
                        if (value && !transpose) continue;
                        const Cast op{.to = to,
                                      .exponent = 3,
                                      .transpose = transpose,
                                      .of = source.of,
                                      .source_exponent = gate ? -2 : 0,
                                      .second_exponent = -1};
                        SCOPED_TRACE(
                            fmt::format("{}{} {}", name(from), attributes(op), to_string(shape)));
                        const auto in = source.operands(from, shape, 40, 3);
                        const auto fused = run(as_is(op), in), parts = run(decomposed(op), in);
                        ASSERT_EQ(fused.size(), parts.size());
                        for (std::size_t k = 0; k < parts.size(); ++k) {
                            expect_identical(fused[k], parts[k]);
                        }
                    }
                }
            }
        }
    }
}

TEST(Cast, RefusesScaledTensors) {
    EXPECT_EQ(refusal(as_is(Cast{}), {{Dtype::e4m3, {4}, kPerTensor}}),
              "cast: operand 0 must be an unscaled f64, f32, bf16 or f16 tensor, got e4m3[4] x "
              "tensor");
}

}  // namespace
}  // namespace octavo::test
