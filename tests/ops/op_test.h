// Runs small graphs with host values on the backend that OCTAVO_TEST_BACKEND names (cpu unless it
// does), and checks gradients by finite differences.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "base/dtype_traits.h"
#include "base/expansion.h"
#include "base/rng.h"
#include "graph/builder.h"
#include "runtime/program.h"
#include "test_backend.h"

namespace octavo::test {

// A tensor on the host. `values` are the elements as doubles (codes x scales for scaled types);
// `codes` the raw bytes, `scales` and `groups` what lies beside them.
struct HostTensor {
    Type type;
    std::vector<double> values;
    std::vector<std::byte> codes;
    std::vector<float> scales = {};
    std::vector<std::uint8_t> groups = {};

    // What the element's code is multiplied by.
    double factor(std::int64_t i) const;
};

// The largest relative error of one rounding to nearest.
double rounding(Dtype d);

// Elements rounded to the dtype, so that `values` is exactly what the kernel sees.
HostTensor tensor(Dtype dtype, Shape shape, const std::vector<double>& values);

// Normal values of the given standard deviation.
HostTensor random_tensor(Dtype dtype, Shape shape, std::uint64_t seed, double sigma = 1);

HostTensor random_ids(Shape shape, std::int64_t below, std::uint64_t seed);

using Build = std::function<Values(Builder&, const Values& in)>;

HostTensor read_tensor(const TensorRef& ref);

void write_tensor(const TensorRef& ref, const HostTensor& t);

// Builds the graph with one Input per tensor, runs it, and returns what `build` returned.
std::vector<HostTensor> run(const Build& build, const std::vector<HostTensor>& in);

// |got - want| <= relative * max(|want| over the tensor) + absolute, NaN equal to NaN. The largest
// element sets the scale, since sums round relative to their terms and not to their results.
void expect_close(const HostTensor& got, const std::vector<double>& want, double relative,
                  double absolute = 1e-30);

// Sum over `values` of <v, random weights of v>: a scalar in f64 that depends on every element.
Value random_projection(Builder& b, const Values& values);

// Central differences in f64 against differentiate(), for every element of the inputs in `wrt`.
// `in` must be f64 (ids aside). Only results of a float dtype are projected.
void check_gradient(const Build& build, std::vector<HostTensor> in, const std::vector<int>& wrt,
                    double tolerance = 1e-6, double step = 1e-5);

}  // namespace octavo::test
