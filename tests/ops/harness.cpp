// What op_test.h, scaling_test.h, kernel_test.h and plain_test.h declare, compiled once.
#include <omp.h>

#include <cstring>

#include "base/dtype_traits.h"
#include "base/expansion.h"
#include "base/rng.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"
#include "runtime/program.h"

namespace octavo::test {
namespace {

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

// A tensor's memory, aligned as a plan aligns it, with a guard behind it.
class Memory {
  public:
    explicit Memory(std::int64_t bytes) : bytes_(bytes), buffer_(backend(), bytes + kGuard) {
        const std::vector<std::byte> poison(static_cast<std::size_t>(bytes + kGuard),
                                            std::byte{0xFF});
        backend().copy_in(buffer_.data(), poison.data(), std::ssize(poison));
    }
    std::byte* data() const { return buffer_.data(); }
    bool intact() const {
        std::vector<std::byte> guard(kGuard);
        backend().copy_out(guard.data(), buffer_.data() + bytes_, kGuard);
        return std::ranges::all_of(guard, [](std::byte b) { return b == std::byte{0xFF}; });
    }

  private:
    static constexpr std::int64_t kGuard = 64;
    std::int64_t bytes_;
    Buffer buffer_;
};

}  // namespace

double HostTensor::factor(std::int64_t i) const {
    if (scales.empty()) return 1;
    const ScaleLayout layout = scale_layout(type);
    const std::int64_t row = i / type.shape.last(), column = i % type.shape.last();
    const double scale = scales[static_cast<std::size_t>(layout.scale_at(row, column))];
    if (groups.empty()) return scale;
    return std::ldexp(scale, groups[static_cast<std::size_t>(layout.group_at(row, column))] - 127);
}

double rounding(Dtype d) {
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

HostTensor tensor(Dtype dtype, Shape shape, const std::vector<double>& values) {
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

HostTensor random_tensor(Dtype dtype, Shape shape, std::uint64_t seed, double sigma) {
    std::vector<double> values(static_cast<std::size_t>(shape.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = sigma * Rng(seed, 0).normal(i);
    return tensor(dtype, shape, values);
}

HostTensor random_ids(Shape shape, std::int64_t below, std::uint64_t seed) {
    std::vector<double> values(static_cast<std::size_t>(shape.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<double>(Rng(seed, 1).bits64(i) % static_cast<std::uint64_t>(below));
    }
    return tensor(Dtype::i32, shape, values);
}

HostTensor read_tensor(const TensorRef& ref) {
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

void write_tensor(const TensorRef& ref, const HostTensor& t) {
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

std::vector<HostTensor> run(const Build& build, const std::vector<HostTensor>& in) {
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

void expect_close(const HostTensor& got, const std::vector<double>& want, double relative,
                  double absolute) {
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

Value random_projection(Builder& b, const Values& values) {
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

void check_gradient(const Build& build, std::vector<HostTensor> in, const std::vector<int>& wrt,
                    double tolerance, double step) {
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

Build as_is(Op op) {
    return [op](Builder& b, const Values& in) { return b.emit(op, in); };
}

Build decomposed(Op op) {
    return [op](Builder& b, const Values& in) { return rules_of(op).decompose(b, op, in); };
}

HostTensor scalar(double x) { return tensor(Dtype::f32, {1}, {x}); }

HostTensor count(double n) { return tensor(Dtype::i32, {1}, {n}); }

HostTensor vector(Dtype dtype, const std::vector<double>& values) {
    return tensor(dtype, {std::ssize(values)}, values);
}

HostTensor scaled_tensor(Dtype dtype, const std::vector<std::uint8_t>& codes, float scale) {
    HostTensor t{{dtype, {std::ssize(codes)}, kPerTensor}, {}, {}, {scale}};
    for (std::uint8_t c : codes) t.codes.push_back(std::byte{c});
    return t;
}

std::vector<int> code_values(const HostTensor& t) {
    std::vector<int> codes;
    for (std::byte b : t.codes) codes.push_back(std::to_integer<int>(b));
    return codes;
}

void expect_identical(const HostTensor& a, const HostTensor& b) {
    EXPECT_EQ(a.type, b.type);
    EXPECT_EQ(a.codes, b.codes);
    EXPECT_EQ(a.groups, b.groups);
    ASSERT_EQ(a.scales.size(), b.scales.size());
    for (std::size_t i = 0; i < a.scales.size(); ++i) {
        EXPECT_EQ(std::bit_cast<std::uint32_t>(a.scales[i]),
                  std::bit_cast<std::uint32_t>(b.scales[i]));
    }
}

std::string refusal(const Build& build, const std::vector<Type>& in) {
    Graph graph;
    Builder b(graph);
    Values inputs;
    for (const Type& t : in) inputs.push_back(b.input("in" + std::to_string(inputs.size()), t));
    try {
        build(b, inputs);
    } catch (const Error& e) {
        return e.message();
    }
    return "accepted";
}

HostTensor scaled_tensor(Dtype dtype, Shape shape, std::uint64_t seed, float scale) {
    HostTensor t = random_tensor(dtype, shape, seed, 3);
    t.type.scaling = kPerTensor;
    t.scales = {scale};
    for (double& v : t.values) v *= scale;
    return t;
}

std::vector<HostTensor> run_kernel(const Kernel& kernel, const NodeView& node,
                                   const std::vector<HostTensor>& in) {
    const Prepared prepared = kernel.prepare(node);
    std::vector<Memory> memory;
    std::vector<TensorRef> operands, results;
    for (const HostTensor& t : in) {
        memory.emplace_back(total_bytes(t.type));
        operands.push_back(tensor_at(t.type, memory.back().data()));
        write_tensor(operands.back(), t);
    }
    for (const Type& t : node.out) {
        memory.emplace_back(total_bytes(t));
        results.push_back(tensor_at(t, memory.back().data()));
    }
    memory.emplace_back(prepared.scratch_bytes);
    prepared.run({operands, results, memory.back().data()});
    for (const Memory& m : memory) EXPECT_TRUE(m.intact()) << "written past the end";
    std::vector<HostTensor> out;
    for (const TensorRef& r : results) out.push_back(read_tensor(r));
    return out;
}

std::vector<std::string> for_each_kernel(const Op& op, const std::vector<HostTensor>& in,
                                         const NamedCheck& check) {
    Types operands;
    for (const HostTensor& t : in) operands.push_back(t.type);
    const Types results = rules_of(op).type(op, Operands(op_name(op), operands));
    const NodeView node{op, operands, results, "test"};
    std::vector<std::string> names;
    for (const Kernel& kernel : backend().kernels().kernels(op)) {
        if (kernel.reject(node)) continue;
        SCOPED_TRACE(kernel.name);
        names.emplace_back(kernel.name);
        check(kernel.name, run_kernel(kernel, node, in));
    }
    return names;
}

double tolerance(Dtype d, double steps) { return rounding(d) + steps * rounding(accumulator(d)); }

void expect_each(const HostTensor& got, const std::vector<double>& want, double relative,
                 double absolute) {
    ASSERT_EQ(got.values.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
        ASSERT_NEAR(got.values[i], want[i], relative * std::abs(want[i]) + absolute)
            << "element " << i;
    }
}

void expect_same_in_place(const Op& op, const std::vector<HostTensor>& in) {
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

void check_pointwise(const Op& op, int operands, double steps, const Pointwise& oracle,
                     double sigma) {
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

void expect_same_on_any_threads(const Build& build, const std::vector<HostTensor>& in) {
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

std::vector<double> ones(const Shape& shape) {
    return std::vector<double>(static_cast<std::size_t>(shape.elements()), 1.0);
}

}  // namespace octavo::test
