// Quantisers at the edges of formats, bit for bit against a scalar oracle that is written from
// their definition (FP8-LM, arXiv 2310.18313; base/scale.h): scales by search instead of from bits,
// codes by search among the values of all codes, products in doubles rounded once.
#include <cstring>

#include "base/codec_reference.h"
#include "base/dtype_traits.h"
#include "base/scale_rule.h"
#include "ops/delayed_quantise.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

// ---- The oracle --------------------------------------------------------------------------------

CodecReference& codec_of(Dtype d) {
    static CodecReference e4m3 = e4m3_reference(), e5m2 = e5m2_reference(), f16 = f16_reference();
    return d == Dtype::e4m3 ? e4m3 : d == Dtype::e5m2 ? e5m2 : f16;
}

// Doubles hold products of two f32 and all powers of two that occur exactly, and a quotient that is
// rounded to double first is rounded to f32 as if it had not been.
float rounded(double x) { return static_cast<float>(x); }

// The largest magnitude; NaN if there is one.
double largest(const std::vector<double>& values) {
    double top = 0;
    for (const double x : values) {
        if (std::isnan(x)) return kNan;
        top = std::max(top, std::abs(x));
    }
    return top;
}

double wanted_scale(const ScaleRule& rule, double amax, double old) {
    if (std::isnan(amax) || std::isinf(amax) || amax < 0x1p-126) return old;
    CodecReference& codec = codec_of(rule.to);
    const double fmax = codec.value(codec.max_code);
    if (rule.rounding == ScaleRounding::exact) {
        const double s = std::ldexp(double{rounded(amax / fmax)}, rule.margin);
        return std::clamp(s, 0x1p-126, 0x1p126);
    }
    int e = 300;
    while (std::ldexp(amax, e) > fmax) --e;
    return std::ldexp(1.0, -std::clamp(e - rule.margin, -126, 126));
}

std::vector<int> wanted_codes(Dtype to, const std::vector<double>& values, double scale) {
    CodecReference& codec = codec_of(to);
    const double k = rounded(1.0 / scale);
    std::vector<int> codes;
    for (const double x : values) codes.push_back(codec.cast(rounded(rounded(x) * k)));
    return codes;
}

// NaN counts as infinity.
double wanted_note(double first, double amax) {
    return std::max(first, std::isnan(amax) ? kInf : amax);
}

// ---- Tensors at the edges ----------------------------------------------------------------------

std::vector<int> codes_of(const HostTensor& t) {
    std::vector<int> codes;
    const std::size_t size = size_of(t.type.dtype);
    for (std::size_t i = 0; i < t.codes.size(); i += size) {
        std::uint32_t code = 0;
        std::memcpy(&code, t.codes.data() + i, size);
        codes.push_back(static_cast<int>(code));
    }
    return codes;
}

// Neighbours of a positive value in the dtype, and itself.
std::vector<double> around(Dtype dtype, double x) {
    const HostTensor here = tensor(dtype, {1}, {x});
    std::vector<double> all;
    for (const int step : {-1, 0, 1}) {
        HostTensor t = here;
        std::uint32_t code = 0;
        std::memcpy(&code, t.codes.data(), size_of(dtype));
        code += static_cast<std::uint32_t>(step);
        std::memcpy(t.codes.data(), &code, size_of(dtype));
        dispatch_float(dtype, [&](auto tag) {
            typename decltype(tag)::type value;
            std::memcpy(&value, t.codes.data(), sizeof(value));
            if constexpr (std::is_arithmetic_v<decltype(value)>) {
                all.push_back(value);
            } else {
                all.push_back(to_f32(value));
            }
        });
    }
    return all;
}

double smallest(Dtype d) {  // subnormal
    return d == Dtype::f32 ? 0x1p-149 : d == Dtype::bf16 ? 0x1p-133 : 0x1p-24;
}
double smallest_normal(Dtype d) { return d == Dtype::f16 ? 0x1p-14 : 0x1p-126; }

struct Edge {
    std::string what;
    std::vector<double> values;
};

