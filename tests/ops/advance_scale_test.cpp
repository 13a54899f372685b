#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct DelayedState {
    std::vector<double> history;
    double counter, scale;
};

DelayedState advance(const DelayedState& s, const ScaleRule& rule = {}) {
    const auto out = run(as_is(AdvanceScale{rule}),
                         {vector(Dtype::f32, s.history), count(s.counter), scalar(s.scale)});
    return {out[0].values, out[1].values[0], out[2].values[0]};
}

TEST(AdvanceScale, TakesTheMaximumOverTheWindowAndShifts) {
    const DelayedState s = advance({{1, 2, 8, 4}, 5, 1});
    EXPECT_EQ(s.history, (std::vector<double>{0, 1, 2, 8}));
    EXPECT_EQ(s.counter, 6);
    EXPECT_EQ(s.scale, 0x1p-5);
    EXPECT_EQ(advance({{1, 2, 8, 4}, 0, 1}, {Dtype::e4m3, ScaleRounding::exact}).scale,
              8.0f / 448.0f);
}

TEST(AdvanceScale, AWindowOfOne) {
    const DelayedState s = advance({{3}, 0, 1});
    EXPECT_EQ(s.history, std::vector<double>{0});
    EXPECT_EQ(s.counter, 1);
    EXPECT_EQ(s.scale, 0x1p-7);
}

TEST(AdvanceScale, LongWindows) {
    for (const std::size_t slots : {31, 32, 33, 64, 65, 1000}) {
        std::vector<double> history(slots), shifted(slots, 0);
        for (std::size_t i = 0; i < slots; ++i)
            history[i] = 1 + static_cast<double>(i * 37 % slots);
        for (std::size_t i = 1; i < slots; ++i) shifted[i] = history[i - 1];
        for (const std::size_t largest : {std::size_t{0}, slots / 2, slots - 1}) {
            std::vector<double> now = history, next = shifted;
            now[largest] = 0x1p20;
            if (largest + 1 < slots) next[largest + 1] = 0x1p20;
            const DelayedState s = advance({now, 3, 1});
            EXPECT_EQ(s.history, next) << slots;
            EXPECT_EQ(s.scale, 0x1p12);
            expect_same_in_place(AdvanceScale{}, {vector(Dtype::f32, now), count(3), scalar(0.25)});
        }
    }
}

TEST(AdvanceScale, ANonFiniteStepCountsAsZeroAndStartsOver) {
    for (double amax : {kInf, kNan}) {
        const DelayedState s = advance({{amax, 1, 2}, 40, 7});
        EXPECT_EQ(s.history, (std::vector<double>{0, 0, 1}));
        EXPECT_EQ(s.counter, 0);
        EXPECT_EQ(s.scale, 0x1p-7);
        EXPECT_EQ(advance({{amax, 0, 0}, 40, 7}).scale, 7);
    }
}

TEST(AdvanceScale, NothingSeenKeepsTheScale) {
    const DelayedState s = advance({{0, 0}, 3, 0.7f});
    EXPECT_EQ(s.scale, 0.7f);
    EXPECT_EQ(s.counter, 4);
}

TEST(AdvanceScale, InPlace) {
    for (double newest : {5.0, kInf}) {
        expect_same_in_place(AdvanceScale{},
                             {vector(Dtype::f32, {newest, 2, 8, 4, 1}), count(7), scalar(0.25)});
    }
}

TEST(AdvanceScale, TheCounterDoesNotOverflow) {
    EXPECT_EQ(advance({{1, 1}, 2147483646, 1}).counter, 2147483647);
    EXPECT_EQ(advance({{1, 1}, 2147483647, 1}).counter, 2147483647);
}

// One optimizer step of one tensor: micro-batches, then the advance.
struct Trainer {
    Build cast;
    std::vector<HostTensor> state = {vector(Dtype::f32, std::vector<double>(16)), count(0),
                                     scalar(1)};
    std::vector<double> used = {};  // k of the last step's micro-batches

    void step(const std::vector<double>& amaxes) {
        used.clear();
        for (double amax : amaxes) {
            // The largest element last, so that no early exit could hide.
            const HostTensor x = vector(Dtype::bf16, {0.25 * amax, -amax});
            const auto out = run(cast, {x, state[0], state[1], state[2]});
            state[0] = out[1];
            used.push_back(1 / out[2].values[0]);
        }
        state = run(as_is(AdvanceScale{}), state);
    }
};

class DelayedWindow : public testing::TestWithParam<bool> {
  protected:
    Trainer trainer_{GetParam() ? as_is(DelayedQuantise{}) : decomposed(DelayedQuantise{})};
};

// V2 of the golden vectors of FP8-LM.
TEST_P(DelayedWindow, GoldenTrajectory) {
    const auto want = [](int step) { return step >= 18 && step <= 33 ? 0x1p5 : 0x1p8; };
    for (int step = 1; step <= 75; ++step) {
        SCOPED_TRACE(step);
        const bool just_in_time = trainer_.state[1].values[0] < 16;
        EXPECT_EQ(just_in_time, step <= 16 || (step >= 41 && step <= 56));
        trainer_.step({step == 17 ? 8 : step == 40 ? kInf : 1});
        EXPECT_EQ(trainer_.used[0], want(step));
    }
}

TEST_P(DelayedWindow, TheSpikeSaturates) {
    for (int step = 1; step <= 16; ++step) trainer_.step({1});
    const HostTensor spike = vector(Dtype::bf16, {8, -1, 0.5});
    const auto out =
        run(trainer_.cast, {spike, trainer_.state[0], trainer_.state[1], trainer_.state[2]});
    EXPECT_EQ(out[0].values, (std::vector<double>{1.75, -1, 0.5}));
}

TEST_P(DelayedWindow, MicroBatchesShareSlotZero) {
    trainer_.step({1, 8, 2});
    EXPECT_EQ(trainer_.used, (std::vector<double>{0x1p8, 0x1p5, 0x1p7}));  // each just in time
    EXPECT_EQ(trainer_.state[0].values[1], 8);
    EXPECT_EQ(trainer_.state[2].values[0], 0x1p-5);
    // One bad micro-batch makes the whole step non-finite, wherever it comes.
    trainer_.step({kNan, 1});
    EXPECT_EQ(trainer_.state[1].values[0], 0);
    trainer_.step({1, kInf});
    EXPECT_EQ(trainer_.state[1].values[0], 0);
    EXPECT_EQ(trainer_.state[0].values[1], 0);
    EXPECT_EQ(trainer_.state[2].values[0], 0x1p-5);
}

// A tensor of zeros (an expert without tokens) or a non-finite one keeps k on the just-in-time
// path.
TEST_P(DelayedWindow, UnusableTensorsKeepTheScale) {
    trainer_.step({4});
    for (double amax : {0.0, kInf, kNan}) {
        trainer_.step({amax});
        EXPECT_EQ(trainer_.used[0], 0x1p6) << amax;
    }
}

INSTANTIATE_TEST_SUITE_P(Forms, DelayedWindow, testing::Bool(),
                         [](const auto& form) { return form.param ? "Fused" : "Decomposed"; });

}  // namespace
}  // namespace octavo::test
