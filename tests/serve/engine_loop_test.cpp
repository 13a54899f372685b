#include "serve/engine_loop.h"

#include <gtest/gtest.h>

#include "client.h"
#include "fake_engine.h"

namespace octavo {
namespace {

using std::chrono::milliseconds;

TextRequest request(std::int64_t max_tokens = 100) {
    return {.prompt = {'a'}, .max_tokens = max_tokens};
}

std::unique_ptr<Job> submit(EngineLoop& loop, std::vector<TextRequest> texts) {
    auto job = loop.reserve(std::ssize(texts));
    if (job) job->start(std::move(texts));
    return job;
}

std::string text_of(Job& job, std::size_t texts) {
    std::string out;
    while (texts > 0) {
        const auto event = job.next(milliseconds(10000));
        if (!event) return out + " (nothing came)";
        if (event->finish == Finish::failed) return event->error;
        if (event->finish != Finish::stop) out += static_cast<char>(event->score.token);
        if (event->finish != Finish::none) --texts;
    }
    return out;
}

TEST(EngineLoop, PassesTokensOnByText) {
    FakeControl control;
    EngineLoop loop(std::make_unique<FakeEngine>(control), 8);
    const auto job = submit(loop, {request(), request(2)});
    EXPECT_EQ(text_of(*job, 2), "hheello");
    EXPECT_FALSE(job->next(milliseconds(1)));
    const EngineStats stats = loop.stats();
    EXPECT_EQ(stats.finished, 2);
    EXPECT_EQ(stats.prompt_tokens, 2);
    EXPECT_EQ(stats.generated_tokens, 8);  // and the end of text
    EXPECT_EQ(stats.waiting + stats.running, 0);
}

TEST(EngineLoop, TakesAllTextsOfARequestOrNone) {
    FakeControl control;
    control.hold_after = 0;
    EngineLoop loop(std::make_unique<FakeEngine>(control), 3);
    const auto first = submit(loop, {request(), request()});
    EXPECT_FALSE(submit(loop, {request(), request()}));
    EXPECT_EQ(loop.stats().refused, 2);
    const auto second = submit(loop, {request()});
    ASSERT_TRUE(second);
    EXPECT_EQ(loop.stats().running + loop.stats().waiting, 3);
    control.hold_after = -1;
    EXPECT_EQ(text_of(*first, 2), "hheelllloo");
    EXPECT_TRUE(submit(loop, {request(), request()}));
}

TEST(EngineLoop, RoomIsTakenBeforeTheTextsAreThere) {
    FakeControl control;
    EngineLoop loop(std::make_unique<FakeEngine>(control), 3);
    auto job = loop.reserve(3);
    ASSERT_TRUE(job);
    EXPECT_FALSE(loop.reserve(1));
    EXPECT_THROW(job->start({request(), request(), request(), request()}), Error);
    job->start({request()});
    EXPECT_EQ(text_of(*job, 1), "hello");
    EXPECT_FALSE(loop.reserve(2));
    job.reset();
    EXPECT_TRUE(loop.reserve(3));
}

TEST(EngineLoop, AJobThatEndsIsCancelled) {
    FakeControl control;
    control.hold_after = 2;
    EngineLoop loop(std::make_unique<FakeEngine>(control), 2);
    auto job = submit(loop, {request(), request()});
    ASSERT_TRUE(eventually([&] { return control.steps == 2; }));
    job.reset();
    EXPECT_TRUE(eventually([&] { return control.cancelled == 2; }));
    EXPECT_TRUE(eventually([&] { return loop.stats().cancelled == 2; }));
    control.hold_after = -1;
    job = submit(loop, {request(), request()});
    ASSERT_TRUE(job);
    EXPECT_EQ(text_of(*job, 2), "hheelllloo");
}

TEST(EngineLoop, OneTextOfAJobCanBeCancelled) {
    FakeControl control;
    control.hold_after = 1;
    EngineLoop loop(std::make_unique<FakeEngine>(control), 2);
    const auto job = submit(loop, {request(), request()});
    ASSERT_TRUE(eventually([&] { return control.steps == 1; }));
    job->cancel(0);
    EXPECT_TRUE(eventually([&] { return control.cancelled == 1; }));
    control.hold_after = -1;
    EXPECT_EQ(text_of(*job, 1), "hello");
}

TEST(EngineLoop, ATextThatTheEngineRefusesFailsAlone) {
    FakeControl control;
    EngineLoop loop(std::make_unique<FakeEngine>(control), 2);
    const auto bad = submit(loop, {{.prompt = {'X'}, .max_tokens = 1}}),
               good = submit(loop, {request()});
    EXPECT_EQ(text_of(*bad, 1), "the engine does not like this prompt");
    EXPECT_EQ(text_of(*good, 1), "hello");
    EXPECT_EQ(loop.stats().failed, 1);
    EXPECT_FALSE(loop.failure());
}

TEST(EngineLoop, AFailureEndsAllAndIsRemembered) {
    FakeControl control;
    control.fail_after = 2;
    EngineLoop loop(std::make_unique<FakeEngine>(control), 8);
    const auto job = submit(loop, {request()});
    EXPECT_EQ(text_of(*job, 1), "the device fell off");
    EXPECT_EQ(loop.failure(), "the device fell off");
    EXPECT_THROW(submit(loop, {request()}), Error);
}

}  // namespace
}  // namespace octavo