// Each with its own amax; what else is in it lies below.
std::vector<Edge> edges(Dtype dtype) {
    const double top = max_value(dtype), least = smallest(dtype), normal = smallest_normal(dtype);
    std::vector<Edge> all = {
        {"zero", {0.0}},
        {"minus zero", {-0.0}},
        {"zeros", {0.0, -0.0, 0.0}},
        {"smallest", {least, -least, 0.0}},
        {"subnormals", {normal - least, -3 * least, least, -0.0}},
        {"smallest normal", {-normal, normal - least}},
        {"largest", {top, -1.0, least}},
        {"minus largest", {-top, top, 0.5}},
        {"infinity", {1.0, kInf, -2.0}},
        {"minus infinity", {-kInf, 448.0, -0.0}},
        {"NaN", {kNan, 3.0, -0.25}},
        {"negative NaN", {std::copysign(kNan, -1.0), 3.0}},
        {"NaN and infinities", {kInf, -kInf, kNan, top}},
    };
    const int low = dtype == Dtype::f16 ? -24 : -133, high = dtype == Dtype::f16 ? 15 : 127;
    for (int e = low; e <= high; e += e < low + 10 || e > high - 10 ? 1 : 7) {
        all.push_back({fmt::format("2^{}", e), {std::ldexp(1.0, e), -std::ldexp(0.75, e)}});
        // The significands of 448 and 57344, and of 65504.
        for (const double f : {1.75, 1.9990234375}) {
            if (e < low + 11) continue;
            for (const double amax : around(dtype, std::ldexp(f, e))) {
                if (!std::isfinite(amax)) continue;
                all.push_back({fmt::format("{}", amax), {amax, -amax / 2, amax / 3, -amax}});
            }
        }
    }
    // The largest values of the formats, and where rounding would leave them.
    for (const double edge : {448.0, 464.0, 480.0, 57344.0, 61440.0, 65504.0}) {
        for (const double amax : around(dtype, edge)) {
            if (std::isfinite(amax)) all.push_back({fmt::format("{}", amax), {-amax, 1.0}});
        }
    }
    // All codes and the middles between them, which under a scale of 1 are ties.
    for (const Dtype to : {Dtype::e4m3, Dtype::e5m2}) {
        Edge ties{fmt::format("ties of {}", name(to)), {}};
        const CodecReference& codec = codec_of(to);
        for (const float x : telling_inputs(codec, 0x7FFFFFFF)) {
            if (std::abs(x) <= top) ties.values.push_back(x);
        }
        all.push_back(std::move(ties));
    }
    return all;
}

// Repeated until the shape is full, as the dtype holds them.
HostTensor filled(Dtype dtype, const Shape& shape, const std::vector<double>& values) {
    std::vector<double> all(static_cast<std::size_t>(shape.elements()));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = values[i % values.size()];
    return tensor(dtype, shape, all);
}

constexpr Dtype kSources[] = {Dtype::f32, Dtype::bf16, Dtype::f16};
constexpr ScaleRule kRules[] = {{Dtype::e4m3},
                                {Dtype::e5m2},
                                {Dtype::f16},
                                {Dtype::e4m3, ScaleRounding::pow2, 2},
                                {Dtype::e4m3, ScaleRounding::exact},
                                {Dtype::e5m2, ScaleRounding::exact, 1},
                                {Dtype::f16, ScaleRounding::exact, 3}};

std::string text(const ScaleRule& rule) {
    return fmt::format("to {}{} margin {}", name(rule.to),
                       rule.rounding == ScaleRounding::exact ? " exact" : "", rule.margin);
}

void expect_quantised(const HostTensor& got, Dtype to, const std::vector<double>& values,
                      double scale) {
    EXPECT_EQ(got.scales, std::vector<float>{rounded(scale)});
    EXPECT_EQ(codes_of(got), wanted_codes(to, values, scale));
}

// ---- Tests -------------------------------------------------------------------------------------

TEST(QuantiserEdges, Quantise) {
    for (const Dtype from : kSources) {
        for (const Edge& edge : edges(from)) {
            const HostTensor x = filled(from, {std::ssize(edge.values)}, edge.values);
            for (const Dtype to : {Dtype::e4m3, Dtype::e5m2, Dtype::f16}) {
                for (const float scale : {1.0f, 0x1p-126f, 0x1p126f, 0.3f, 0x1.fffffep-10f}) {
                    SCOPED_TRACE(fmt::format("{} {} to {} scale {}", name(from), edge.what,
                                             name(to), scale));
                    const auto y = run(as_is(Quantise{to}), {x, scalar(scale)});
                    expect_quantised(y[0], to, x.values, scale);
                }
            }
        }
    }
}

