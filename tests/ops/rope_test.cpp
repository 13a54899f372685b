#include "ops/plain_test.h"

namespace octavo::test {
namespace {

constexpr RopeScaling kLlama3{.kind = RopeScaling::Kind::llama3,
                              .factor = 8,
                              .low_freq_factor = 1,
                              .high_freq_factor = 4,
                              .original_max_positions = 64};

// As modeling_rope_utils.py of Hugging Face words it, by wavelength.
double frequency(const Rope& op, std::int64_t i, std::int64_t d) {
    const double f = std::pow(op.theta, -2.0 * static_cast<double>(i) / static_cast<double>(d));
    const RopeScaling& s = op.scaling;
    if (s.kind == RopeScaling::Kind::none) return f;
    const auto original = static_cast<double>(s.original_max_positions);
    const double wavelength = 2 * M_PI / f;
    if (wavelength < original / s.high_freq_factor) return f;
    if (wavelength > original / s.low_freq_factor) return f / s.factor;
    const double smooth =
        (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
    return (1 - smooth) * f / s.factor + smooth * f;
}

std::vector<double> oracle(const Rope& op, const HostTensor& x, const HostTensor* positions) {
    const Shape& s = x.type.shape;
    const std::int64_t d = s[3];
    std::vector<double> y(x.values.size());
    for (std::int64_t at = 0; at < s.elements(); ++at) {
        const std::int64_t i = at % d, token = at / (s[2] * d);
        const double position =
            positions ? std::max(0.0, positions->values[static_cast<std::size_t>(token)])
                      : static_cast<double>(token % s[1]);
        const double angle = (op.inverse ? -1 : 1) * position * frequency(op, i % (d / 2), d);
        const bool first = i < d / 2;
        const auto here = static_cast<std::size_t>(at);
        const auto other = static_cast<std::size_t>(first ? at + d / 2 : at - d / 2);
        y[here] =
            x.values[here] * std::cos(angle) + (first ? -1 : 1) * x.values[other] * std::sin(angle);
    }
    return y;
}

TEST(Rope, MatchesTheOracle) {
    for (Dtype dtype : kPlainDtypes) {
        for (const Shape& shape :
             {Shape{1, 1, 1, 2}, Shape{2, 5, 3, 6}, Shape{0, 3, 2, 4}, Shape{1, 33, 2, 70}}) {
            for (const RopeScaling& scaling : {RopeScaling{}, kLlama3}) {
                for (bool inverse : {false, true}) {
                    const Rope op{500, scaling, 40, inverse};
                    SCOPED_TRACE(to_string(Type{dtype, shape}) + attributes(op));
                    const HostTensor x = random_tensor(dtype, shape, 1);
                    // Two products of rounded factors; in f64 angles are rounded too, up to 40 of
                    // them.
                    const double u = rounding(accumulator(dtype));
                    const double absolute = 200 * u + (dtype == Dtype::f16 ? 0x1p-25 : 0);
                    expect_each(run(as_is(op), {x})[0], oracle(op, x, nullptr), rounding(dtype),
                                absolute);
                    const HostTensor positions = random_ids({shape[0], shape[1]}, 40, 2);
                    expect_each(run(as_is(op), {x, positions})[0], oracle(op, x, &positions),
                                rounding(dtype), absolute);
                    expect_same_in_place(op, {x});
                }
            }
        }
    }
}

TEST(Rope, UnusedSlotsHavePositionZero) {
    const HostTensor x = random_tensor(Dtype::f32, {1, 2, 1, 4}, 1);
    const auto y =
        run(as_is(Rope{.max_positions = 8}), {x, tensor(Dtype::i32, {1, 2}, {-1, 0})})[0];
    EXPECT_EQ(y.values, x.values);
}

TEST(Rope, InverseRotatesBack) {
    const Build both = [](Builder& b, const Values& in) {
        const Value y = b.one(Rope{.max_positions = 9}, in);
        return Values{b.one(Rope{.max_positions = 9, .inverse = true}, {y})};
    };
    const HostTensor x = random_tensor(Dtype::f64, {2, 9, 2, 8}, 1);
    expect_each(run(both, {x})[0], x.values, 0, 1e-14);
}

TEST(Rope, Gradient) {
    const HostTensor x = random_tensor(Dtype::f64, {2, 3, 2, 4}, 1);
    check_gradient(as_is(Rope{100, kLlama3, 16}), {x}, {0});
    check_gradient(as_is(Rope{100, {}, 16}), {x, random_ids({2, 3}, 16, 2)}, {0});
}

TEST(Rope, RefusesWhatItHasNoAnglesFor) {
    const Type x{Dtype::f32, {1, 9, 2, 4}}, odd{Dtype::f32, {1, 9, 2, 5}};
    EXPECT_EQ(refusal(as_is(Rope{.max_positions = 8}), {x}),
              "rope: expected at most 8 positions, got sequences of 9 tokens");
    EXPECT_EQ(refusal(as_is(Rope{.max_positions = 9}), {odd}),
              "rope: the head dimension must be even, got f32[1, 9, 2, 5]");
    EXPECT_EQ(refusal(as_is(Rope{}), {x, {Dtype::i32, {1, 9}}}),
              "rope: expected max_positions > 0, got 0");
    EXPECT_EQ(refusal(as_is(Rope{.max_positions = 9}), {x, {Dtype::i32, {9, 1}}}),
              "rope: operand 1 must have shape [1, 9], got i32[9, 1]");
    EXPECT_EQ(refusal(as_is(Rope{.theta = 0, .max_positions = 9}), {x}),
              "rope: expected theta > 0, got 0");
}

}  // namespace
}  // namespace octavo::test
