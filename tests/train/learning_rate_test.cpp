#include "train/learning_rate.h"

#include "io/scratch.h"

namespace octavo {
namespace {

RunConfig::Train config(const std::string& schedule) {
    RunConfig::Train c;
    c.steps = 100;
    c.lr = 2.0;
    c.min_lr_ratio = 0.1;
    c.schedule = schedule;
    c.warmup_steps = 10;
    c.decay_fraction = 0.2;
    return c;
}

constexpr const char* kSchedules[] = {"cosine", "linear", "wsd", "constant"};

TEST(LearningRate, WarmsUpLinearlyToThePeak) {
    for (const char* schedule : kSchedules) {
        const RunConfig::Train c = config(schedule);
        for (int step = 1; step <= 10; ++step) {
            EXPECT_DOUBLE_EQ(learning_rate(c, step), 0.2 * step) << schedule;
        }
    }
}

TEST(LearningRate, ArrivesAtTheFloorOnTheLastStep) {
    for (const char* schedule : {"cosine", "linear", "wsd"}) {
        EXPECT_NEAR(learning_rate(config(schedule), 100), 0.2, 1e-12) << schedule;
    }
    EXPECT_EQ(learning_rate(config("constant"), 100), 2.0);
}

TEST(LearningRate, FollowsItsShape) {
    EXPECT_NEAR(learning_rate(config("cosine"), 55), 1.1, 1e-12);  // half way
    EXPECT_NEAR(learning_rate(config("cosine"), 40), 0.2 + 1.8 * 0.75, 1e-12);
    EXPECT_NEAR(learning_rate(config("linear"), 55), 1.1, 1e-12);
    EXPECT_NEAR(learning_rate(config("linear"), 28), 2 - 1.8 * 0.2, 1e-12);
    EXPECT_EQ(learning_rate(config("wsd"), 80), 2.0);
    EXPECT_NEAR(learning_rate(config("wsd"), 90), 1.1, 1e-12);
}

TEST(LearningRate, NeverRisesAfterWarmUp) {
    for (const char* schedule : kSchedules) {
        const RunConfig::Train c = config(schedule);
        for (int step = 11; step <= 100; ++step) {
            EXPECT_LE(learning_rate(c, step), learning_rate(c, step - 1)) << schedule << step;
        }
    }
}

TEST(LearningRate, WithoutWarmUp) {
    for (const char* schedule : kSchedules) {
        RunConfig::Train c = config(schedule);
        c.warmup_steps = 0;
        const double first = learning_rate(c, 1);
        EXPECT_LE(first, 2.0);
        EXPECT_GT(first, 1.95);
    }
}

TEST(LearningRate, EdgesStayBetweenZeroAndThePeak) {
    for (const char* schedule : kSchedules) {
        for (const std::int64_t steps : {1, 2, 5}) {
            for (std::int64_t warmup = 0; warmup <= steps; ++warmup) {
                for (const double decay : {0.0, 0.5, 1.0}) {
                    RunConfig::Train c = config(schedule);
                    c.steps = steps;
                    c.warmup_steps = warmup;
                    c.decay_fraction = decay;
                    for (std::int64_t step = 1; step <= steps; ++step) {
                        EXPECT_GT(learning_rate(c, step), 0);
                        EXPECT_LE(learning_rate(c, step), 2);
                    }
                }
            }
        }
    }
}

TEST(LearningRate, FloorsAtZeroAndAtThePeak) {
    RunConfig::Train c = config("cosine");
    c.min_lr_ratio = 0;
    EXPECT_NEAR(learning_rate(c, 100), 0, 1e-15);
    c.min_lr_ratio = 1;
    EXPECT_EQ(learning_rate(c, 60), 2);
}

TEST(LearningRate, NamesAnUnknownSchedule) {
    EXPECT_EQ(error_of([] { learning_rate(config("step"), 50); }),
              "train.schedule: expected cosine, linear, wsd or constant, got 'step'");
}

}  // namespace
}  // namespace octavo
