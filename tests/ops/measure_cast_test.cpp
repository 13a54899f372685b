#include "base/cast_stats.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

CastStats stats_of(const HostTensor& t) {
    CastStats s;
    std::memcpy(&s, t.codes.data(), sizeof(s));
    return s;
}

// The definition, element by element in f64. `y` tells codes and scales apart.
CastStats oracle(const HostTensor& x, const HostTensor& y) {
    CastStats s;
    const auto n = x.values.size();
    double signal = 0, noise = 0, amax = 0, low = kNan, high = 0;
    std::int64_t saturated = 0, flushed = 0, nonzero = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const double v = static_cast<float>(x.values[i]);
        const double factor = y.factor(static_cast<std::int64_t>(i));
        signal += v * v;
        noise += (v - y.values[i]) * (v - y.values[i]);
        amax = std::isnan(v) || std::isnan(amax) ? kNan : std::max(amax, std::abs(v));
        low = std::isnan(low) ? factor : std::fmin(low, factor);  // NaN only where all are
        high = std::isnan(factor) || std::isnan(high) ? kNan : std::max(high, factor);
        if (std::abs(v) > max_value(y.type.dtype) * factor * (1 + 0x1p-20)) ++saturated;
        if (v != 0) ++nonzero;
        if (v != 0 && y.values[i] == 0) ++flushed;
    }
    if (n == 0) return s;
    const auto f = [](double v) { return static_cast<float>(v); };
    s.amax = f(amax);
    s.scale_min = f(low);
    s.scale_max = f(high);
    s.saturated = f(static_cast<double>(saturated) / static_cast<double>(n));
    s.flushed = nonzero ? f(static_cast<double>(flushed) / static_cast<double>(nonzero)) : 0;
    s.error = noise == 0 ? 0 : f(std::sqrt(noise / signal));
    return s;
}

void expect_same(float got, float want, const char* what) {
    if (std::isnan(want)) {
        EXPECT_TRUE(std::isnan(got)) << what << " " << got;
    } else {
        EXPECT_EQ(got, want) << what;
    }
}

// All but the error exactly; the order of f64 sums shows in its last bits at most.
void expect_stats(const CastStats& got, const CastStats& want) {
    expect_same(got.amax, want.amax, "amax");
    expect_same(got.scale_min, want.scale_min, "scale_min");
    expect_same(got.scale_max, want.scale_max, "scale_max");
    expect_same(got.saturated, want.saturated, "saturated");
    expect_same(got.flushed, want.flushed, "flushed");
    const bool close = std::abs(got.error - want.error) <= 1e-6f * want.error;
    expect_same(close ? want.error : got.error, want.error, "error");
}

// Casts x by `quantiser`, measures what became of it, compares with the definition.
CastStats check(const Build& quantiser, const std::vector<HostTensor>& in) {
    const auto out = run(
        [&](Builder& b, const Values& v) {
            const Value y = quantiser(b, v)[0];
            return Values{y, b.one(MeasureCast{}, {v[0], y})};
        },
        in);
    const CastStats got = stats_of(out[1]);
    expect_stats(got, oracle(in[0], out[0]));
    return got;
}

std::vector<BlockQuantise> block_quantisers() {
    std::vector<BlockQuantise> all;
    for (const Dtype to : {Dtype::e4m3, Dtype::e5m2}) {
        for (const auto rounding : {ScaleRounding::exact, ScaleRounding::pow2}) {
            for (const auto granularity :
                 {Granularity::row, Granularity::block_1x128, Granularity::block_128x128}) {
                all.push_back({.to = to, .scaling = {granularity}, .rounding = rounding});
            }
        }
        for (const int group : {32, 64, 128}) {
            all.push_back({.to = to, .scaling = {Granularity::micro, Dtype::f32, group}});
        }
        all.push_back({.to = to, .scaling = {Granularity::micro, Dtype::f32, 32}, .global = true});
    }
    return all;
}

// Many orders of magnitude, so that something is flushed under every scale.
HostTensor wide(Dtype d, Shape shape, std::uint64_t seed) {
    HostTensor t = random_tensor(d, shape, seed);
    std::vector<double> values = t.values;
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = std::ldexp(values[i], -static_cast<int>(i % 23));
    }
    return tensor(d, shape, values);
}

TEST(MeasureCast, UnderOneScale) {
    for (const Dtype d : kPlainDtypes) {
        for (const Dtype to : {Dtype::e4m3, Dtype::e5m2}) {
            for (const double scale : {0x1p-8, 0.0031, 1.0, 37.0}) {
                check(as_is(Quantise{to}), {wide(d, {129, 257}, 3), scalar(scale)});
            }
        }
    }
}

TEST(MeasureCast, OfCodesUnderAScale) {
    for (const Dtype d : {Dtype::f16, Dtype::e5m2}) {
        check(as_is(Quantise{Dtype::e4m3}), {scaled_tensor(d, {70, 130}, 5, 0.25f), scalar(0.01)});
    }
}

// Codes alone are codes under the scale 1.
TEST(MeasureCast, WithoutScales) {
    const std::vector<double> values = {0, 1, -448, 449, 1e-4, 0x1p-9};
    const HostTensor x = vector(Dtype::f32, values), y = vector(Dtype::e4m3, values);
    const CastStats s = stats_of(run(as_is(MeasureCast{}), {x, y})[0]);
    expect_stats(s, oracle(x, y));
    EXPECT_EQ(s.scale_min, 1);
    EXPECT_EQ(s.scale_max, 1);
    EXPECT_EQ(s.amax, 449);
    EXPECT_EQ(s.saturated, 1.0f / 6);
    EXPECT_EQ(s.flushed, 1.0f / 5);
}

