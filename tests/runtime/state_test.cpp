#include "runtime/state.h"

#include "io/scratch.h"
#include "ops/op_test.h"

namespace octavo {
namespace {

const Type kVector{Dtype::f32, {3}};

TEST(State, RolesComeBeforeTheSlash) {
    EXPECT_EQ(state_role("model.norm.weight"), "weight");
    EXPECT_EQ(state_role("work.e4m3/model.norm.weight"), "work.e4m3");
    EXPECT_EQ(state_role("adam.m/w"), "adam.m");
    EXPECT_EQ(state_role("kv/layers.0.k"), "kv");
}

TEST(State, EverythingIsSavedButGradientsAndCaches) {
    for (const char* name : {"w", "work.e4m3/w", "adam.m/w", "adam.v/w", "scale.history/w.x",
                             "scale.counter/w.x", "scale.value/w.x"}) {
        EXPECT_TRUE(is_saved(name)) << name;
    }
    EXPECT_FALSE(is_saved("grad/w"));
    EXPECT_FALSE(is_saved("scale.guess/layers.0.mlp.down_proj.0"));
    EXPECT_FALSE(is_saved("kv/layers.0.k"));
}

TEST(State, OneTypePerName) {
    State state;
    state.declare("w", kVector);
    state.declare("w", kVector);
    EXPECT_EQ(state.entries().size(), 1u);
    EXPECT_EQ(error_of([&] { state.declare("w", {Dtype::bf16, {3}}); }),
              "state 'w' is f32[3] in one graph and bf16[3] in another");
}

TEST(State, IsDeclaredBeforeItHasMemory) {
    State state;
    state.declare("w", kVector);
    state.allocate(test::backend());
    state.declare("w", kVector);
    EXPECT_EQ(error_of([&] { state.declare("v", kVector); }),
              "state 'v' was declared after memory was allocated");
    EXPECT_EQ(error_of([&] { state.at("v"); }), "there is no state tensor 'v'");
}

TEST(State, ValuesUnderAGivenScale) {
    State state;
    const Type scaled{Dtype::f16, {3}, kPerTensor};
    state.declare("w", scaled);
    state.declare("plain", kVector);
    state.allocate(test::backend());
    const std::vector<float> values{3, -0x1p-30f, 0x1p20f};
    write_values_under(state, "w", values, 1);
    std::vector<std::byte> all(static_cast<std::size_t>(total_bytes(scaled)));
    state.read_all_parts("w", all.data());
    EXPECT_EQ(*tensor_at(scaled, all.data()).scales(), 2);
    EXPECT_EQ(read_values(state, "w"), (std::vector<float>{3, 0, 2 * 65504}));
    write_values_under(state, "w", values, -6);
    EXPECT_EQ(read_values(state, "w"), (std::vector<float>{3, -0x1p-30f, 65504 / 64.0f}));
    EXPECT_EQ(error_of([&] { write_values_under(state, "plain", values, 1); }),
              "state 'plain': expected one scale and values for it, got f32[3] and 3 values");
    EXPECT_EQ(error_of([&] { write_values_under(state, "w", std::vector<float>(2), 1); }),
              "state 'w': expected one scale and values for it, got f16[3] x tensor and 2 values");
}

TEST(State, BytesByRoleAddUpToWhatIsAllocated) {
    State state;
    state.declare("w", {Dtype::f32, {100}});
    state.declare("scale.value/w.x", {Dtype::f32, {1}});
    state.declare("work.e4m3/w", {Dtype::e4m3, {100}, kPerTensor});
    state.declare("v", {Dtype::f32, {10}});
    const auto roles = state.bytes_by_role();
    ASSERT_EQ(roles.size(), 3u);
    EXPECT_EQ(roles[0], (std::pair<std::string, std::int64_t>("weight", 512 + 256)));
    EXPECT_EQ(roles[1].first, "scale.value");
    EXPECT_EQ(roles[2], (std::pair<std::string, std::int64_t>("work.e4m3", 256)));
    std::int64_t sum = 0;
    for (const auto& [role, bytes] : roles) sum += bytes;
    EXPECT_EQ(sum, state.bytes());
}

TEST(State, StartsAtZeroAndScalesAtOne) {
    State state;
    for (const char* name : {"w", "scale.history/x", "scale.value/x"}) {
        state.declare(name, {Dtype::f32, {1}});
    }
    state.declare("adam.m/w", {Dtype::e4m3, {3}, kPerTensor});
    state.allocate(test::backend());
    initialise_scales(state);
    EXPECT_EQ(test::read_tensor(state.tensor("w")).values[0], 0);
    EXPECT_EQ(test::read_tensor(state.tensor("adam.m/w")).values, std::vector<double>(3));
    EXPECT_EQ(test::read_tensor(state.tensor("adam.m/w")).scales[0], 1);
    EXPECT_EQ(test::read_tensor(state.tensor("scale.history/x")).values[0], 0);
    EXPECT_EQ(test::read_tensor(state.tensor("scale.value/x")).values[0], 1);
}

TEST(State, ValuesAreRoundedToItsDtype) {
    State state;
    state.declare("w", {Dtype::bf16, {2}});
    state.declare("rows/w", {Dtype::e4m3, {2}, {Granularity::row}});
    state.allocate(test::backend());
    const float values[] = {1.0f, 1.00390625f, 2.0f};
    write_values(state, "w", std::span(values).first(2));
    EXPECT_EQ(test::read_tensor(state.tensor("w")).values, (std::vector<double>{1, 1}));
    EXPECT_EQ(error_of([&] { write_values(state, "w", values); }),
              "state 'w': expected values for bf16[2], got 3");
    EXPECT_EQ(error_of([&] { write_values(state, "rows/w", std::span(values).first(2)); }),
              "state 'rows/w': expected one scale, expansions or none, got e4m3[2] x row");
}

// Of any size and format, one after the other.
TEST(State, AReaderKeepsNothingOfTheTensorBefore) {
    State state;
    state.declare("long", {Dtype::f32, {5}});
    state.declare("short", {Dtype::f16, {2}, kPerTensor});
    state.declare("none", {Dtype::bf16, {0, 3}});
    state.allocate(test::backend());
    const std::vector<float> longer = {1, 2, 3, 4, 5}, shorter = {-0.25f, 0.75f};
    write_values(state, "long", longer);
    write_values(state, "short", shorter);
    ValueReader reader(state);
    const auto read = [&](const char* name) {
        const std::span<const float> v = reader.read(name);
        return std::vector(v.begin(), v.end());
    };
    EXPECT_EQ(read("long"), longer);
    EXPECT_EQ(read("short"), shorter);
    EXPECT_EQ(read("none"), std::vector<float>{});
    EXPECT_EQ(read("long"), longer);
    EXPECT_EQ(read_values(state, "short"), shorter);
}

// Masters under a power of two, moments under the scale that puts the largest on the top code.
TEST(State, ValuesBringTheirScale) {
    State state;
    state.declare("w", {Dtype::f16, {2}, kPerTensor});
    state.declare("adam.m/w", {Dtype::e4m3, {2}, kPerTensor});
    state.allocate(test::backend());
    const float values[] = {-0.25f, 0.75f};
    write_values(state, "w", values);
    write_values(state, "adam.m/w", values);
    EXPECT_EQ(test::read_tensor(state.tensor("w")).scales, std::vector{0x1p-16f});
    EXPECT_EQ(test::read_tensor(state.tensor("w")).values, (std::vector<double>{-0.25, 0.75}));
    EXPECT_EQ(test::read_tensor(state.tensor("adam.m/w")).scales, std::vector{0.75f / 448});
    initialise_scales(state);
    EXPECT_EQ(test::read_tensor(state.tensor("w")).scales, std::vector{0x1p-16f});
    EXPECT_EQ(test::read_tensor(state.tensor("adam.m/w")).scales, std::vector{1.0f});
}

TEST(State, ValuesBringTheirExpansions) {
    State state;
    state.declare("adam.m/w", {Dtype::e4m3, {130}, kExpanded});
    state.allocate(test::backend());
    initialise_scales(state);
    EXPECT_EQ(test::read_tensor(state.tensor("adam.m/w")).scales,
              (std::vector<float>{0, 1, 1, 0, 1, 1}));
    std::vector<float> values(130, 0.75f);
    values[128] = -0.0625f;
    values[129] = 1;
    write_values(state, "adam.m/w", values);
    const test::HostTensor t = test::read_tensor(state.tensor("adam.m/w"));
    EXPECT_EQ(t.scales[1], 16);
    EXPECT_EQ(t.scales[4], 4.125f);
    EXPECT_NEAR(t.values[0], 0.75, 1e-6);
    EXPECT_NEAR(t.values[129], 1, 1e-6);
    const auto back = values_of(t.type, t.codes.data(), t.scales.data());
    EXPECT_EQ(std::vector<double>(back.begin(), back.end()), t.values);
}

// Propagated scales: they follow from the initialisation, not from the values.
TEST(State, AScaleForGoodStays) {
    State state;
    state.declare("w", {Dtype::f16, {2}, kPerTensor});
    state.declare("w", {Dtype::f16, {2}, kPerTensor}, -6);
    state.allocate(test::backend());
    const float values[] = {-0.25f, 0.75f};
    write_values(state, "w", values);
    EXPECT_EQ(test::read_tensor(state.tensor("w")).scales, std::vector{0x1p-6f});
    EXPECT_EQ(test::read_tensor(state.tensor("w")).values, (std::vector<double>{-0.25, 0.75}));
}

TEST(State, GradientsAreNotSaved) {
    for (const char* name : {"grad/w", "grad.scale/w", "step/loss", "kv/layer.k"}) {
        EXPECT_FALSE(is_saved(name)) << name;
    }
    for (const char* name : {"w", "adam.m/w", "scale.moments/w"})
        EXPECT_TRUE(is_saved(name)) << name;
}

TEST(State, ReadsAndWritesCodesOrAllParts) {
    State state;
    state.declare("before", kVector);
    state.declare("q", {Dtype::e4m3, {3}, kPerTensor});
    state.declare("after", kVector);
    state.allocate(test::backend());
    std::vector<std::byte> all(static_cast<std::size_t>(total_bytes(state.at("q").type)));
    const float scale = 0.25f;
    all[0] = std::byte{0x38}, all[2] = std::byte{0x40};
    std::memcpy(all.data() + kPartAlignment, &scale, sizeof(scale));
    state.write_all_parts("q", all.data());
    EXPECT_EQ(*state.tensor("q").scales(), 0.25f);

    const std::byte codes[] = {std::byte{1}, std::byte{2}, std::byte{3}};
    state.write("q", codes);
    std::byte read[3];
    state.read("q", read);
    EXPECT_TRUE(std::ranges::equal(read, codes));
    EXPECT_EQ(*state.tensor("q").scales(), 0.25f);
    state.read_all_parts("q", all.data());
    EXPECT_EQ(all[1], std::byte{2});
    EXPECT_EQ(test::read_tensor(state.tensor("after")).values, std::vector<double>(3));
}

}  // namespace
}  // namespace octavo
