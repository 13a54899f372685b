// Scale propagation over whole training steps.
#include <map>

#include <gtest/gtest.h>
#include "train/tiny.h"

namespace octavo {
namespace {

using test::Session;
using test::tiny_options;

// Everything in f32, so that scaling moves no bit.
StepOptions wide(Family family, bool rescale) {
    StepOptions o = tiny_options(family, "scalify");
    o.recipe.compute = Dtype::f32;
    o.recipe.activation = o.recipe.weight = o.recipe.output_grad = std::nullopt;
    o.recipe.propagation->rescale_norms = rescale;
    return o;
}

struct Trained {
    std::vector<float> losses, norms;
    std::map<std::string, std::vector<std::byte>> state;  // weights and moments
};

Trained train(StepOptions o, int steps, int micro_batches) {
    Session s(o, micro_batches > 1);
    Trained t;
    for (int step = 1; step <= steps; ++step) {
        for (int i = 0; i < micro_batches; ++i) {
            const auto seed = static_cast<std::uint64_t>(step * micro_batches + i);
            t.losses.push_back(s.micro(test::random_batch(o, seed), i == 0));
        }
        t.norms.push_back(s.program.update(1e-2, step));
    }
    for (const State::Entry& e : s.state().entries()) {
        const std::string_view role = state_role(e.name);
        if (role == "weight" || role.starts_with("adam")) {
            t.state[e.name] = test::read_all(s.state(), e.name);
        }
    }
    return t;
}

void expect_same(const Trained& a, const Trained& b) {
    EXPECT_EQ(a.losses, b.losses);
    EXPECT_EQ(a.norms, b.norms);
    ASSERT_EQ(a.state.size(), b.state.size());
    for (const auto& [name, bytes] : a.state) EXPECT_TRUE(bytes == b.state.at(name)) << name;
}

class Scalify : public testing::TestWithParam<Family> {};

// S1: in exact arithmetic scales change nothing, and in f32 powers of two are exact.
TEST_P(Scalify, InF32IsF32) {
    for (const int micro_batches : {1, 3}) {
        for (const bool rescale : {false, true}) {
            SCOPED_TRACE(fmt::format("{} micro-batches, rescale {}", micro_batches, rescale));
            StepOptions plain = tiny_options(GetParam(), "fp32"), scaled = wide(GetParam(), rescale);
            plain.fuse = scaled.fuse = false;
            expect_same(train(plain, 6, micro_batches), train(scaled, 6, micro_batches));
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Families, Scalify,
                         testing::Values(Family::llama, Family::qwen2, Family::qwen3,
                                         Family::gpt2));

}  // namespace
}  // namespace octavo
