#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct Case {
    Shape shape;
    BlockQuantise quantise{};
    Dtype dtype = Dtype::bf16;

    RmsNormQuantise op() const { return {1e-5f, quantise}; }
    std::vector<HostTensor> operands() const {
        return {random_tensor(dtype, shape, 1, 3),
                random_tensor(accumulator(dtype), {shape.last()}, 2)};
    }
};

void PrintTo(const Case& c, std::ostream* os) {
    *os << to_string(Type{c.dtype, c.shape}) << " -> " << name(c.quantise.to) << " "
        << to_string(c.quantise.scaling);
}

class RmsNormQuantiseTest : public testing::TestWithParam<Case> {};

// Whose own tests have an oracle.
TEST_P(RmsNormQuantiseTest, HasTheBitsOfTheQuantisedNorm) {
    const Case& c = GetParam();
    const std::vector<HostTensor> in = c.operands();
    const auto apart = [&](Builder& b, const Values& v) -> Values {
        return b.emit(c.quantise, {b.emit(RmsNorm{1e-5f}, v)[0]});
    };
    expect_identical(run(as_is(c.op()), in)[0], run(apart, in)[0]);
    expect_identical(run(decomposed(c.op()), in)[0], run(apart, in)[0]);
}

std::vector<Case> cases() {
    std::vector<Case> all;
    // One row, padding, short rows of which a warp has one each, and rows longer than a block.
    for (const Shape& shape : {Shape{1, 128}, Shape{3, 1024}, Shape{2, 65, 1152}, Shape{64, 4096},
                               Shape{5, 8320}, Shape{9, 200}}) {
        all.push_back({shape});
        all.push_back({shape, {.to = Dtype::e5m2, .rounding = ScaleRounding::pow2}});
    }
    all.push_back({{33, 256}, {.rule = BlockRule::te}});
    all.push_back({{33, 256}, {.scaling = {Granularity::row}}});
    all.push_back({{130, 256}, {.scaling = {Granularity::block_128x128}}});
    all.push_back({{33, 256}, {.scaling = {.granularity = Granularity::micro, .group = 32}}});
    all.push_back({{33, 256}, {}, Dtype::f32});
    all.push_back({{33, 256}, {}, Dtype::f16});
    return all;
}

INSTANTIATE_TEST_SUITE_P(All, RmsNormQuantiseTest, testing::ValuesIn(cases()));

TEST(RmsNormQuantise, ANanPoisonsItsRowAlone) {
    std::vector<HostTensor> in = Case{{3, 256}}.operands();
    std::vector<double> x = in[0].values;
    x[256 + 7] = std::numeric_limits<double>::quiet_NaN();
    in[0] = tensor(Dtype::bf16, {3, 256}, x);
    const HostTensor out = run(as_is(RmsNormQuantise{}), in)[0];
    ASSERT_EQ(out.scales.size(), 2u * 4);  // by blocks, of 3 rows and one of padding
    for (std::size_t i = 0; i < out.scales.size(); ++i) {
        EXPECT_EQ(std::isnan(out.scales[i]), i % 4 == 1) << i << ": " << out.scales[i];
    }
}

TEST(RmsNormQuantise, Refuses) {
    const Type x{Dtype::bf16, {2, 256}}, w{Dtype::f32, {256}};
    EXPECT_EQ(refusal(as_is(RmsNormQuantise{}), {x, {Dtype::f32, {128}}}),
              "rms_norm: operand 1 must have shape [256], got f32[128]");
    EXPECT_EQ(refusal(as_is(RmsNormQuantise{.quantise = {.copies = Copies::both}}), {x, w}),
              "rms_norm_quantise: it quantises y, by rows alone");
    EXPECT_EQ(refusal(as_is(RmsNormQuantise{.quantise = {.to = Dtype::bf16}}), {x, w}),
              "block_quantise: expected e4m3 or e5m2, got bf16");
}

}  // namespace
}  // namespace octavo::test