// As the provider `current` does it.
TEST(QuantiserEdges, AmaxThenScaleThenQuantise) {
    for (const Dtype from : kSources) {
        for (const Edge& edge : edges(from)) {
            const HostTensor x = filled(from, {std::ssize(edge.values)}, edge.values);
            for (const ScaleRule& rule : kRules) {
                SCOPED_TRACE(fmt::format("{} {} {}", name(from), edge.what, text(rule)));
                const double old = 0.3f, amax = largest(x.values);
                const auto chain = [&](Builder& b, const Values& in) {
                    const Value top = b.one(Amax{}, {in[0]});
                    const Value scale = b.one(ComputeScale{rule}, {top, in[1]});
                    return Values{top, b.one(Quantise{rule.to}, {in[0], scale})};
                };
                const auto out = run(chain, {x, scalar(old)});
                if (std::isnan(amax)) {
                    EXPECT_TRUE(std::isnan(out[0].values[0]));
                } else {
                    EXPECT_EQ(out[0].values[0], amax);
                }
                expect_quantised(out[1], rule.to, x.values, wanted_scale(rule, amax, old));
            }
        }
    }
}

// Results of a DelayedQuantise of `values`, which have been rounded to their dtype: codes, history,
// scale, and perhaps the transposed codes.
void expect_delayed(const std::vector<HostTensor>& out, std::size_t result, std::size_t results,
                    const DelayedQuantise& op, const HostTensor& values, double first, bool filled,
                    double old) {
    const double amax = largest(values.values);
    const double scale = filled ? old : wanted_scale(op.rule, amax, old);
    const HostTensor &codes = out[3 * result], &history = out[3 * result + 1];
    expect_quantised(codes, op.rule.to, values.values, scale);
    EXPECT_EQ(history.values[0], wanted_note(first, amax));
    EXPECT_EQ(history.values[1], 5);
    EXPECT_EQ(out[3 * result + 2].values[0], scale);
    if (!op.transpose) return;
    const HostTensor& transposed = out[3 * results + result];
    EXPECT_EQ(transposed.scales, codes.scales);
    const std::size_t rows = static_cast<std::size_t>(values.type.shape.rows());
    const std::size_t columns = static_cast<std::size_t>(values.type.shape.last());
    for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t j = 0; j < columns; ++j) {
            ASSERT_EQ(transposed.codes[j * rows + i], codes.codes[i * columns + j])
                << i << ' ' << j;
        }
    }
}

// The shapes take the paths of a GPU for whole tiles and for everything else.
TEST(QuantiserEdges, DelayedQuantise) {
    const Shape shapes[] = {{16, 32}, {7, 5}};
    const std::pair<bool, double> states[] = {{false, 0.0}, {false, kInf}, {true, 448.0}};
    for (const Dtype from : kSources) {
        int turn = 0;
        for (const Edge& edge : edges(from)) {
            const HostTensor x = filled(from, shapes[turn++ % 2], edge.values);
            for (const ScaleRule& rule : kRules) {
                for (const auto& [full, first] : states) {
                    // The transposed copy is of FP8 alone.
                    const DelayedQuantise op{rule, QuantiseSource::value,
                                             is_fp8(rule.to) && first > 0};
                    const double old = first > 0 ? 0.3f : 0x1p-7;
                    SCOPED_TRACE(fmt::format("{} {} {} {}{}{}", name(from), edge.what, text(rule),
                                             to_string(x.type.shape),
                                             full ? " delayed" : " just in time",
                                             op.transpose ? " transpose" : ""));
                    const auto out = run(as_is(op), {x, vector(Dtype::f32, {first, 5}),
                                                     count(full ? 2 : 1), scalar(old)});
                    ASSERT_EQ(out.size(), op.transpose ? 4u : 3u);
                    expect_delayed(out, 0, 1, op, x, first, full, old);
                }
            }
        }
    }
}

// What a source gives for such operands is its own affair; how it is quantised is not.
TEST(QuantiserEdges, DelayedQuantiseOfSources) {
    struct Source {
        QuantiseSource of;
        std::size_t operands;
    };
    const Source sources[] = {{QuantiseSource::swiglu, 2},
                              {QuantiseSource::gelu, 1},
                              {QuantiseSource::gelu_grad, 2},
                              {QuantiseSource::swiglu_grad, 3}};
    for (const Dtype from : kSources) {
        for (const Edge& edge : edges(from)) {
            for (const Source& source : sources) {
                const Shape shape{16, 32};
                std::vector<HostTensor> operands{filled(from, shape, edge.values)};
                // Others keep it at the edge: 1, and what turns signs.
                if (source.operands > 1) operands.push_back(filled(from, shape, {1.0, -1.0, 1.0}));
                if (source.operands > 2) operands.push_back(filled(from, shape, {1.0, 0.5}));
                const auto values = run(as_is(*source_op(source.of)), operands);
                const std::size_t results = quantised_results(source.of);
                for (const bool full : {false, true}) {
                    const DelayedQuantise op{{Dtype::e5m2}, source.of, true};
                    SCOPED_TRACE(fmt::format("{} {} {}{}", name(from), edge.what, attributes(op),
                                             full ? " delayed" : " just in time"));
                    auto in = operands;
                    for (std::size_t r = 0; r < results; ++r) {
                        in.push_back(vector(Dtype::f32, {0.5, 5}));
                        in.push_back(count(full ? 2 : 1));
                        in.push_back(scalar(0.125));
                    }
                    const auto out = run(as_is(op), in);
                    ASSERT_EQ(out.size(), 4 * results);
                    for (std::size_t r = 0; r < results; ++r) {
                        expect_delayed(out, r, results, op, values[r], 0.5, full, 0.125);
                    }
                }
            }
        }
    }
}

