#include "graph/graph.h"
#include "ops/quantise_source.h"

namespace octavo::test {
namespace {

struct Case {
    const char* what;
    std::vector<double> values;
    Dtype from;
    ScaleRule rule;
};

std::ostream& operator<<(std::ostream& os, const Case& c) {
    return os << c.what << ", " << name(c.from) << " -> " << name(c.rule.to);
}

std::vector<double> normal(std::int64_t n, double sigma) {
    return random_tensor(Dtype::f64, {n}, 21, sigma).values;
}

std::vector<Case> cases() {
    std::vector<double> with_inf = normal(33001, 1), with_nan = with_inf;
    with_inf[777] = -kInf;
    with_nan[33000] = kNan;
    const std::pair<const char*, std::vector<double>> tensors[] = {
        {"normal", normal(33001, 3)},
        {"one element", {-0.7}},
        {"tiny", normal(33, 1e-20)},
        {"zeros", {0.0, -0.0, 0.0}},
        {"subnormal", normal(7, 1e-40)},
        {"infinity", with_inf},
        {"NaN", with_nan},
        {"NaN and infinity", {kNan, kInf, -1.0}},
        {"empty", {}},
    };
    std::vector<Case> all;
    for (const auto& [what, values] : tensors) {
        for (Dtype from : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16}) {
            all.push_back({what, values, from, {Dtype::e4m3}});
            all.push_back({what, values, from, {Dtype::e5m2, ScaleRounding::exact, 1}});
        }
    }
    return all;
}

// Just in time and delayed, first and second micro-batch: the fused op gives the bits of its
// definition.
TEST(DelayedQuantise, EqualsItsDefinitionBitForBit) {
    for (const Case& c : cases()) {
        SCOPED_TRACE(testing::PrintToString(c));
        const DelayedQuantise op{c.rule};
        const std::pair<double, double> counter_and_first[] = {{0, 2}, {15, kInf}, {16, 0}};
        for (const auto& [counter, first] : counter_and_first) {
            std::vector<double> history(16, 1.0);
            history[0] = first;
            const std::vector<HostTensor> in = {vector(c.from, c.values),
                                                vector(Dtype::f32, history), count(counter),
                                                scalar(0.017)};
            const auto fused = run(as_is(op), in), plain = run(decomposed(op), in);
            ASSERT_EQ(fused.size(), 3u);
            for (std::size_t i = 0; i < 3; ++i) expect_identical(fused[i], plain[i]);
            EXPECT_EQ(fused[0].scales[0], static_cast<float>(fused[2].values[0]));
        }
    }
}

TEST(DelayedQuantise, InPlaceAndOnAnyThreads) {
    for (double counter : {3, 4}) {
        const std::vector<HostTensor> in = {random_tensor(Dtype::bf16, {401, 333}, 2),
                                            vector(Dtype::f32, {0, 9, 2, 3}), count(counter),
                                            scalar(0.25)};
        expect_same_in_place(DelayedQuantise{}, in);
        expect_same_on_any_threads(as_is(DelayedQuantise{}), in);
    }
}

TEST(DelayedQuantise, OneTensorByHand) {
    const std::vector<HostTensor> x = {vector(Dtype::bf16, {1, -3.5, 0.25}),
                                       vector(Dtype::f32, {2, 5}), count(1), scalar(0.5)};
    auto out = run(as_is(DelayedQuantise{}), x);
    EXPECT_EQ(out[0].values, (std::vector<double>{1, -3.5, 0.25}));
    EXPECT_EQ(out[1].values, (std::vector<double>{3.5, 5}));
    EXPECT_EQ(out[2].values[0], 0x1p-7);  // 448 / 3.5 = 2^7

    out = run(as_is(DelayedQuantise{}),
              {vector(Dtype::bf16, {1000, -3.5, 0.25}), x[1], count(2), scalar(0.5)});
    EXPECT_EQ(out[0].values, (std::vector<double>{224, -3.5, 0.25}));  // saturated at 448 * 0.5
    EXPECT_EQ(out[1].values, (std::vector<double>{1000, 5}));
    EXPECT_EQ(out[2].values[0], 0.5);
}

TEST(DelayedQuantise, RefusesFormatsWithoutScale) {
    EXPECT_EQ(
        refusal(as_is(DelayedQuantise{{Dtype::f32}}),
                {{Dtype::bf16, {4}}, {Dtype::f32, {16}}, {Dtype::i32, {1}}, {Dtype::f32, {1}}}),
        "delayed_quantise: expected a format that takes a scale (e4m3, e5m2 or f16), got "
        "f32");
}

// Sources, factors and transposed copies change nothing, whatever the shape and the state of the
// window.
TEST(DelayedQuantise, OfAnOpEqualsTheOpThenTheQuantiser) {
    std::vector<SourceCase> sources = source_cases();
    for (const SourceCase& scaled : scaled_source_cases()) sources.push_back(scaled);
    sources.push_back({QuantiseSource::value, 1});
    const Shape shapes[] = {{48, 32}, {2, 80, 144}, {7, 5}, {256, 128}, {0, 8}};
    for (const SourceCase& source : sources) {
        const std::size_t results = quantised_results(source.of);
        for (const Shape& shape : shapes) {
            for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
                for (const double counter : {0.0, 16.0}) {
                    for (const bool transpose : {false, true}) {
                        const DelayedQuantise op{
                            {Dtype::e5m2}, source.of, transpose, source.scaled};
                        SCOPED_TRACE(attributes(op) + to_string(shape));
                        std::vector<HostTensor> in = source.operands(dtype, shape);
                        for (std::size_t r = 0; r < results; ++r) {
                            in.push_back(vector(Dtype::f32, std::vector<double>(16, 0.5)));
                            in.push_back(count(counter));
                            in.push_back(scalar(0.125 * static_cast<double>(r + 1)));
                        }
                        const auto fused = run(as_is(op), in), plain = run(decomposed(op), in);
                        ASSERT_EQ(fused.size(), (transpose ? 4u : 3u) * results);
                        for (std::size_t i = 0; i < fused.size(); ++i) {
                            SCOPED_TRACE(i);
                            expect_identical(fused[i], plain[i]);
                        }
                    }
                }
            }
        }
    }
}

// Factors that are no powers of two: the product is rounded before the op sees it.
TEST(DelayedQuantise, ScaledOperandsAreRounded) {
    const double x = 1 + 0x1p-7;  // in bf16; its square is not
    const DelayedQuantise op{.rule = {Dtype::e4m3}, .scaled = ScaleAlong{Axis::row}};
    const auto out = run(as_is(op), {tensor(Dtype::bf16, {1, 2}, {x, 0}), vector(Dtype::f32, {x}),
                                     vector(Dtype::f32, {0}), count(0), scalar(1)});
    EXPECT_EQ(out[1].values[0], 1 + 0x1p-6);
}

TEST(DelayedQuantise, RefusesFactorsOfAnotherShape) {
    const Type history{Dtype::f32, {16}}, counter{Dtype::i32, {1}}, scale{Dtype::f32, {1}};
    const DelayedQuantise op{.rule = {Dtype::e4m3}, .scaled = ScaleAlong{Axis::column}};
    const Type x{Dtype::bf16, {2, 4}};
    EXPECT_EQ(refusal(as_is(op), {x, {Dtype::f32, {2}}, history, counter, scale}),
              "scale_along: operand 1 must have shape [4], got f32[2]");
    EXPECT_EQ(refusal(as_is(op), {x, history, counter, scale}),
              "scaled source: expected an operand and its factors, got 1 operands");
}

}  // namespace
}  // namespace octavo::test
