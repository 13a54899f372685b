#include "train/checkpoint.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <limits>
#include <random>
#include <thread>

#include "base/convert.h"
#include "io/safetensors.h"
#include "io/scratch.h"
#include "train/checkpoint_format.h"
#include "train/far_backend.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

const std::map<std::string, std::string> kTexts = {{"config.json", "{\"model_type\": \"llama\"}\n"},
                                                   {"config.toml", "[train]\nsteps = 9\n"}};

CheckpointInfo info_of(std::int64_t step) {
    return {.step = step,
            .tokens = step * 1000,
            .cursor = step * 8,
            .recipe = "fp8-lm",
            .octavo = "0.1.0",
            .extra = {{"note", "line\nbreak \"and quotes\""}, {"window", "1,2"}}};
}

// Every kind of tensor that recipes keep, under every granularity.
struct TestState {
    explicit TestState(std::int64_t hidden = 40) {
        const Type matrix{Dtype::f32, {hidden, 48}}, codes{Dtype::e4m3, {hidden, 300}};
        const auto scaled = [&](Scaling s) { return Type{codes.dtype, codes.shape, s}; };
        state.declare("a.weight", matrix);
        state.declare("b.weight", {Dtype::f32, {hidden}});
        state.declare("work/a.weight", scaled(kPerTensor));
        state.declare("work/b.weight", {Dtype::bf16, {hidden}});
        state.declare("row/a", scaled({Granularity::row}));
        state.declare("block/a", scaled({Granularity::block_1x128, Dtype::e8m0}));
        state.declare("tile/a", {Dtype::e5m2, {130, 260}, {Granularity::block_128x128}});
        state.declare("micro/a", scaled({Granularity::micro, Dtype::f32, 32}));
        state.declare("adam.v/a", {Dtype::e4m3, {3, 130}, kExpanded});
        state.declare("grad/a.weight", matrix);
        state.declare("kv/a.k", matrix);
        state.declare("adam.m/a.weight", matrix);
        state.declare("scale.counter/a", {Dtype::i32, {}});
        state.declare("scale.history/a", {Dtype::f32, {16}});
        state.declare("empty/a", {Dtype::u8, {0, 3}});
        state.allocate(backend);
    }

    // Bytes that follow from seed and name, NaN patterns among them.
    void fill(std::uint32_t seed) {
        for (const State::Entry& e : state.entries()) {
            const auto bytes = content(e, seed);
            state.write_all_parts(e.name, bytes.data());
        }
    }
    // The saved tensors that do not hold what `fill(seed)` wrote.
    std::vector<std::string> strangers(std::uint32_t seed) const {
        std::vector<std::string> names;
        for (const State::Entry& e : state.entries()) {
            if (!is_saved(e.name)) continue;
            std::vector<std::byte> got(static_cast<std::size_t>(total_bytes(e.type)));
            state.read_all_parts(e.name, got.data());
            auto expected = content(e, seed);
            if (got != expected) names.push_back(e.name);
        }
        return names;
    }

    FarBackend backend;
    State state;

  private:
    static std::vector<std::byte> content(const State::Entry& e, std::uint32_t seed) {
        std::vector<std::byte> bytes(static_cast<std::size_t>(total_bytes(e.type)));
        std::uint32_t x = seed * 2654435761u + static_cast<std::uint32_t>(e.offset);
        const TensorRef t = tensor_at(e.type, bytes.data());
        for (const Part& part : parts_of(e)) {
            const auto n = static_cast<std::size_t>(data_bytes(part.type));
            for (std::byte& b : std::span(part_data(t, part.kind), n)) {
                x = x * 1664525u + 1013904223u;
                b = static_cast<std::byte>(x >> 24);
            }
        }
        return bytes;  // padding between the parts stays zero
    }
};

std::vector<std::string> names_in(const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& e : fs::directory_iterator(folder)) names.push_back(e.path().filename());
    std::ranges::sort(names);
    return names;
}

