// Runs small graphs with host values on the backend that OCTAVO_TEST_BACKEND names (cpu unless it
// does), and checks gradients by finite differences.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
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
    double factor(std::int64_t i) const {
        if (scales.empty()) return 1;
        const ScaleLayout layout = scale_layout(type);
        const std::int64_t row = i / type.shape.last(), column = i % type.shape.last();
        const double scale = scales[static_cast<std::size_t>(layout.scale_at(row, column))];
        if (groups.empty()) return scale;
        return std::ldexp(scale,
                          groups[static_cast<std::size_t>(layout.group_at(row, column))] - 127);
    }
};

template <class F>
void for_dtype(Dtype dtype, F&& f) {
    switch (dtype) {
        case Dtype::i32:
            f(std::type_identity<std::int32_t>{});
            return;
        case Dtype::i64:
            f(std::type_identity<std::int64_t>{});
            return;
        default:
            dispatch_float(dtype, f);
    }
}

template <class T>
double to_double(T x) {
    if constexpr (std::is_arithmetic_v<T>) {
        return static_cast<double>(x);
    } else {
        return to_f32(x);
    }
}

template <class T>
T element(double x) {
    if constexpr (std::is_integral_v<T>) {
        return static_cast<T>(x);
    } else {
        return from_f64<T>(x);
    }
}

// The largest relative error of one rounding to nearest.
inline double rounding(Dtype d) {
    switch (d) {
        case Dtype::f64:
            return 0x1p-53;
        case Dtype::f32:
            return 0x1p-24;
        case Dtype::bf16:
            return 0x1p-8;
        default:
            return 0x1p-11;
    }
}

// Elements rounded to the dtype, so that `values` is exactly what the kernel sees.
inline HostTensor tensor(Dtype dtype, Shape shape, const std::vector<double>& values) {
    HostTensor t{{dtype, shape}, values, {}};
    EXPECT_EQ(shape.elements(), std::ssize(values));
    t.codes.resize(values.size() * size_of(dtype));
    for_dtype(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const T x = element<T>(values[i]);
            std::memcpy(t.codes.data() + i * sizeof(T), &x, sizeof(T));
            t.values[i] = to_double(x);
        }
    });
    return t;
}

