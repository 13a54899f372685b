#include "train/state_rescale.h"

#include <cmath>

#include "base/rng.h"
#include "io/safetensors.h"
#include "io/scratch.h"
#include "train/checkpoint.h"
#include "train/tiny.h"

namespace octavo {
namespace {

TEST(StateRescale, SizesAreOfAllValues) {
    EXPECT_EQ(tensor_size({}).l2, 0);
    EXPECT_EQ(tensor_size({}).amax, 0);
    const std::vector<float> few{3, -4, 0, 0};
    EXPECT_EQ(tensor_size(few).l2, 2.5);
    EXPECT_EQ(tensor_size(few).amax, 4);
    // Many chunks, and a part of one; squares leave f32.
    std::vector<float> many(200'001, 0x1p-80f);
    EXPECT_EQ(tensor_size(many).l2, 0x1p-80);
    many.back() = -1;
    EXPECT_DOUBLE_EQ(tensor_size(many).l2, std::sqrt(1 / 200'001.0));
    EXPECT_EQ(tensor_size(many).amax, 1);
}

TEST(StateRescale, ExponentsAreOfTheLargestPowerUpToTheSize) {
    const auto e = [](double l2, int old) {
        return rescaled_exponent({l2, static_cast<float>(l2)}, Dtype::f16, old);
    };
    EXPECT_EQ(e(2.1, 0), 1);
    EXPECT_EQ(e(2, 0), 1);
    EXPECT_EQ(e(std::nextafter(2.0, 0.0), 0), 0);
    EXPECT_EQ(e(0.3, 0), -2);
    EXPECT_EQ(e(0.02, 3), -6);
    // Not more than 2^14 at a time on the way down, and nothing without a size.
    EXPECT_EQ(e(0x1p-20, 0), -14);
    EXPECT_EQ(e(0x1p-20, -14), -20);
    EXPECT_EQ(e(0x1p+20, 0), 20);
    EXPECT_EQ(e(0, -6), -6);
    EXPECT_EQ(e(std::nan(""), -6), -6);
    EXPECT_EQ(e(INFINITY, -6), -6);
    EXPECT_EQ(e(0x1p-60, -35), -40);
    EXPECT_EQ(e(0x1p+60, 0), 40);
}

// What is far larger than the rest stays finite where the format has room for it alone.
TEST(StateRescale, TheLargestValueFits) {
    const TensorSize spiked{1, 1000};
    EXPECT_EQ(rescaled_exponent(spiked, Dtype::f32, 0), 0);
    EXPECT_EQ(rescaled_exponent(spiked, Dtype::f16, 0), 0);
    EXPECT_EQ(rescaled_exponent(spiked, Dtype::e4m3, 0), 2);  // 250 of 448
    EXPECT_EQ(rescaled_exponent({1, 65504}, Dtype::f16, 0), 0);
    EXPECT_EQ(rescaled_exponent({1, 65536}, Dtype::f16, 0), 1);
}

TEST(StateRescale, ExponentsAreTextAndBack) {
    const Exponents exponents{{"model.layers.0.mlp.up_proj.weight", -7}, {"model.norm.weight", 2}};
    const std::string text = to_text(exponents);
    EXPECT_EQ(text, "model.layers.0.mlp.up_proj.weight=-7,model.norm.weight=2");
    EXPECT_EQ(exponents_in({{kExponents, text}}), exponents);
    EXPECT_EQ(exponents_in({}), Exponents{});
    EXPECT_EQ(exponents_in({{kExponents, ""}}), Exponents{});
    for (const std::string wrong : {"a", "a=", "a=x", "a=1x", "a=41", "a=-41", "a=1,b"}) {
        EXPECT_TRUE(contains(error_of([&] { exponents_in({{kExponents, wrong}}); }),
                             "weight_exponents: expected name=exponent, got '"))
            << wrong;
    }
}

StepOptions options_of_run(int run, Family family = Family::llama) {
    StepOptions o = test::tiny_options(family, "scalify");
    set_scalify_run(o.recipe, run);
    return o;
}

const std::string kLinear = "model.layers.0.mlp.up_proj.weight";

// Initial weights have the sizes that they were said to have; biases are zeros and have none.
TEST(StateRescale, FreshWeightsStayWhereTheyAre) {
    for (const Family family : {Family::llama, Family::qwen2, Family::gpt2}) {
        test::Session s(options_of_run(3, family));
        EXPECT_EQ(rescale_weights(s.state(), s.program.options()), Exponents{}) << name(family);
    }
}

TEST(StateRescale, ValuesOfMastersStay) {
    test::Session s(options_of_run(3));
    for (const auto& [factor, exponent] : {std::pair{150.0f, 1}, {0x1p-6f, -12}, {0x1p-18f, -20}}) {
        std::vector<float> values = read_values(s.state(), kLinear);
        for (float& v : values) v *= factor;
        write_values(s.state(), kLinear, values);  // under the exponent of its initialisation, -6
        const std::vector<float> before = read_values(s.state(), kLinear);
        const Exponents found = rescale_weights(s.state(), s.program.options());
        ASSERT_EQ(found.size(), 1u);
        EXPECT_EQ(found.at(kLinear), exponent);
        EXPECT_EQ(*tensor_at(s.state().at(kLinear).type, test::read_all(s.state(), kLinear).data())
                       .scales(),
                  std::ldexp(1.0f, exponent));
        const std::vector<float> after = read_values(s.state(), kLinear);
        // Half of the smallest f16, where data shrinks; no bit where it grows.
        const float lost = exponent > -6 ? std::ldexp(0x1p-25f, exponent) : 0;
        for (std::size_t i = 0; i < after.size(); ++i) {
            ASSERT_NEAR(after[i], before[i], lost) << i;
        }
        test::Session fresh(options_of_run(3));
        write_values(s.state(), kLinear, read_values(fresh.state(), kLinear));
    }
}

TEST(StateRescale, MomentsAreMeasuredAndBoundedByThat) {
    StepOptions o = options_of_run(4);
    o.adamw.v_floor = true;
    test::Session s(o);
    const std::string m = "adam.m/" + kLinear, v = "adam.v/" + kLinear;
    const std::string bounds = moment_bounds_name(kLinear);
    const std::size_t n = 96 * 32;
    // Bounds that are far off: m is 2^-5 of its own, v 2^9 times, and one v is the smallest code.
    std::vector<float> first(n, -3 * 0x1p-15f), second(n, 3 * 0x1p-11f);
    second[7] = 0x1p-44f;
    second[8] = 0;
    write_values_under(s.state(), m, first, -9);
    write_values_under(s.state(), v, second, -20);
    const float old[] = {1.5f * 0x1p-9f, 0x1p-20f};
    s.state().write(bounds, old);
    rescale_moments(s.state(), s.program.options());
    const auto scale = [&](const std::string& name) {
        return *tensor_at(s.state().at(name).type, test::read_all(s.state(), name).data()).scales();
    };
    EXPECT_EQ(scale(m), 0x1p-14f);
    EXPECT_EQ(scale(v), 0x1p-10f);
    EXPECT_EQ(read_values(s.state(), m), first);
    // No v > 0 is lost, zeros stay.
    second[7] = 0x1p-34f;
    EXPECT_EQ(read_values(s.state(), v), second);
    const std::vector<float> now = test::read_f32(s.state(), bounds);
    EXPECT_EQ(now[0], 1.5f * 0x1p-14f);
    EXPECT_NEAR(now[1], 1.5f * 0x1p-10f, 0x1p-20f);
    // Moments that were never written have no size.
    const std::string other = "adam.m/model.layers.1.mlp.up_proj.weight";
    EXPECT_EQ(scale(other), 1);
}

// A power of two holds what it is the power of, whichever way its f32 is rounded.
TEST(StateRescale, BoundsBelongToTheirScales) {
    test::Session s(options_of_run(4));
    const std::string m = "adam.m/" + kLinear, bounds = moment_bounds_name(kLinear);
    std::vector<float> values(96 * 32, 2);
    values[5] = 2.828125f;  // their squares make a little less than 8: the l2 is 2 in f32 alone
    values[6] = 1353 * 0x1p-15f;
    write_values_under(s.state(), m, values, 3);
    const float old[] = {8, 0};
    s.state().write(bounds, old);
    rescale_moments(s.state(), s.program.options());
    const std::vector<float> now = test::read_f32(s.state(), bounds);
    EXPECT_EQ(now[0], std::nextafter(2.0f, 0.0f));
    EXPECT_EQ(now[1], 0);
}

// Model files have values, whatever the scales; a run that measures takes over State of one that
// does not, and another recipe the values of either.
TEST(StateRescale, CheckpointsAreOfValues) {
    const Scratch scratch;
    StepOptions still = options_of_run(3), moves = still;
    moves.recipe.propagation->state_rescale = 2;
    test::Session plain(still), rescaled(moves);
    for (test::Session* s : {&plain, &rescaled}) {
        for (int t = 1; t <= 4; ++t) {
            s->micro(test::random_batch(still, static_cast<std::uint64_t>(t)));
            s->program.update(2e-2, t);
        }
    }
    const Exponents exponents = rescaled.program.exponents();
    ASSERT_TRUE(exponents.contains(kLinear));
    CheckpointInfo info;
    info.step = 4;
    const auto from = save_checkpoint(scratch / "plain", plain.state(), info, {});
    const auto to = save_checkpoint(scratch / "rescaled", rescaled.state(), info, {});
    const SafetensorsModel model(to);
    const std::vector<float> values = read_values(rescaled.state(), kLinear);
    EXPECT_TRUE(std::ranges::equal(model.at(kLinear).bytes, std::as_bytes(std::span(values))));

    std::vector<std::string> converted;
    test::Session goes_on(moves);
    load_checkpoint(from, goes_on.state(), Verify::contents, &converted);
    EXPECT_EQ(converted, std::vector<std::string>{});
    EXPECT_EQ(test::read_all(goes_on.state(), kLinear), test::read_all(plain.state(), kLinear));

    test::Session resumed(moves);
    resumed.program.set_exponents(exponents);
    load_checkpoint(to, resumed.state(), Verify::contents, &converted);
    EXPECT_EQ(converted, std::vector<std::string>{});
    const test::TokenBatch batch = test::random_batch(moves, 9);
    EXPECT_EQ(resumed.micro(batch), rescaled.micro(batch));

    test::Session other(test::tiny_options(Family::llama, "bf16"));
    load_checkpoint(to, other.state(), Verify::contents, &converted);
    EXPECT_NE(converted, std::vector<std::string>{});
    EXPECT_EQ(read_values(other.state(), kLinear), values);
}

}  // namespace
}  // namespace octavo
