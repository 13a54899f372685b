// Helpers of the tests of ops over plain values.
#pragma once

#include <omp.h>

#include "ops/scaling_test.h"

namespace octavo::test {

inline constexpr Dtype kPlainDtypes[] = {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16};

// What vector loops get wrong: one element, odd sizes, nothing at all; then rows of whole packets,
// a short and a long one, for which kernels have other paths.
inline const Shape kShapes[] = {{1}, {7}, {0, 4}, {3, 5}, {2, 3, 129}, {9, 264}, {2, 2056}};

// Of a result of this dtype after `steps` roundings in the arithmetic it is computed in.
inline double tolerance(Dtype d, double steps) {
    return rounding(d) + steps * rounding(accumulator(d));
}

// |got - want| <= relative * |want| + absolute, element by element.
inline void expect_each(const HostTensor& got, const std::vector<double>& want, double relative,
                        double absolute = 0) {
    ASSERT_EQ(got.values.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
        ASSERT_NEAR(got.values[i], want[i], relative * std::abs(want[i]) + absolute)
            << "element " << i;
    }
}

// Results of an op at one index, from its operands at that index.
using Pointwise = std::function<std::vector<double>(const std::vector<double>&)>;

// An op on operands whose gradients may be written over them gives the same bits: operands are
// copied (by a Concat of one) so that nothing but the op needs them.
inline void expect_same_in_place(const Op& op, const std::vector<HostTensor>& in) {
    const auto plain = run(as_is(op), in);
    const auto in_place = run(
        [&](Builder& b, Values values) {
            for (Value& v : values) {
                const bool unscaled = b.type(v).scaling == kUnscaled && b.dtype(v) != Dtype::i32;
                if (unscaled) v = b.one(Concat{}, {v});
            }
            return b.emit(op, values);
        },
        in);
    ASSERT_EQ(plain.size(), in_place.size());
    for (std::size_t i = 0; i < plain.size(); ++i) expect_identical(plain[i], in_place[i]);
}

// All dtypes and shapes against `oracle`, allowing `steps` roundings before the last; operands have
// the standard deviation `sigma`.
inline void check_pointwise(const Op& op, int operands, double steps, const Pointwise& oracle,
                            double sigma = 1) {
    for (Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            SCOPED_TRACE(to_string(Type{dtype, shape}));
            std::vector<HostTensor> in;
            for (int k = 0; k < operands; ++k) {
                in.push_back(random_tensor(dtype, shape, 10 + k, sigma));
            }
            const auto out = run(as_is(op), in);
            for (std::size_t r = 0; r < out.size(); ++r) {
                EXPECT_EQ(out[r].type, (Type{dtype, shape}));
                std::vector<double> want;
                for (std::size_t i = 0; i < in[0].values.size(); ++i) {
                    std::vector<double> at;
                    for (const HostTensor& t : in) at.push_back(t.values[i]);
                    want.push_back(oracle(at)[r]);
                }
                // The quantum of f16's subnormals bounds what is lost near zero.
                expect_each(
                    out[r], want, tolerance(dtype, steps),
                    (dtype == Dtype::f16 ? 0x1p-25 : 0) + steps * rounding(accumulator(dtype)));
            }
            expect_same_in_place(op, in);
        }
    }
}

// The results do not depend on the number of threads.
inline void expect_same_on_any_threads(const Build& build, const std::vector<HostTensor>& in) {
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    const auto want = run(build, in);
    for (int n : {2, 3, 7}) {
        omp_set_num_threads(n);
        const auto got = run(build, in);
        for (std::size_t i = 0; i < want.size(); ++i) expect_identical(got[i], want[i]);
    }
    omp_set_num_threads(threads);
}

inline std::vector<double> ones(const Shape& shape) {
    return std::vector<double>(static_cast<std::size_t>(shape.elements()), 1.0);
}

}  // namespace octavo::test
