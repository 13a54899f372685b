// What one spike in the result of a SwiGLU does to the down projection, by how its input is
// quantised (arXiv 2409.12517).
#include "ops/op_test.h"
#include "recipes/scales.h"

namespace octavo {
namespace {

using test::HostTensor;

constexpr std::int64_t kTokens = 256, kChannels = 1024, kOutputs = 64;
constexpr std::size_t kToken = 100, kChannel = 500;  // where the spike is

struct Spiked {
    HostTensor gate, up;            // with the spike
    HostTensor past_gate, past_up;  // as steps before it were
};

Spiked spiked(double z) {
    Spiked s{test::random_tensor(Dtype::f32, {kTokens, kChannels}, 1, 0.5),
             test::random_tensor(Dtype::f32, {kTokens, kChannels}, 2, 0.5),
             {},
             {}};
    s.past_gate = s.gate;
    s.past_up = s.up;
    for (HostTensor* t : {&s.gate, &s.up}) {
        std::vector<double> x = t->values;
        x[kToken * kChannels + kChannel] = z;
        *t = test::tensor(Dtype::f32, t->type.shape, x);
    }
    return s;
}

struct Quantiser {
    std::string name;
    std::optional<Axis> smooth{};
    bool delayed = false;
    bool rows = false;  // a scale for each row of the product itself
};

// What the quantiser decodes to, after factors are multiplied back, and what it was before.
struct Decoded {
    std::vector<double> values, exact;
    double flushed = 0;  // share of non-zero elements
};

Decoded decode(const Quantiser& q, const Spiked& s) {
    const auto build = [&](Builder& b, const Values& in) {
        Values now{b.one(SwiGlu{}, {in[0], in[1]})}, past{b.one(SwiGlu{}, {in[2], in[3]})};
        const Value exact = now[0];
        if (q.smooth) {
            now = b.emit(SmoothSwiGlu{*q.smooth}, {in[0], in[1]});
            past = b.emit(SmoothSwiGlu{*q.smooth}, {in[2], in[3]});
        }
        Format format;
        if (q.rows) format = {.granularity = Granularity::row, .rounding = ScaleRounding::exact};
        const Value amax = b.one(Amax{}, {q.delayed ? past[0] : now[0]});
        const Value scale = emit_scale(b, format, amax, b.constant({Dtype::f32, {1}}, 1));
        const Value codes =
            q.rows ? emit_blocks(b, format, now[0]) : b.one(Quantise{}, {now[0], scale});
        Value decoded = codes;
        if (!q.rows) decoded = b.one(Dequantise{Dtype::f32}, {codes});
        if (q.smooth) decoded = b.one(ScaleAlong{*q.smooth}, {decoded, now[1]});
        return Values{decoded, exact};
    };
    const auto out = test::run(build, {s.gate, s.up, s.past_gate, s.past_up});
    Decoded d{out[0].values, out[1].values, 0};
    for (std::size_t i = 0; i < d.values.size(); ++i) {
        d.flushed += (d.exact[i] != 0 && d.values[i] == 0) / static_cast<double>(d.values.size());
    }
    return d;
}

// |error| / |output| of the down projection: of the token with the spike, and of all others.
std::pair<double, double> output_errors(const Decoded& d) {
    const HostTensor w = test::random_tensor(Dtype::f32, {kOutputs, kChannels}, 3, 0.02);
    double error[2] = {}, output[2] = {};
    for (std::size_t t = 0; t < kTokens; ++t) {
        for (std::size_t o = 0; o < kOutputs; ++o) {
            double got = 0, want = 0;
            for (std::size_t c = 0; c < kChannels; ++c) {
                got += d.values[t * kChannels + c] * w.values[o * kChannels + c];
                want += d.exact[t * kChannels + c] * w.values[o * kChannels + c];
            }
            const std::size_t k = t == kToken ? 0 : 1;
            error[k] += (got - want) * (got - want);
            output[k] += want * want;
        }
    }
    return {std::sqrt(error[0] / output[0]), std::sqrt(error[1] / output[1])};
}

struct Row {
    Quantiser quantiser;
    double z, spike, others, flushed;
};
void PrintTo(const Row& row, std::ostream* out) { *out << row.quantiser.name << " " << row.z; }

class SpikeQuantiser : public testing::TestWithParam<Row> {};

// Within a fifth where the expected value is more than a thousandth.
void expect_about(double got, double want, const char* what) {
    if (want > 1e-3) {
        EXPECT_NEAR(got, want, 0.2 * want) << what;
    } else {
        EXPECT_LT(got, 2e-3) << what;
    }
}

TEST_P(SpikeQuantiser, DoesTo) {
    const Row& want = GetParam();
    const Decoded d = decode(want.quantiser, spiked(want.z));
    const auto [spike, others] = output_errors(d);
    expect_about(spike, want.spike, "the token with the spike");
    expect_about(others, want.others, "other tokens");
    expect_about(d.flushed, want.flushed, "flushed");
}

const Quantiser kPlainDelayed{.name = "PlainDelayed", .delayed = true};
const Quantiser kPlainCurrent{.name = "PlainCurrent"};
const Quantiser kTokenDelayed{.name = "TokenDelayed", .smooth = Axis::row, .delayed = true};
const Quantiser kChannelDelayed{.name = "ChannelDelayed", .smooth = Axis::column, .delayed = true};
const Quantiser kTokenCurrent{.name = "TokenCurrent", .smooth = Axis::row};
const Quantiser kChannelCurrent{.name = "ChannelCurrent", .smooth = Axis::column};
const Quantiser kRows{.name = "Rows", .rows = true};

INSTANTIATE_TEST_SUITE_P(
    Table, SpikeQuantiser,
    testing::Values(
        Row{kPlainDelayed, 30, 0.996, 0.026, 0.0004}, Row{kPlainDelayed, 100, 1.00, 0.026, 0.0004},
        Row{kPlainCurrent, 30, 0.005, 0.029, 0.093}, Row{kPlainCurrent, 100, 0.024, 0.128, 0.41},
        Row{kTokenDelayed, 30, 0.94, 0.026, 0.0004}, Row{kTokenDelayed, 100, 0.98, 0.026, 0.0005},
        Row{kChannelDelayed, 30, 0.94, 0.026, 0.0004},
        Row{kChannelDelayed, 100, 0.98, 0.026, 0.0005}, Row{kTokenCurrent, 30, 0.005, 0.026, 0.010},
        Row{kTokenCurrent, 100, 0.024, 0.026, 0.019}, Row{kChannelCurrent, 30, 0.005, 0.026, 0.010},
        Row{kChannelCurrent, 100, 0.024, 0.026, 0.017}, Row{kRows, 30, 0.0001, 0.026, 0.0003},
        Row{kRows, 100, 0.0, 0.025, 0.0014}),
    [](const auto& test) {
        return fmt::format("{}_{}", test.param.quantiser.name, static_cast<int>(test.param.z));
    });

}  // namespace
}  // namespace octavo