// Moments of a step that forgets: m' = g and v' = g^2, rounded to f32, whatever the order of
// operations.
TEST(QuantiserEdges, MomentsOfAdamW) {
    struct Formats {
        Dtype m, v;
    };
    const Formats formats[] = {
        {Dtype::e4m3, Dtype::f16}, {Dtype::e5m2, Dtype::e4m3}, {Dtype::f16, Dtype::e5m2}};
    const auto zeros = [](Dtype dtype, std::int64_t n, float scale) {
        HostTensor t = tensor(dtype, {n}, std::vector<double>(static_cast<std::size_t>(n), 0.0));
        t.type.scaling = kPerTensor;
        t.scales = {scale};
        return t;
    };
    for (const Dtype from : kSources) {
        for (const Edge& edge : edges(from)) {
            for (const Formats& f : formats) {
                for (const ScaleRounding rounding : {ScaleRounding::exact, ScaleRounding::pow2}) {
                    SCOPED_TRACE(fmt::format("{} {} m {} v {} {}", name(from), edge.what, name(f.m),
                                             name(f.v),
                                             rounding == ScaleRounding::exact ? "exact" : "pow2"));
                    const std::int64_t n = std::max<std::int64_t>(std::ssize(edge.values), 19);
                    const HostTensor g = filled(from, {n}, edge.values);
                    const AdamW op{.beta1 = 0, .beta2 = 0, .scale_rounding = rounding};
                    const float old_m = 0.3f, old_v = 0x1p-20f;
                    const auto out =
                        run(as_is(op), {filled(Dtype::f32, {n}, {0.5}), g, zeros(f.m, n, old_m),
                                        zeros(f.v, n, old_v), scalar(1),
                                        vector(Dtype::f32, {1e-3, 1, 1}), count(1)});
                    std::vector<double> means, squares;
                    for (const double x : g.values) {
                        means.push_back(0.0 + x);  // -0 is no sum of zeros
                        squares.push_back(rounded(x * x));
                    }
                    expect_quantised(out[1], f.m, means,
                                     wanted_scale({f.m, rounding}, largest(means), old_m));
                    expect_quantised(out[2], f.v, squares,
                                     wanted_scale({f.v, rounding}, largest(squares), old_v));
                }
            }
        }
    }
}

// Masters of a step of length zero: w' = w, under the scale of its own amax, a power of two
// whatever the moments' scales are.
TEST(QuantiserEdges, MastersOfAdamW) {
    for (const Dtype format : {Dtype::f16, Dtype::e4m3, Dtype::e5m2}) {
        CodecReference& codec = codec_of(format);
        for (const double amax : {0.0, codec.value(1), codec.value(2), 1.0, 1.75, 1.875,
                                  codec.value(codec.max_code - 1), codec.value(codec.max_code)}) {
            for (const float old : {1.0f, 0.3f, 0x1p-100f, 0x1p100f}) {
                for (const ScaleRounding rounding : {ScaleRounding::exact, ScaleRounding::pow2}) {
                    SCOPED_TRACE(fmt::format("{} amax {} x {} {}", name(format), amax, old,
                                             rounding == ScaleRounding::exact ? "exact" : "pow2"));
                    HostTensor w = filled(format, {19}, {amax, -amax / 2, -0.0, amax / 8});
                    w.type.scaling = kPerTensor;
                    w.scales = {old};
                    std::vector<double> values;
                    for (const double x : w.values) values.push_back(rounded(x * double{old}));
                    const HostTensor plain = filled(Dtype::f32, {19}, {0.0});
                    const AdamW op{.scale_rounding = rounding};
                    const auto out =
                        run(as_is(op), {w, filled(Dtype::f32, {19}, {0.25}), plain, plain,
                                        scalar(1), vector(Dtype::f32, {0, 1, 1}), count(1)});
                    expect_quantised(out[0], format, values,
                                     wanted_scale({format, kMasterRounding}, largest(values), old));
                }
            }
        }
    }
}

}  // namespace
}  // namespace octavo::test
