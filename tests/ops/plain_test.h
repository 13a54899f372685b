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
double tolerance(Dtype d, double steps);

// |got - want| <= relative * |want| + absolute, element by element.
void expect_each(const HostTensor& got, const std::vector<double>& want, double relative,
                 double absolute = 0);

// Results of an op at one index, from its operands at that index.
using Pointwise = std::function<std::vector<double>(const std::vector<double>&)>;

// An op on operands whose gradients may be written over them gives the same bits: operands are
// copied (by a Concat of one) so that nothing but the op needs them.
void expect_same_in_place(const Op& op, const std::vector<HostTensor>& in);

// All dtypes and shapes against `oracle`, allowing `steps` roundings before the last; operands have
// the standard deviation `sigma`.
void check_pointwise(const Op& op, int operands, double steps, const Pointwise& oracle,
                     double sigma = 1);

// The results do not depend on the number of threads.
void expect_same_on_any_threads(const Build& build, const std::vector<HostTensor>& in);

std::vector<double> ones(const Shape& shape);

}  // namespace octavo::test
