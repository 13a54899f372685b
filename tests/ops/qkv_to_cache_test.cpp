#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct Case {
    std::int64_t heads, kv_heads, d;
    Dtype dtype = Dtype::bf16;
    bool norms = true, coded = false;

    QkvToCache op() const {
        QkvToCache op{
            .heads = heads, .kv_heads = kv_heads, .rope = {.theta = 1e4, .max_positions = 40}};
        if (norms) op.norm_eps = 1e-6f;
        return op;
    }
    // Three sequences of two tokens, of which one is unused, and pools of nine slots.
    std::vector<HostTensor> operands() const {
        const Shape pool{9, kv_heads, d};
        const Dtype stored = coded ? Dtype::e4m3 : dtype;
        std::vector<HostTensor> in{random_tensor(stored, pool, 1), random_tensor(stored, pool, 2),
                                   random_tensor(dtype, {3, 2, (heads + 2 * kv_heads) * d}, 3, 2),
                                   tensor(Dtype::i32, {3, 2}, {0, 1, 39, -1, 7, 20}),
                                   tensor(Dtype::i32, {3, 2}, {8, 3, 0, -1, 4, 5})};
        if (norms) {
            in.push_back(random_tensor(accumulator(dtype), {d}, 4));
            in.push_back(random_tensor(accumulator(dtype), {d}, 5));
        }
        if (coded) in.insert(in.end(), {scalar(0.0137), scalar(0.025)});
        return in;
    }
};

void PrintTo(const Case& c, std::ostream* os) {
    *os << "H" << c.heads << " G" << c.kv_heads << " D" << c.d << " " << name(c.dtype)
        << (c.norms ? " norms" : "") << (c.coded ? " codes" : "");
}

class QkvToCacheTest : public testing::TestWithParam<Case> {};

TEST_P(QkvToCacheTest, IsNormRopeAndWrite) {
    const Case& c = GetParam();
    const std::vector<HostTensor> in = c.operands();
    const auto got = run(as_is(c.op()), in), want = run(decomposed(c.op()), in);
    ASSERT_EQ(got.size(), 3u);
    for (std::size_t r = 0; r < 3; ++r) {
        SCOPED_TRACE(r);
        EXPECT_EQ(got[r].type, want[r].type);
        // The sum of squares takes another order on the GPU, and may move a rounding.
        const double step = c.coded && r < 2 ? 0x1p-3 : rounding(c.dtype) * 4;
        for (std::size_t i = 0; i < want[r].values.size(); ++i) {
            ASSERT_NEAR(got[r].values[i], want[r].values[i],
                        step * std::abs(want[r].values[i]) + 0x1p-9 * rounding(c.dtype))
                << i;
        }
        std::size_t moved = 0;
        for (std::size_t i = 0; i < want[r].values.size(); ++i) {
            moved += got[r].values[i] != want[r].values[i];
        }
        EXPECT_LE(moved, on_cuda() ? want[r].values.size() / 20 : 0);
    }
}

TEST_P(QkvToCacheTest, WritesPoolsInPlace) {
    const Case& c = GetParam();
    if (c.coded) GTEST_SKIP() << "codes cannot be copied to memory of their own";
    expect_same_in_place(c.op(), c.operands());
}

INSTANTIATE_TEST_SUITE_P(All, QkvToCacheTest,
                         testing::Values(Case{4, 2, 64}, Case{8, 1, 128},
                                         Case{4, 2, 64, Dtype::bf16, false},
                                         Case{4, 4, 128, Dtype::bf16, true, true},
                                         Case{3, 1, 64, Dtype::bf16, false, true}, Case{4, 2, 10},
                                         Case{2, 1, 64, Dtype::f32}, Case{2, 1, 8, Dtype::f64}));

TEST(QkvToCache, RefusesOtherTypes) {
    const Case c{4, 2, 64};
    std::vector<Type> in;
    for (const HostTensor& t : c.operands()) in.push_back(t.type);
    in[2].shape[-1] = 500;
    EXPECT_EQ(refusal(as_is(c.op()), in),
              "qkv_to_cache: 4 + 2 x 2 heads do not make up the columns of bf16[3, 2, 500]");
}

}  // namespace
}  // namespace octavo::test
