#include "ops/plain_test.h"

namespace octavo::test {
namespace {

void check_case(Dtype dtype, std::int64_t tokens, std::int64_t vocab, std::int64_t c) {
    SCOPED_TRACE(fmt::format("{} tokens of {}, {}[{}]", tokens, vocab, name(dtype), c));
    const HostTensor dy = random_tensor(dtype, {tokens, c}, 1);
    const HostTensor ids = random_ids({tokens}, vocab, 2);
    std::vector<double> want(static_cast<std::size_t>(vocab * c)), sizes(want.size());
    for (std::size_t i = 0; i < dy.values.size(); ++i) {
        const auto columns = static_cast<std::size_t>(c);
        const std::size_t at = static_cast<std::size_t>(ids.values[i / columns]) * columns;
        want[at + i % columns] += dy.values[i];
        sizes[at + i % columns] += std::abs(dy.values[i]);
    }
    const auto dtable = run(as_is(EmbeddingGrad{vocab}), {dy, ids})[0];
    EXPECT_EQ(dtable.type, (Type{accumulator(dtype), {vocab, c}}));
    ASSERT_EQ(dtable.values.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
        EXPECT_NEAR(dtable.values[i], want[i],
                    static_cast<double>(tokens) * rounding(accumulator(dtype)) * sizes[i]);
    }
}

TEST(EmbeddingGrad, MatchesTheOracle) {
    for (Dtype dtype : kPlainDtypes) {
        check_case(dtype, 1, 1, 1);
        check_case(dtype, 0, 3, 5);
        check_case(dtype, 7, 100, 3);
        check_case(dtype, 301, 5, 67);
        check_case(dtype, 500, 3, 72);
    }
}

TEST(EmbeddingGrad, AddsToItsAccumulator) {
    const HostTensor dy = tensor(Dtype::f32, {3, 2}, {1, 2, 3, 4, 5, 6});
    const HostTensor ids = tensor(Dtype::i32, {3}, {1, -1, 1});
    const HostTensor acc = tensor(Dtype::f32, {2, 2}, {10, 20, 30, 40});
    const auto dtable = run(as_is(EmbeddingGrad{2}), {dy, ids, acc})[0];
    EXPECT_EQ(dtable.values, (std::vector<double>{10, 20, 36, 48}));
}

TEST(EmbeddingGrad, SameOnAnyThreads) {
    expect_same_on_any_threads(as_is(EmbeddingGrad{11}), {random_tensor(Dtype::f32, {999, 133}, 1),
                                                          random_ids({999}, 11, 2)});
}

TEST(EmbeddingGrad, RefusesIdsOfAnotherShape) {
    EXPECT_EQ(refusal(as_is(EmbeddingGrad{9}), {{Dtype::f32, {2, 3, 4}}, {Dtype::i32, {3, 2}}}),
              "embedding_grad: operand 1 must have shape [2, 3], got i32[3, 2]");
    EXPECT_EQ(refusal(as_is(EmbeddingGrad{9}), {{}, {Dtype::i32, {}}}),
              "embedding_grad: operand 0 must have a last dimension, got f32[]");
}

}  // namespace
}  // namespace octavo::test
