// Helpers of the tests of quantisers and scales.
#pragma once

#include <bit>

#include "ops/op_test.h"

namespace octavo::test {

Build as_is(Op op);
Build decomposed(Op op);

HostTensor scalar(double x);
HostTensor count(double n);
HostTensor vector(Dtype dtype, const std::vector<double>& values);

// Codes under one scale.
HostTensor scaled_tensor(Dtype dtype, const std::vector<std::uint8_t>& codes, float scale);

std::vector<int> code_values(const HostTensor& t);

// Bit for bit, NaNs included.
void expect_identical(const HostTensor& a, const HostTensor& b);

// The Error that `build` is refused with.
std::string refusal(const Build& build, const std::vector<Type>& in);

inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace octavo::test