TEST(MeasureCast, UnderFinerScales) {
    for (const BlockQuantise& op : block_quantisers()) {
        SCOPED_TRACE(attributes(op));
        for (const Shape& shape : {Shape{1, 1}, Shape{3, 31}, Shape{130, 400}, Shape{2, 65, 128}}) {
            for (const Dtype d : {Dtype::f32, Dtype::bf16}) {
                check(as_is(op), {wide(d, shape, 7)});
            }
        }
    }
}

// Scales from the values themselves leave nothing beyond the largest code, however they round.
TEST(MeasureCast, CurrentScalesSaturateNothing) {
    for (const BlockQuantise& op : block_quantisers()) {
        SCOPED_TRACE(attributes(op));
        EXPECT_EQ(check(as_is(op), {random_tensor(Dtype::f32, {257, 384}, 11)}).saturated, 0);
    }
}

TEST(MeasureCast, CountsWhatLiesBeyondTheLargestCode) {
    // Half a step beyond 448 still rounds to it, but it was cut off all the same.
    const CastStats s = check(as_is(Quantise{Dtype::e4m3}),
                              {vector(Dtype::f32, {896, -896.25, 900, 1e30, 1, 0}), scalar(2)});
    EXPECT_EQ(s.saturated, 0.5f);
    EXPECT_EQ(s.flushed, 0);
}

TEST(MeasureCast, ZerosAreNotFlushed) {
    const CastStats s = check(as_is(Quantise{Dtype::e4m3}),
                              {vector(Dtype::f32, {0, -0.0, 0x1p-10, 0x1.1p-10, 1}), scalar(1)});
    EXPECT_EQ(s.flushed, 1.0f / 3);  // a tie to even goes to 0
    for (const BlockQuantise& op : block_quantisers()) {
        const CastStats none =
            check(as_is(op), {tensor(Dtype::f32, {3, 40}, std::vector(120, 0.0))});
        EXPECT_EQ(none.amax, 0);
        EXPECT_EQ(none.error, 0);
        EXPECT_EQ(none.flushed, 0);
        EXPECT_GT(none.scale_min, 0);
    }
}

TEST(MeasureCast, SubnormalsInfinitiesAndNans) {
    const auto quantise = as_is(Quantise{Dtype::e5m2});
    const HostTensor tiny = vector(Dtype::f32, {0x1p-149, -0x1p-130, 0x1p-127});
    EXPECT_EQ(check(quantise, {tiny, scalar(1)}).flushed, 1);
    check(quantise, {tiny, scalar(0x1p-120)});
    const CastStats infinite = check(quantise, {vector(Dtype::f32, {1, -kInf, 2, 3}), scalar(1)});
    EXPECT_EQ(infinite.amax, kInf);
    EXPECT_EQ(infinite.saturated, 0.25f);
    const CastStats nan = check(quantise, {vector(Dtype::bf16, {kInf, kNan, 2}), scalar(1)});
    EXPECT_TRUE(std::isnan(nan.amax));
    EXPECT_TRUE(std::isnan(nan.error));
    for (const BlockQuantise& op : block_quantisers()) {
        SCOPED_TRACE(attributes(op));
        HostTensor x = random_tensor(Dtype::f32, {140, 300}, 2);
        x.values[5000] = kInf;
        const CastStats poisoned = check(as_is(op), {tensor(Dtype::f32, x.type.shape, x.values)});
        EXPECT_TRUE(std::isnan(poisoned.scale_max));
        EXPECT_TRUE(std::isnan(poisoned.error));
    }
}

TEST(MeasureCast, NothingAndOneElement) {
    const HostTensor none = tensor(Dtype::f32, {4, 0}, {});
    expect_stats(check(as_is(Quantise{Dtype::e4m3}), {none, scalar(2)}), {});
    const CastStats one = check(as_is(Quantise{Dtype::e4m3}), {vector(Dtype::f32, {3}), scalar(2)});
    expect_stats(one, {3, 2, 2, 0, 0, 0});
}

TEST(MeasureCast, OnAnyThreadsAndWithinItsMemory) {
    const HostTensor x = wide(Dtype::bf16, {300, 500}, 9);
    const BlockQuantise op{.scaling = {Granularity::micro, Dtype::f32, 32}};
    const auto y = run(as_is(op), {x})[0];
    expect_same_on_any_threads(as_is(MeasureCast{}), {x, y});
    for_each_kernel(MeasureCast{}, {x, y}, [&](const std::vector<HostTensor>& out) {
        expect_stats(stats_of(out[0]), oracle(x, y));
    });
}

TEST(MeasureCast, RefusesWhatIsNoCast) {
    const Build op = as_is(MeasureCast{});
    EXPECT_EQ(refusal(op, {{Dtype::f32, {4}}, {Dtype::bf16, {4}}}),
              "measure_cast: operand 1 must hold e4m3 or e5m2 codes, got bf16[4]");
    EXPECT_NE(refusal(op, {{Dtype::f32, {4}}, {Dtype::e4m3, {5}}}), "accepted");
    EXPECT_NE(refusal(op, {{Dtype::e4m3, {4}}, {Dtype::e4m3, {4}}}), "accepted");
}

}  // namespace
}  // namespace octavo::test
