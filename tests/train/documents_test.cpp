// Loss masks and documents in whole models: what is masked counts for nothing, and documents packed
// into one sequence are what they are alone.
#include <gtest/gtest.h>

#include "train/golden.h"
#include "train/tiny.h"

namespace octavo::test {
namespace {

using Ids = std::vector<std::int32_t>;

// f32 throughout: what is left are the orders of sums, and on a GPU other products.
double tolerance() { return on_cuda() ? 1e-3 : 2e-5; }

struct Gradients {
    double loss = 0;
    std::map<std::string, std::vector<float>> of;
};

Gradients gradients(Session& s) {
    Gradients g{s.program.loss(), {}};
    for (const Parameter& p : parameters(s.program.options().architecture)) {
        g.of[p.name] = read_f32(s.state(), gradient_name(p.name));
    }
    return g;
}

void add(Gradients& sum, const Gradients& g) {
    sum.loss += g.loss;
    for (const auto& [name, values] : g.of) {
        auto& into = sum.of[name];
        into.resize(values.size());
        for (std::size_t i = 0; i < values.size(); ++i) into[i] += values[i];
    }
}

void expect_same(const Gradients& got, const Gradients& want) {
    EXPECT_NEAR(got.loss, want.loss, tolerance() * std::abs(want.loss));
    for (const auto& [name, values] : want.of) {
        EXPECT_LT(relative_error(got.of.at(name), values), tolerance()) << name;
    }
}

struct ModelCase {
    Family family;
    bool fuse;
};
void PrintTo(const ModelCase& c, std::ostream* os) {
    *os << name(c.family) << (c.fuse ? "" : ", not fused");
}

class Documents : public testing::TestWithParam<ModelCase> {
  protected:
    StepOptions options(std::int64_t batch, std::int64_t seq) const {
        StepOptions o = tiny_options(GetParam().family, "fp32");
        o.batch = batch;
        o.seq = seq;
        o.fuse = GetParam().fuse;
        return o;
    }
};

TEST_P(Documents, PackedAreWhatTheyAreAlone) {
    constexpr float kWeight = 0.1f;
    const Ids first{3, 17, 9, 33, 3, 8, 60}, second{17, 4, 5, 60, 33, 9, 9, 1, 2, 12};
    Gradients want;
    for (const Ids& document : {first, second}) {
        const auto seq = std::ssize(document) - 1;
        Session alone(options(1, seq));
        alone.program.micro({document.data(), document.size() - 1},
                            {document.data() + 1, document.size() - 1}, kWeight, true);
        add(want, gradients(alone));
    }

    // 7 + 10 tokens are 16 inputs. A second row has the same documents in the other order.
    StepOptions o = options(2, 16);
    o.documents = true;
    Session packed(o);
    Ids ids, targets, starts, positions;
    for (const auto& [a, b] : {std::pair(first, second), std::pair(second, first)}) {
        Ids row = a;
        row.insert(row.end(), b.begin(), b.end());
        for (std::size_t i = 0; i + 1 < row.size(); ++i) {
            const std::size_t start = i < a.size() ? 0 : a.size();
            ids.push_back(row[i]);
            targets.push_back(i + 1 == a.size() ? -1 : row[i + 1]);
            starts.push_back(static_cast<std::int32_t>(start));
            positions.push_back(static_cast<std::int32_t>(i - start));
        }
    }
    packed.program.micro(ids, targets, kWeight / 2, true, {starts, positions});
    expect_same(gradients(packed), want);
    EXPECT_NEAR(packed.program.evaluate(ids, targets, kWeight / 2, {starts, positions}), want.loss,
                tolerance() * want.loss);

    // Without the masks, the second document would see the first.
    Session mixed(options(2, 16));
    mixed.program.micro(ids, targets, kWeight / 2, true);
    EXPECT_GT(std::abs(mixed.program.loss() - want.loss), 1e-4);
    EXPECT_THROW(packed.program.micro(ids, targets, 1, true), Error);
}

// A mask and its complement add up to the whole.
TEST_P(Documents, MaskedTargetsCountForNothing) {
    const StepOptions o = options(2, 16);
    const TokenBatch batch = random_batch(o, 7);
    const auto run = [&](const Ids& targets) {
        Session s(o);
        s.program.micro(batch.ids, targets, 0.05f, true);
        EXPECT_NEAR(s.program.evaluate(batch.ids, targets, 0.05f), s.program.loss(), 1e-5);
        return gradients(s);
    };
    Ids some = batch.targets, others = batch.targets;
    for (std::size_t i = 0; i < some.size(); ++i) (i % 3 == 0 ? some : others)[i] = -1;
    Gradients sum = run(some);
    EXPECT_GT(sum.loss, 0);
    add(sum, run(others));
    expect_same(sum, run(batch.targets));

    const Gradients none = run(Ids(batch.targets.size(), -1));
    EXPECT_EQ(none.loss, 0);
    for (const auto& [name, values] : none.of) {
        for (const float x : values) ASSERT_EQ(x, 0) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Documents,
                         testing::Values(ModelCase{Family::llama, true},
                                         ModelCase{Family::llama, false},
                                         ModelCase{Family::qwen3, true},
                                         ModelCase{Family::gpt2, true}));

}  // namespace
}  // namespace octavo::test
