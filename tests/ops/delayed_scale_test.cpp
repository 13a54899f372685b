#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct Step {
    double used;
    std::vector<double> history;
};

Step step(double amax, const std::vector<double>& history, double counter, double scale,
          const ScaleRule& rule = {}) {
    const auto out = run(as_is(DelayedScale{rule}), {scalar(amax), vector(Dtype::f32, history),
                                                     count(counter), scalar(scale)});
    return {out[0].values[0], out[1].values};
}

TEST(DelayedScale, ComesFromTheTensorWhileTheWindowFills) {
    for (double counter : {0, 1, 3}) {
        const Step s = step(3, {0, 9, 9, 9}, counter, 5);
        EXPECT_EQ(s.used, 0x1p-7) << counter;
        EXPECT_EQ(s.history, (std::vector<double>{3, 9, 9, 9}));
    }
    EXPECT_EQ(step(3, {0, 9}, 0, 5, {Dtype::e5m2, ScaleRounding::exact}).used, 3.0f / 57344.0f);
}

TEST(DelayedScale, IsTheGivenOneOnceTheWindowIsFull) {
    for (double counter : {4, 5, 1000000}) {
        const Step s = step(3, {0, 9, 9, 9}, counter, 5);
        EXPECT_EQ(s.used, 5) << counter;
        EXPECT_EQ(s.history, (std::vector<double>{3, 9, 9, 9}));
    }
}

TEST(DelayedScale, KeepsTheScaleWithoutAUsableAmax) {
    for (double amax : {0.0, 0x1p-130, kInf, kNan}) EXPECT_EQ(step(amax, {0}, 0, 5).used, 5);
}

TEST(DelayedScale, SlotZeroIsTheMaximumOverMicroBatches) {
    EXPECT_EQ(step(2, {3, 7}, 0, 1).history, (std::vector<double>{3, 7}));
    EXPECT_EQ(step(4, {3, 7}, 0, 1).history, (std::vector<double>{4, 7}));
    // Each micro-batch has its own just-in-time scale.
    EXPECT_EQ(step(2, {3, 7}, 0, 1).used, 0x1p-7);
    EXPECT_EQ(step(0, {3, 7}, 0, 1).history, (std::vector<double>{3, 7}));
}

TEST(DelayedScale, InPlace) {
    for (double counter : {0, 2}) {
        expect_same_in_place(DelayedScale{},
                             {scalar(3), vector(Dtype::f32, {1, 7}), count(counter), scalar(0.25)});
    }
}

TEST(DelayedScale, ANonFiniteMicroBatchStaysVisible) {
    for (double amax : {kInf, kNan}) {
        EXPECT_EQ(step(amax, {3, 7}, 9, 1).history, (std::vector<double>{kInf, 7}));
        EXPECT_EQ(step(2, {amax, 7}, 9, 1).history[1], 7);
        EXPECT_FALSE(std::isfinite(step(2, {amax, 7}, 9, 1).history[0]));
    }
}

TEST(DelayedScale, RefusesWrongOperands) {
    const Type one{Dtype::f32, {1}}, history{Dtype::f32, {4}}, counter{Dtype::i32, {1}};
    EXPECT_EQ(refusal(as_is(DelayedScale{}), {one, {Dtype::f32, {0}}, counter, one}),
              "delayed_scale: the history must have at least one slot, got f32[0]");
    EXPECT_EQ(refusal(as_is(DelayedScale{}), {one, history, one, one}),
              "delayed_scale: operand 2 must be unscaled i32, got f32[1]");
    EXPECT_EQ(refusal(as_is(DelayedScale{{Dtype::f32}}), {one, history, counter, one}),
              "delayed_scale: expected a format that takes a scale (e4m3, e5m2 or f16), got f32");
}

}  // namespace
}  // namespace octavo::test
