#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

std::vector<HostTensor> operands(Dtype dtype, const Shape& shape, Axis axis) {
    const std::int64_t factors = axis == Axis::row ? shape.rows() : shape.last();
    return {random_tensor(dtype, shape, 1), random_tensor(accumulator(dtype), {factors}, 2)};
}

TEST(ScaleAlong, MatchesTheOracle) {
    for (const Axis axis : {Axis::row, Axis::column}) {
        for (const bool inverse : {false, true}) {
            for (const Dtype dtype : kPlainDtypes) {
                for (const Shape& shape : kShapes) {
                    SCOPED_TRACE(to_string(Type{dtype, shape}));
                    const auto in = operands(dtype, shape, axis);
                    const ScaleAlong op{axis, inverse};
                    std::vector<double> want;
                    for (std::size_t i = 0; i < in[0].values.size(); ++i) {
                        const auto columns = static_cast<std::size_t>(shape.last());
                        const double s =
                            in[1].values[axis == Axis::row ? i / columns : i % columns];
                        want.push_back(in[0].values[i] * (inverse ? 1 / s : s));
                    }
                    const double absolute = dtype == Dtype::f16 ? 0x1p-25 : 0;
                    expect_each(run(as_is(op), in)[0], want, tolerance(dtype, 2), absolute);
                    expect_same_in_place(op, in);
                }
            }
        }
    }
}

// Added before the only rounding.
TEST(ScaleAlong, Accumulates) {
    for (const Axis axis : {Axis::row, Axis::column}) {
        for (const bool inverse : {false, true}) {
            for (const Dtype dtype : kPlainDtypes) {
                for (const Shape& shape : kShapes) {
                    SCOPED_TRACE(to_string(Type{dtype, shape}));
                    auto in = operands(dtype, shape, axis);
                    in.push_back(random_tensor(dtype, shape, 3));
                    const ScaleAlong op{axis, inverse};
                    std::vector<double> want;
                    double largest = 0;
                    for (std::size_t i = 0; i < in[0].values.size(); ++i) {
                        const auto columns = static_cast<std::size_t>(shape.last());
                        const double s =
                            in[1].values[axis == Axis::row ? i / columns : i % columns];
                        const double product = in[0].values[i] * (inverse ? 1 / s : s);
                        want.push_back(product + in[2].values[i]);
                        largest = std::max(largest, std::abs(product));
                    }
                    // Terms may cancel: two roundings of the product are absolute then.
                    const double u = rounding(accumulator(dtype));
                    expect_each(run(as_is(op), in)[0], want, tolerance(dtype, 1),
                                2 * u * largest + (dtype == Dtype::f16 ? 0x1p-25 : 0));
                    expect_same_in_place(op, in);
                }
            }
        }
    }
}

// Powers of two leave the significands alone: there and back is where it was.
TEST(ScaleAlong, UndoesPowersOfTwoExactly) {
    HostTensor x = random_tensor(Dtype::bf16, {9, 264}, 1);
    std::vector<double> powers;
    for (int i = 0; i < 9; ++i) powers.push_back(std::ldexp(1, 3 * i - 12));
    const HostTensor s = vector(Dtype::f32, powers);
    const auto there = run(as_is(ScaleAlong{Axis::row}), {x, s})[0];
    EXPECT_NE(there.codes, x.codes);
    expect_identical(run(as_is(ScaleAlong{Axis::row, true}), {there, s})[0], x);
}

TEST(ScaleAlong, Gradient) {
    for (const Axis axis : {Axis::row, Axis::column}) {
        for (const bool inverse : {false, true}) {
            check_gradient(as_is(ScaleAlong{axis, inverse}), operands(Dtype::f64, {3, 7}, axis),
                           {0});
        }
    }
}

TEST(ScaleAlong, RefusesOtherTypes) {
    const Type x{Dtype::bf16, {2, 3, 4}};
    EXPECT_EQ(refusal(as_is(ScaleAlong{Axis::row}), {x, {Dtype::f32, {4}}}),
              "scale_along: operand 1 must have shape [6], got f32[4]");
    EXPECT_EQ(refusal(as_is(ScaleAlong{Axis::column}), {x, {Dtype::bf16, {4}}}),
              "scale_along: operand 1 must be unscaled f32, got bf16[4]");
}

}  // namespace
}  // namespace octavo::test