class CheckpointTest : public testing::Test {
  protected:
    fs::path save(std::uint32_t seed, std::int64_t step, std::int64_t shard_bytes = kShardBytes) {
        TestState s;
        s.fill(seed);
        return save_checkpoint(folder, s.state, info_of(step), kTexts, shard_bytes);
    }
    std::optional<fs::path> latest() {
        messages.clear();
        return latest_checkpoint(folder, log);
    }
    // Whether `path` holds what save(seed, ...) wrote.
    static testing::AssertionResult holds(const fs::path& path, std::uint32_t seed) {
        TestState s;
        load_checkpoint(path, s.state);
        const auto names = s.strangers(seed);
        if (names.empty()) return testing::AssertionSuccess();
        return testing::AssertionFailure() << names.size() << " differ, first " << names[0];
    }

    Scratch scratch;
    fs::path folder = scratch / "checkpoints";
    std::string messages;
    Log log = [this](const std::string& text) { messages += text + "\n"; };
};

TEST_F(CheckpointTest, BringsBackEveryBit) {
    const fs::path path = save(7, 12);
    EXPECT_EQ(path, folder / "step_0000012");
    EXPECT_EQ(names_in(folder), (std::vector<std::string>{"latest", "step_0000012"}));
    EXPECT_EQ(Scratch::read(folder / "latest"), "step_0000012\n");
    EXPECT_EQ(Scratch::read(path / "config.toml"), kTexts.at("config.toml"));

    TestState s;
    s.fill(1);
    EXPECT_EQ(load_checkpoint(path, s.state), info_of(12));
    EXPECT_EQ(s.strangers(7), std::vector<std::string>{});
    EXPECT_EQ(read_checkpoint_info(path), info_of(12));
}

TEST_F(CheckpointTest, LeavesUnsavedTensorsAlone) {
    const fs::path path = save(7, 12);
    TestState s;
    s.fill(3);
    std::vector<std::byte> before(
        static_cast<std::size_t>(data_bytes(s.state.at("grad/a.weight").type)));
    auto after = before;
    s.state.read("grad/a.weight", before.data());
    load_checkpoint(path, s.state);
    s.state.read("grad/a.weight", after.data());
    EXPECT_EQ(before, after);
}

TEST_F(CheckpointTest, NamesPartsAndTypesInTheFiles) {
    const SafetensorsFile file(save(7, 12) / "state-00001-of-00001.safetensors");
    EXPECT_EQ(file.at("micro/a").dtype, Dtype::e4m3);
    EXPECT_EQ(file.at("micro/a").shape, (Shape{40, 300}));
    EXPECT_EQ(file.at("micro/a.scale").dtype, Dtype::f32);
    EXPECT_EQ(file.at("micro/a.groups").dtype, Dtype::e8m0);
    EXPECT_EQ(file.at("micro/a.groups").shape, Shape{1536});
    EXPECT_EQ(file.at("block/a.scale").dtype, Dtype::e8m0);
    EXPECT_EQ(file.metadata().at("micro/a"), "e4m3[40, 300] x micro(32)");
    EXPECT_EQ(file.metadata().at("format"), "pt");
    EXPECT_FALSE(file.contains("grad/a.weight"));
    EXPECT_FALSE(file.contains("a.weight"));
    for (const TensorEntry& e : file.entries()) {
        const auto address = reinterpret_cast<std::uintptr_t>(e.bytes.data());
        EXPECT_EQ(address % size_of(file.at(e.name).dtype), 0u) << e.name;
    }
}

TEST_F(CheckpointTest, IsAHuggingFaceFolder) {
    const SafetensorsModel model(save(7, 12));
    EXPECT_EQ(model.names(), (std::vector<std::string>{"a.weight", "b.weight"}));
}