// Normal values of the given standard deviation.
inline HostTensor random_tensor(Dtype dtype, Shape shape, std::uint64_t seed, double sigma = 1) {
    std::vector<double> values(static_cast<std::size_t>(shape.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = sigma * Rng(seed, 0).normal(i);
    return tensor(dtype, shape, values);
}

inline HostTensor random_ids(Shape shape, std::int64_t below, std::uint64_t seed) {
    std::vector<double> values(static_cast<std::size_t>(shape.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<double>(Rng(seed, 1).bits64(i) % static_cast<std::uint64_t>(below));
    }
    return tensor(Dtype::i32, shape, values);
}

using Build = std::function<Values(Builder&, const Values& in)>;

inline HostTensor read_tensor(const TensorRef& ref) {
    HostTensor t{ref.type, {}, {}};
    const auto n = static_cast<std::size_t>(ref.type.shape.elements());
    t.codes.resize(static_cast<std::size_t>(data_bytes(ref.type)));
    t.scales.resize(static_cast<std::size_t>(scale_count(ref.type)));
    backend().copy_out(t.codes.data(), ref.as<std::byte>(), std::ssize(t.codes));
    if (ref.scale) {
        backend().copy_out(reinterpret_cast<std::byte*>(t.scales.data()),
                           static_cast<const std::byte*>(ref.scale), scale_bytes(ref.type));
    }
    if (ref.groups) {
        t.groups.resize(static_cast<std::size_t>(group_bytes(ref.type)));
        backend().copy_out(reinterpret_cast<std::byte*>(t.groups.data()),
                           reinterpret_cast<const std::byte*>(ref.groups), std::ssize(t.groups));
    }
    for_dtype(ref.type.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        for (std::size_t i = 0; i < n; ++i) {
            T x;
            std::memcpy(&x, t.codes.data() + i * sizeof(T), sizeof(T));
            t.values.push_back(to_double(x) * t.factor(static_cast<std::int64_t>(i)));
        }
    });
    if (ref.type.scaling == kExpanded) {
        std::vector<float> values(n);
        contract(t.codes.data(), reinterpret_cast<const Expansion*>(t.scales.data()),
                 ref.type.shape.elements(), values.data());
        t.values.assign(values.begin(), values.end());
    }
    return t;
}

inline void write_tensor(const TensorRef& ref, const HostTensor& t) {
    backend().copy_in(ref.as<std::byte>(), t.codes.data(), std::ssize(t.codes));
    if (ref.scale) {
        backend().copy_in(static_cast<std::byte*>(ref.scale),
                          reinterpret_cast<const std::byte*>(t.scales.data()),
                          std::ssize(t.scales) * 4);
    }
    if (ref.groups) {
        backend().copy_in(reinterpret_cast<std::byte*>(ref.groups),
                          reinterpret_cast<const std::byte*>(t.groups.data()),
                          std::ssize(t.groups));
    }
}

// Builds the graph with one Input per tensor, runs it, and returns what `build` returned.
inline std::vector<HostTensor> run(const Build& build, const std::vector<HostTensor>& in) {
    Graph graph;
    Builder b(graph);
    Values inputs;
    for (std::size_t i = 0; i < in.size(); ++i) {
        inputs.push_back(b.input("in" + std::to_string(i), in[i].type));
    }
    const Values results = build(b, inputs);
    for (std::size_t i = 0; i < results.size(); ++i)
        b.output("out" + std::to_string(i), results[i]);
    verify(graph);

    Program program(backend());
    program.add("test", graph);
    program.allocate(std::int64_t{1} << 34);
    for (std::size_t i = 0; i < in.size(); ++i) {
        write_tensor(program.plan("test").input("in" + std::to_string(i)), in[i]);
    }
    program.run("test");
    std::vector<HostTensor> out;
    for (std::size_t i = 0; i < results.size(); ++i) {
        out.push_back(read_tensor(program.plan("test").output("out" + std::to_string(i))));
    }
    return out;
}

// |got - want| <= relative * max(|want| over the tensor) + absolute, NaN equal to NaN. The largest
// element sets the scale, since sums round relative to their terms and not to their results.
inline void expect_close(const HostTensor& got, const std::vector<double>& want, double relative,
                         double absolute = 1e-30) {
    ASSERT_EQ(got.values.size(), want.size());
    double largest = 0;
    for (double w : want) {
        if (std::isfinite(w)) largest = std::max(largest, std::abs(w));
    }
    for (std::size_t i = 0; i < want.size(); ++i) {
        if (std::isnan(want[i])) {
            EXPECT_TRUE(std::isnan(got.values[i])) << "element " << i << ": " << got.values[i];
        } else if (std::isinf(want[i])) {
            EXPECT_EQ(got.values[i], want[i]) << "element " << i;
        } else {
            EXPECT_NEAR(got.values[i], want[i], relative * largest + absolute) << "element " << i;
        }
    }
}

// Sum over `values` of <v, random weights of v>: a scalar in f64 that depends on every element.
inline Value random_projection(Builder& b, const Values& values) {
    Value sum;
    std::uint64_t seed = 99;
    for (Value v : values) {
        const std::int64_t n = b.shape(v).elements();
        // Weights that no symmetry of an op annihilates: sin is as good as random here.
        const Value flat = b.reshape(v, {n, 1});
        const Value weights = b.input("projection" + std::to_string(seed), {Dtype::f64, {n, 1}});
        const Value term = b.one(SumRows{}, {b.mul(flat, weights)});
        sum = sum ? b.add(sum, term) : term;
        ++seed;
    }
    return sum;
}

// Central differences in f64 against differentiate(), for every element of the inputs in `wrt`.
// `in` must be f64 (ids aside). Only results of a float dtype are projected.
inline void check_gradient(const Build& build, std::vector<HostTensor> in,
                           const std::vector<int>& wrt, double tolerance = 1e-6,
                           double step = 1e-5) {
    Graph graph;
    Builder b(graph);
    Values inputs, differentiated;
    for (std::size_t i = 0; i < in.size(); ++i) {
        inputs.push_back(b.input("in" + std::to_string(i), in[i].type));
    }
    const Values results = build(b, inputs);
    const Value loss = random_projection(b, results);
    for (int i : wrt) differentiated.push_back(inputs[static_cast<std::size_t>(i)]);
    const Values gradients = differentiate(b, loss, differentiated);
    b.output("loss", loss);
    for (std::size_t i = 0; i < wrt.size(); ++i) {
        ASSERT_TRUE(bool(gradients[i])) << "no gradient flows to input " << wrt[i];
        b.output("grad" + std::to_string(i), gradients[i]);
    }
    verify(graph);
    Program program(backend());
    program.add("test", graph);
    program.allocate(std::int64_t{1} << 34);
    Plan& plan = program.plan("test");
    for (const Node& n : graph.nodes()) {
        const auto* input = std::get_if<Input>(&n.op);
        if (!input || !input->name.starts_with("projection")) continue;
        const TensorRef& t = plan.input(input->name);
        std::vector<double> weights(static_cast<std::size_t>(t.type.shape.elements()));
        for (std::size_t i = 0; i < weights.size(); ++i) {
            weights[i] = std::sin(1.0 + 1.7 * static_cast<double>(i));
        }
        write_tensor(t, tensor(Dtype::f64, t.type.shape, weights));
    }
    for (std::size_t i = 0; i < in.size(); ++i) {
        write_tensor(plan.input("in" + std::to_string(i)), in[i]);
    }
    const auto loss_with = [&](std::byte* element, double x) {
        backend().copy_in(element, reinterpret_cast<const std::byte*>(&x), sizeof(x));
        plan.run();
        return read_tensor(plan.output("loss")).values[0];
    };
    plan.run();
    std::vector<std::vector<double>> analytic;
    for (std::size_t i = 0; i < wrt.size(); ++i) {
        analytic.push_back(read_tensor(plan.output("grad" + std::to_string(i))).values);
    }
    for (std::size_t w = 0; w < wrt.size(); ++w) {
        const auto i = static_cast<std::size_t>(wrt[w]);
        ASSERT_EQ(in[i].type.dtype, Dtype::f64);
        double largest = 1;
        for (double g : analytic[w]) largest = std::max(largest, std::abs(g));
        for (std::size_t e = 0; e < in[i].values.size(); ++e) {
            auto* x =
                reinterpret_cast<std::byte*>(plan.input("in" + std::to_string(i)).as<double>() + e);
            const double at = in[i].values[e];
            const double above = loss_with(x, at + step), below = loss_with(x, at - step);
            backend().copy_in(x, reinterpret_cast<const std::byte*>(&at), sizeof(at));
            EXPECT_NEAR(analytic[w][e], (above - below) / (2 * step), tolerance * largest)
                << "input " << i << ", element " << e;
        }
    }
}

}  // namespace octavo::test