TEST_F(CheckpointTest, SplitsIntoShards) {
    const fs::path path = save(7, 12, 30'000);
    const auto names = names_in(path);
    EXPECT_TRUE(std::ranges::count(names, "state-00001-of-00004.safetensors")) << names.size();
    for (const std::string& name : names) {
        // One tensor is larger than a shard and has one of its own.
        EXPECT_LT(fs::file_size(path / name), 40'000u) << name;
    }
    EXPECT_TRUE(holds(path, 7));
}

TEST_F(CheckpointTest, WritesTheSameBytesTwice) {
    const fs::path one = save(7, 12);
    std::map<std::string, std::string> first;
    for (const auto& name : names_in(one)) first[name] = Scratch::read(one / name);
    save(7, 12);
    for (const auto& [name, text] : first) EXPECT_EQ(Scratch::read(one / name), text) << name;
}

// Damage.

TEST_F(CheckpointTest, NoticesAnyFlippedBit) {
    const fs::path path = save(7, 12);
    std::mt19937 random(1);
    for (const std::string& name : names_in(path)) {
        const std::string good = Scratch::read(path / name);
        for (int i = 0; i < 40; ++i) {
            std::string bad = good;
            // The first and the last bits, and some between.
            const std::size_t bit = i < 8    ? static_cast<std::size_t>(i)
                                    : i < 16 ? good.size() * 8 - static_cast<std::size_t>(i) + 7
                                             : random() % (good.size() * 8);
            bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
            std::ofstream(path / name, std::ios::binary) << bad;
            TestState s;
            s.fill(1);
            const std::string error = error_of([&] { load_checkpoint(path, s.state); });
            EXPECT_TRUE(contains(error, name)) << bit;
            EXPECT_TRUE(contains(error, "damaged")) << bit;
            EXPECT_EQ(s.strangers(1), std::vector<std::string>{});
            EXPECT_FALSE(error_of([&] { verify_checkpoint(path); }).empty());
        }
        std::ofstream(path / name, std::ios::binary) << good;
    }
    EXPECT_TRUE(holds(path, 7));
}

TEST_F(CheckpointTest, NoticesTruncatedAndMissingFilesWithoutReadingThem) {
    const fs::path path = save(7, 12);
    for (const std::string& name : names_in(path)) {
        const std::string good = Scratch::read(path / name);
        for (const std::size_t left : {std::size_t{0}, good.size() / 2, good.size() - 1}) {
            fs::resize_file(path / name, left);
            EXPECT_TRUE(contains(error_of([&] { read_checkpoint_info(path); }), name));
            EXPECT_FALSE(latest());
        }
        fs::remove(path / name);
        EXPECT_TRUE(contains(error_of([&] { read_checkpoint_info(path); }), name));
        EXPECT_FALSE(latest());
        EXPECT_TRUE(contains(messages, "step_0000012 is no checkpoint"));
        std::ofstream(path / name, std::ios::binary) << good;
    }
    EXPECT_EQ(latest(), path);
    EXPECT_EQ(messages, "");
}

TEST_F(CheckpointTest, RefusesAManifestOfAnotherVersion) {
    const fs::path path = save(7, 12);
    std::string rest = Scratch::read(path / kManifestName);
    rest = rest.substr(rest.find('\n') + 1);
    const auto seal = [&](std::string text) {
        const FileSum sum = sum_of(std::as_bytes(std::span(text)));
        std::ofstream(path / kManifestName)
            << fmt::format("{{\"xxh64\": \"{:016x}\",\n{}", sum.xxh64, text);
        return error_of([&] { read_checkpoint_info(path); });
    };
    const auto replaced = [&](const std::string& from, const std::string& to) {
        std::string text = rest;
        return text.replace(text.find(from), from.size(), to);
    };
    const std::string error = seal(replaced("\"version\": 1", "\"version\": 2"));
    EXPECT_TRUE(contains(error, "checkpoint.json: expected version 1, got 2"));
    EXPECT_TRUE(contains(error, "0.1.0"));
    EXPECT_TRUE(contains(seal(replaced("\"step\": 12", "\"step\": []")), "checkpoint.json"));
    EXPECT_TRUE(contains(seal(replaced("config.toml", "../secret")), "'../secret'"));
    EXPECT_TRUE(contains(seal("]"), "checkpoint.json: expected a manifest"));
}

// Another run's State.

std::string refusal(const fs::path& path,
                    const std::vector<std::pair<std::string, Type>>& tensors) {
    FarBackend backend;
    State state;
    for (const auto& [name, type] : tensors) state.declare(name, type);
    state.allocate(backend);
    return error_of([&] { load_checkpoint(path, state); });
}

TEST_F(CheckpointTest, NamesWhatAnotherRecipeOrShapeChanges) {
    FarBackend backend;
    State state;
    state.declare("w", {Dtype::f32, {4, 64}});
    state.declare("work/w", {Dtype::e4m3, {4, 64}, kPerTensor});
    state.allocate(backend);
    const fs::path path = save_checkpoint(folder, state, info_of(1), kTexts);
    const Type w{Dtype::f32, {4, 64}}, work{Dtype::e4m3, {4, 64}, kPerTensor};

    std::string error = refusal(path, {{"w", w}, {"work/w", {Dtype::bf16, {4, 64}}}});
    EXPECT_TRUE(contains(error, "1 of the tensors"));
    EXPECT_TRUE(contains(error, "'work/w': expected bf16[4, 64], got e4m3[4, 64] x tensor"));
    EXPECT_TRUE(contains(error, "recipe 'fp8-lm'"));
    error = refusal(path, {{"w", {Dtype::f32, {4, 128}}}, {"work/w", work}});
    EXPECT_TRUE(contains(error, "'w': expected f32[4, 128], got f32[4, 64]"));
    error = refusal(path, {{"w", w}, {"work/w", work}, {"adam.m/w", w}});
    EXPECT_TRUE(contains(error, "'adam.m/w': expected f32[4, 64], got none"));
    error = refusal(path, {{"w", w}});
    EXPECT_TRUE(contains(error, "'work/w': expected none, got e4m3[4, 64] x tensor"));
    // One scale in all three cases, but not the same meaning.
    error = refusal(
        path, {{"w", w}, {"work/w", {Dtype::e4m3, {4, 64}, {Granularity::micro, Dtype::f32, 64}}}});
    EXPECT_TRUE(contains(error, "expected e4m3[4, 64] x micro(64), got e4m3[4, 64] x tensor"));
    error =
        refusal(path, {{"w", w}, {"work/w", {Dtype::e4m3, {4, 64}, {Granularity::block_128x128}}}});
    EXPECT_TRUE(contains(error, "expected e4m3[4, 64] x 128x128, got e4m3[4, 64] x tensor"));
    error = refusal(path, {{"p", w}, {"q", w}, {"r", w}});
    EXPECT_TRUE(contains(error, "and 3 more"));
}

// Master weights under a scale: the model's files hold their values, the others their codes.

struct Masters {
    Masters(const Type& master, const Type& m, const Type& work, std::optional<int> exponent = {}) {
        state.declare("w", master, exponent);
        state.declare("adam.m/w", m);
        state.declare("work." + std::string(name(work.dtype)) + "/w", work);
        state.allocate(backend);
        initialise_scales(state);
    }
    std::vector<float> read(const std::string& name) const {
        const Type& type = state.at(name).type;
        std::vector<std::byte> all(static_cast<std::size_t>(total_bytes(type)));
        state.read_all_parts(name, all.data());
        const TensorRef t = tensor_at(type, all.data());
        return values_of(type, t.data, t.scales());
    }

    FarBackend backend;
    State state;
};

const Type kWide{Dtype::f32, {4, 64}}, kWork{Dtype::e4m3, {4, 64}, kPerTensor};
const Type kMaster{Dtype::f16, {4, 64}, kPerTensor}, kMoment{Dtype::e4m3, {4, 64}, kPerTensor};

std::vector<float> ramp() {
    std::vector<float> values(256);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = 0.003f * (static_cast<float>(i) - 100.3f);
    }
    return values;
}

TEST_F(CheckpointTest, KeepsCodesAndValuesOfScaledMasters) {
    Masters a(kMaster, kMoment, kWork);
    write_values(a.state, "w", ramp());
    // A scale that the values alone would not give.
    const float scale = 0x1p-14f;
    const std::vector<float> values = a.read("w");
    std::vector<std::byte> codes(512);
    quantise(values.data(), Dtype::f32, 1 / scale, codes.data(), Dtype::f16, 256);
    a.state.write("w", codes.data());
    a.state.write_scales("w", &scale);
    EXPECT_EQ(a.read("w"), values);
    const fs::path path = save_checkpoint(folder, a.state, info_of(1), kTexts);

    const SafetensorsModel model(path);
    EXPECT_EQ(model.names(), std::vector<std::string>{"w"});
    EXPECT_EQ(model.at("w").dtype, Dtype::f32);
    EXPECT_TRUE(std::ranges::equal(model.at("w").bytes,
                                   std::as_bytes(std::span<const float>(a.read("w")))));
    const SafetensorsFile state(path / "state-00001-of-00001.safetensors");
    EXPECT_EQ(state.at("master/w").dtype, Dtype::f16);
    EXPECT_EQ(state.metadata().at("master/w"), "f16[4, 64] x tensor");

    Masters b(kMaster, kMoment, kWork);
    std::vector<std::string> converted;
    load_checkpoint(path, b.state, Verify::contents, &converted);
    EXPECT_EQ(converted, std::vector<std::string>{});
    std::vector<std::byte> x(static_cast<std::size_t>(total_bytes(kMaster))), y = x;
    a.state.read_all_parts("w", x.data());
    b.state.read_all_parts("w", y.data());
    EXPECT_EQ(x, y);
}

TEST_F(CheckpointTest, ConvertsMastersAndMomentsOnRequest) {
    const Type wide_work{Dtype::bf16, {4, 64}};
    Masters narrow(kMaster, kMoment, kWork), wide(kWide, kWide, wide_work);
    for (Masters* m : {&narrow, &wide}) {
        write_values(m->state, "w", ramp());
        write_values(m->state, "adam.m/w", ramp());
    }
    const fs::path from_narrow = save_checkpoint(folder, narrow.state, info_of(1), kTexts);
    const fs::path from_wide = save_checkpoint(folder, wide.state, info_of(2), kTexts);
    const std::vector<float> w = narrow.read("w"), m = narrow.read("adam.m/w");

    Masters refuses(kWide, kWide, wide_work);
    EXPECT_TRUE(contains(error_of([&] { load_checkpoint(from_narrow, refuses.state); }),
                         "'adam.m/w': expected f32[4, 64], got e4m3[4, 64] x tensor"));
    EXPECT_EQ(refuses.read("w"), std::vector<float>(256));

    std::vector<std::string> converted;
    Masters widened(kWide, kWide, wide_work);
    load_checkpoint(from_narrow, widened.state, Verify::contents, &converted);
    EXPECT_EQ(converted.size(), 6u);  // m, codes and scale of w, working copies
    EXPECT_EQ(widened.read("w"), w);
    EXPECT_EQ(widened.read("adam.m/w"), m);

    converted.clear();
    Masters narrowed(kMaster, kMoment, kWork);
    load_checkpoint(from_wide, narrowed.state, Verify::contents, &converted);
    EXPECT_EQ(converted.size(), 4u);
    EXPECT_EQ(converted[0], "'master/w': expected f16[4, 64] x tensor, got none");
    EXPECT_EQ(narrowed.read("w"), w);
    EXPECT_EQ(narrowed.read("adam.m/w"), m);
}

TEST_F(CheckpointTest, ConvertsExpandedMoments) {
    const Type wide_work{Dtype::bf16, {4, 64}}, expanded{Dtype::e4m3, {4, 64}, kExpanded};
    for (const Type& from : {kWide, kMoment, wide_work, expanded}) {
        Masters before(kWide, from, wide_work);
        write_values(before.state, "w", ramp());
        write_values(before.state, "adam.m/w", ramp());
        const fs::path path = save_checkpoint(folder, before.state, info_of(1), kTexts);
        for (const Type& to : {kWide, kMoment, wide_work, expanded}) {
            if (from == to || (from != expanded && to != expanded)) continue;
            SCOPED_TRACE(fmt::format("{} to {}", to_string(from), to_string(to)));
            Masters after(kWide, to, wide_work), want(kWide, to, wide_work);
            EXPECT_TRUE(contains(
                error_of([&] { load_checkpoint(path, after.state); }),
                fmt::format("'adam.m/w': expected {}, got {}", to_string(to), to_string(from))));
            std::vector<std::string> converted;
            load_checkpoint(path, after.state, Verify::contents, &converted);
            EXPECT_EQ(converted.size(), 1u);
            write_values(want.state, "adam.m/w", before.read("adam.m/w"));
            EXPECT_EQ(after.read("adam.m/w"), want.read("adam.m/w"));
        }
    }
}

// Codes under another scale than the one that stays are worth something else.
TEST_F(CheckpointTest, ConvertsMastersToTheScaleThatStays) {
    Masters free(kMaster, kMoment, kWork), kept(kMaster, kMoment, kWork, -6);
    write_values(free.state, "w", ramp());
    const fs::path path = save_checkpoint(folder, free.state, info_of(1), kTexts);
    std::vector<std::string> converted;
    load_checkpoint(path, kept.state, Verify::contents, &converted);
    ASSERT_EQ(converted.size(), 1u);
    EXPECT_TRUE(contains(converted[0], "'master/w': expected a scale of 0.015625, got"));
    std::vector<std::byte> all(static_cast<std::size_t>(total_bytes(kMaster)));
    kept.state.read_all_parts("w", all.data());
    EXPECT_EQ(*tensor_at(kMaster, all.data()).scales(), 0x1p-6f);
    const std::vector<float> got = kept.read("w"), want = free.read("w");
    for (std::size_t i = 0; i < want.size(); ++i) {
        EXPECT_NEAR(got[i], want[i], 0x1p-11f * std::abs(want[i]) + 0x1p-31f);
    }
}

TEST_F(CheckpointTest, ConvertsNothingElse) {
    Masters a(kMaster, kMoment, kWork);
    const fs::path path = save_checkpoint(folder, a.state, info_of(1), kTexts);
    std::vector<std::string> converted;
    const auto error = [&](const std::string& name, const Type& type) {
        FarBackend backend;
        State state;
        state.declare("w", kMaster);
        if (name != "adam.m/w") state.declare("adam.m/w", kMoment);
        state.declare(name, type);
        state.allocate(backend);
        return error_of([&] { load_checkpoint(path, state, Verify::contents, &converted); });
    };
    EXPECT_TRUE(contains(error("adam.m/w", {Dtype::f32, {4, 32}}),
                         "'adam.m/w': expected f32[4, 32], got e4m3[4, 64] x tensor"));
    EXPECT_TRUE(contains(error("adam.m/w", {Dtype::e4m3, {4, 64}, {Granularity::row}}),
                         "expected e4m3[4, 64] x row, got e4m3[4, 64] x tensor"));
    EXPECT_TRUE(contains(error("adam.v/w", kWide), "'adam.v/w': expected f32[4, 64], got none"));
    EXPECT_TRUE(contains(error("scale.value/x", {Dtype::f32, {1}}),
                         "'scale.value/x': expected f32[1], got none"));
    EXPECT_EQ(converted, std::vector<std::string>{});
}

TEST_F(CheckpointTest, RefusesNamesThatCollide) {
    FarBackend backend;
    State state;
    state.declare("x/w", {Dtype::e4m3, {4, 64}, kPerTensor});
    state.declare("x/w.scale", {Dtype::f32, {1}});
    state.allocate(backend);
    const std::string error = error_of([&] { save_checkpoint(folder, state, info_of(1), kTexts); });
    EXPECT_TRUE(contains(error, "'x/w.scale'"));
}

// The folder of checkpoints.

TEST_F(CheckpointTest, LatestIsTheHighestStepThatIsComplete) {
    EXPECT_FALSE(latest());
    save(1, 999'999'9);
    save(2, 123'456'78);
    EXPECT_EQ(latest(), folder / "step_12345678");
    fs::remove(folder / "step_12345678" / kManifestName);
    EXPECT_EQ(latest(), folder / "step_9999999");
    EXPECT_TRUE(contains(messages, "step_12345678 is no checkpoint"));
    fs::copy(folder / "step_9999999", folder / "step_9999999-mine");
    EXPECT_EQ(latest(), folder / "step_9999999");
    EXPECT_TRUE(contains(messages, "its manifest is of step 9999999"));
}

TEST_F(CheckpointTest, ReplacesAFolderOfTheSameStep) {
    const fs::path path = save(1, 5);
    fs::remove(path / kManifestName);
    save(2, 5);
    EXPECT_TRUE(holds(path, 2));
    save(3, 5);
    EXPECT_TRUE(holds(path, 3));
    EXPECT_EQ(names_in(folder), (std::vector<std::string>{"latest", "step_0000005"}));
}

TEST_F(CheckpointTest, CleanRemovesWhatIsHalfWrittenAndKeepsTheRest) {
    save(1, 5);
    fs::create_directories(folder / "step_0000006.tmp-1");
    scratch.write("checkpoints/step_0000006.tmp-1/state-00001-of-00001.safetensors", "half");
    fs::create_directories(folder / "step_0000007");
    fs::create_directories(folder / "mine.tmp-1");
    clean_checkpoints(folder, log);
    EXPECT_TRUE(contains(messages, "removed"));
    EXPECT_TRUE(contains(messages, "step_0000006.tmp-1"));
    EXPECT_EQ(names_in(folder),
              (std::vector<std::string>{"latest", "mine.tmp-1", "step_0000005", "step_0000007"}));
    EXPECT_EQ(latest(), folder / "step_0000005");
}

// Every state that a kill inside put_in_place can leave.
TEST_F(CheckpointTest, CleanFinishesAnInterruptedRename) {
    const fs::path final = save(2, 5), temporary = folder / "step_0000005.tmp-77",
                   old = folder / "step_0000005.tmp-77-old";
    fs::rename(final, temporary);  // written, not yet renamed
    clean_checkpoints(folder, log);
    EXPECT_TRUE(contains(messages, "step_0000005.tmp-77 was complete"));
    EXPECT_TRUE(holds(final, 2));

    fs::rename(final, temporary);  // the old one is aside, the new one not yet there
    fs::rename(save(1, 5), old);
    clean_checkpoints(folder, log);
    EXPECT_TRUE(holds(final, 2));
    EXPECT_EQ(names_in(folder), (std::vector<std::string>{"latest", "step_0000005"}));

    fs::rename(final, old);  // the same, but the new one was lost
    fs::create_directories(temporary);
    clean_checkpoints(folder, log);
    EXPECT_TRUE(holds(final, 2));
    EXPECT_EQ(names_in(folder), (std::vector<std::string>{"latest", "step_0000005"}));
}

TEST_F(CheckpointTest, PrunesAllButTheNewestAndTheMultiples) {
    for (const int step : {10, 20, 30, 40, 50, 60}) save(1, step);
    fs::remove(folder / "step_0000060" / kManifestName);  // does not count as a checkpoint
    prune_checkpoints(folder, 2, 20);
    EXPECT_EQ(names_in(folder), (std::vector<std::string>{"latest", "step_0000020", "step_0000040",
                                                          "step_0000050", "step_0000060"}));
    prune_checkpoints(folder, 5, 0);
    EXPECT_EQ(names_in(folder).size(), 5u);
    prune_checkpoints(folder, 1, 0);
    EXPECT_EQ(names_in(folder),
              (std::vector<std::string>{"latest", "step_0000050", "step_0000060"}));
    EXPECT_TRUE(contains(error_of([&] { prune_checkpoints(folder, 0, 0); }), "at least 1, got 0"));
}

// Interruptions.

// Runs `body` in a process of its own, whose exit code says whether it held.
template <class Body>
pid_t start(Body&& body) {
    const pid_t pid = fork();
    if (pid == 0) _exit(body());
    return pid;
}

int exit_code(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(CheckpointTest, AFileLimitFailsTheSaveAndNothingElse) {
    save(1, 5);
    struct rlimit limit{};
    getrlimit(RLIMIT_FSIZE, &limit);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small{20'000, limit.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    const std::string other_step = error_of([&] { save(2, 6); });
    const std::string same_step = error_of([&] { save(2, 5); });
    setrlimit(RLIMIT_FSIZE, &limit);
    std::signal(SIGXFSZ, handler);

    EXPECT_TRUE(contains(other_step, "the checkpoint of step 6 was not saved (earlier ones are"));
    EXPECT_TRUE(contains(other_step, "state-00001-of-00001.safetensors"));
    EXPECT_TRUE(contains(same_step, "File too large"));
    EXPECT_EQ(names_in(folder), (std::vector<std::string>{"latest", "step_0000005"}));
    EXPECT_TRUE(holds(folder / "step_0000005", 1));
    save(2, 6);
    EXPECT_TRUE(holds(*latest(), 2));
}

TEST_F(CheckpointTest, AFullDiskFailsTheSaveAndNothingElse) {
    constexpr int kNoMount = 77;
    fs::create_directories(folder);
    const auto full_disk = [&] {
        if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return kNoMount;
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
        if (mount("none", folder.c_str(), "tmpfs", 0, "size=512k") != 0) return kNoMount;
        std::string error;
        std::int64_t step = 0;
        while (error.empty() && step < 10) {
            try {
                ++step;
                save(static_cast<std::uint32_t>(step), step);
            } catch (const Error& e) {
                error = e.what();
            }
        }
        const bool held = step > 1 && step < 10 && contains(error, "No space left on device") &&
                          contains(error, "The disk is full: free some space.") &&
                          names_in(folder).size() == static_cast<std::size_t>(step) &&
                          holds(*latest(), static_cast<std::uint32_t>(step - 1));
        return held ? 0 : 1;
    };
    const int code = exit_code(start(full_disk));
    if (code == kNoMount) GTEST_SKIP() << "no right to mount a small file system";
    EXPECT_EQ(code, 0);
}

TEST_F(CheckpointTest, SurvivesAKillAtAnyMoment) {
    std::mt19937 random(7);
    std::int64_t step = 0;
    int advanced = 0, leftovers = 0;
    for (int round = 0; round < 40; ++round) {
        int saved[2];
        ASSERT_EQ(pipe(saved), 0);
        const pid_t child = start([&] {
            TestState s;
            for (std::int64_t next = step + 1;; ++next) {
                s.fill(static_cast<std::uint32_t>(next));
                // Some steps again, as a run that resumed from an earlier one would.
                if (next > 1 && next % 3 == 0) {
                    s.fill(static_cast<std::uint32_t>(next - 1));
                    save_checkpoint(folder, s.state, info_of(next - 1), kTexts);
                    s.fill(static_cast<std::uint32_t>(next));
                }
                save_checkpoint(folder, s.state, info_of(next), kTexts, 50'000);
                if (write(saved[1], "x", 1) != 1) return 1;
                prune_checkpoints(folder, 2, 0);
            }
            return 0;
        });
        close(saved[1]);
        char byte = 0;
        // Every other child gets to save once, so that the loop moves on on slow disks, too.
        if (round % 2 == 0) {
            EXPECT_EQ(read(saved[0], &byte, 1), 1);
        }
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
        kill(child, SIGKILL);
        EXPECT_EQ(exit_code(child), -1);
        close(saved[0]);

        leftovers += fs::exists(folder) && std::ranges::any_of(names_in(folder), [](auto& name) {
                         return name.find(".tmp-") != name.npos;
                     });
        clean_checkpoints(folder, log);
        const auto path = latest();
        EXPECT_EQ(messages, "");  // nothing that looks like a checkpoint and is none
        if (!path) {
            EXPECT_EQ(step, 0);
            continue;
        }
        const std::int64_t now = read_checkpoint_info(*path).step;
        EXPECT_GE(now, step);
        EXPECT_TRUE(holds(*path, static_cast<std::uint32_t>(now)));
        advanced += now > step;
        step = now;
    }
    EXPECT_GT(advanced, 5);
    EXPECT_GT(leftovers, 0);
}

}  // namespace
}  // namespace octavo
