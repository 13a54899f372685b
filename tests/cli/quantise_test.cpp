// octavo inspect quantise: what comes out of a file, and what is refused.
#include "base/float8.h"
#include "base/rng.h"
#include "cli/program.h"
#include "io/safetensors.h"
#include "io/scratch.h"
#include "ops/op_test.h"

namespace octavo::test {
namespace {

// A file with a matrix, a stack of them, a vector, and what is not quantised.
class InspectQuantise : public testing::Test {
  protected:
    void SetUp() override {
        tensors_["w"] = random_tensor(Dtype::f32, {130, 300}, 1, 0.1);
        tensors_["h"] = random_tensor(Dtype::bf16, {2, 3, 144}, 2);
        tensors_["v"] = random_tensor(Dtype::f16, {40}, 3);
        tensors_["ids"] = random_ids({4}, 9, 4);
        std::vector<TensorInfo> infos;
        for (const auto& [name, t] : tensors_) {
            infos.push_back({name, t.type.dtype, t.type.shape, t.codes});
        }
        write_safetensors(scratch_ / "in.safetensors", infos);
    }
    Finished run(std::vector<std::string> more) const {
        std::vector<std::string> args{"inspect", "quantise", "--in",      in(),
                                      "--out",   out(),      "--backend", "cpu"};
        args.insert(args.end(), more.begin(), more.end());
        return octavo(scratch_ / "", args);
    }
    std::string in() const { return (scratch_ / "in.safetensors").string(); }
    std::string out() const { return (scratch_ / "out.safetensors").string(); }

    void expect_refused(const std::vector<std::string>& args, int exit_code,
                        const std::string& message) const {
        const Finished done = run(args);
        EXPECT_EQ(done.exit_code, exit_code) << done.text;
        EXPECT_TRUE(contains(done.text, message));
        EXPECT_FALSE(std::filesystem::exists(out()));
    }

    Scratch scratch_;
    std::map<std::string, HostTensor> tensors_;
};

template <class T>
std::vector<T> elements(const TensorInfo& t) {
    std::vector<T> values(t.bytes.size() / sizeof(T));
    std::memcpy(values.data(), t.bytes.data(), t.bytes.size());
    return values;
}

struct QuantiseCase {
    std::string as;
    std::int64_t rows, columns;  // elements that share a scale; 0: all of that dimension
    std::int64_t group = 0;
    Dtype to = Dtype::e4m3;
    bool pow2 = false;
    std::vector<std::string> flags = {};

    float max() const { return to == Dtype::e4m3 ? 448.0f : 57344.0f; }
};

std::ostream& operator<<(std::ostream& os, const QuantiseCase& c) { return os << c.as; }

class InspectQuantiseAs : public InspectQuantise, public testing::WithParamInterface<QuantiseCase> {
  protected:
    // Codes, scales and values of a tensor agree, and scales come from the largest elements.
    void check(const SafetensorsFile& file, const std::string& name) const {
        const QuantiseCase& c = GetParam();
        const HostTensor& x = tensors_.at(name);
        const Shape& shape = x.type.shape;
        const std::int64_t columns = shape.last(), rows = shape.elements() / columns;
        const std::int64_t tile_rows = c.rows ? c.rows : rows,
                           tile_columns = c.columns ? c.columns : columns;
        const std::int64_t across = (columns + tile_columns - 1) / tile_columns;
        const TensorInfo codes = file.at(name + ".codes"), scale = file.at(name + ".scale"),
                         values = file.at(name + ".dequant");
        EXPECT_EQ(codes.dtype, Dtype::u8);
        EXPECT_EQ(codes.shape, shape);
        EXPECT_EQ(scale.dtype, Dtype::f32);
        const std::int64_t down = (rows + tile_rows - 1) / tile_rows;
        const bool blocks = c.columns != 0;
        EXPECT_EQ(scale.shape, (blocks ? Shape{down, across} : Shape{down}));
        EXPECT_EQ(values.dtype, Dtype::f32);
        EXPECT_EQ(values.shape, shape);
        EXPECT_EQ(file.contains(name + ".local"), c.group != 0);
        std::vector<std::uint8_t> locals;
        if (c.group) {
            const TensorInfo local = file.at(name + ".local");
            EXPECT_EQ(local.dtype, Dtype::e8m0);
            EXPECT_EQ(local.shape, (Shape{rows, (columns + c.group - 1) / c.group}));
            locals = elements<std::uint8_t>(local);
        }

        const auto q = elements<std::uint8_t>(codes);
        const auto s = elements<float>(scale), y = elements<float>(values);
        std::vector<float> top(s.size());
        for (std::int64_t i = 0; i < shape.elements(); ++i) {
            const std::int64_t row = i / columns, column = i % columns;
            const auto at = static_cast<std::size_t>(row / tile_rows * across +
                                                     (blocks ? column / tile_columns : 0));
            top[at] = std::max(top[at], static_cast<float>(std::abs(x.values[i])));
            float code = c.to == Dtype::e4m3 ? static_cast<float>(e4m3::from_bits(q[i]))
                                             : static_cast<float>(e5m2::from_bits(q[i]));
            if (c.group) {
                const std::int64_t per_row = (columns + c.group - 1) / c.group;
                code = std::ldexp(code, locals[row * per_row + column / c.group] - 127);
            }
            ASSERT_EQ(y[i], code * s[at]) << name << " " << i;
            ASSERT_NEAR(y[i], x.values[i], std::abs(x.values[i]) / 8 + top[at] * 0x1p-15);
        }
        for (std::size_t i = 0; i < s.size(); ++i) {
            int exponent = 0;
            if (c.pow2) {
                EXPECT_EQ(std::frexp(s[i], &exponent), 0.5f);
                EXPECT_GE(s[i] * c.max(), top[i]);
                EXPECT_LT(s[i] * c.max() / 2, top[i]);
            } else {
                EXPECT_EQ(s[i], top[i] / c.max());
            }
        }
    }
};

TEST_P(InspectQuantiseAs, CodesTimesScalesAreTheValues) {
    std::vector<std::string> args{"--as", GetParam().as};
    args.insert(args.end(), GetParam().flags.begin(), GetParam().flags.end());
    const Finished done = run(args);
    ASSERT_EQ(done.exit_code, 0) << done.text;
    const SafetensorsFile file(out());
    EXPECT_EQ(std::ssize(file.entries()), GetParam().group ? 12 : 9);
    for (const std::string name : {"w", "h", "v"}) check(file, name);
    // A line for each, in the order of names, below the heads of the columns.
    EXPECT_TRUE(contains(done.text, "tensor   SNR, dB  worst relative    saturated    flushed\n"));
    EXPECT_LT(done.text.find("\nh "), done.text.find("\nv "));
    EXPECT_LT(done.text.find("\nv "), done.text.find("\nw "));
    EXPECT_EQ(std::count(done.text.begin(), done.text.end(), '\n'), 4);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, InspectQuantiseAs,
    testing::Values(
        QuantiseCase{"tensor", 0, 0, 0, Dtype::e4m3, true},
        QuantiseCase{
            "tensor", 0, 0, 0, Dtype::e5m2, false, {"--scale", "exact", "--dtype", "e5m2"}},
        QuantiseCase{"row", 1, 0}, QuantiseCase{"block1x128", 1, 128},
        QuantiseCase{"block1x128", 1, 128, 0, Dtype::e4m3, true, {"--scale", "pow2"}},
        QuantiseCase{"block128x128", 128, 128}, QuantiseCase{"moss", 1, 0, 32},
        QuantiseCase{"moss", 1, 0, 128, Dtype::e5m2, false, {"--group", "128", "--dtype", "e5m2"}}),
    [](const auto& test) { return fmt::format("{}_{}", test.param.as, test.index); });

TEST_F(InspectQuantise, TakesOneTensorThatIsNamed) {
    const Finished done = run({"--tensor", "h"});
    ASSERT_EQ(done.exit_code, 0) << done.text;
    const SafetensorsFile file(out());
    EXPECT_EQ(std::ssize(file.entries()), 3);
    EXPECT_TRUE(file.contains("h.codes"));
    EXPECT_EQ(file.metadata().at("quantised"), "e4m3 x tensor");
}

// Numbers that can be told by hand: 448, 0.01 of it, and what one scale turns to zero.
TEST_F(InspectQuantise, TableTellsTheErrors) {
    const HostTensor x = tensor(Dtype::f32, {1, 4}, {448, 9, 10.5, 0x1p-12});
    write_safetensors(in(), std::vector<TensorInfo>{{"x", Dtype::f32, x.type.shape, x.codes}});
    const Finished one = run({"--as", "tensor"});
    ASSERT_EQ(one.exit_code, 0) << one.text;
    // 10.5 lies between 10 and 11: ties to even.
    EXPECT_TRUE(contains(one.text, "x          59.05          0.0476     0.0000 %  25.0000 %\n"));
}

// 448 / 0.162109375 rounds before its reciprocal does.
TEST_F(InspectQuantise, KnowsBothRulesOfBlocks) {
    const HostTensor x = tensor(Dtype::f32, {1, 2}, {0.162109375, 0.0303955078125});
    write_safetensors(in(), std::vector<TensorInfo>{{"x", Dtype::f32, x.type.shape, x.codes}});
    for (const auto& [rule, scale, code] :
         {std::tuple{"recip", 0x39bdb6dbu, 0x6b}, std::tuple{"te", 0x39bdb6dcu, 0x6a}}) {
        const Finished done = run({"--as", "block1x128", "--rule", rule});
        ASSERT_EQ(done.exit_code, 0) << done.text;
        const SafetensorsFile file(out());
        const auto got = elements<float>(file.at("x.scale"))[0];
        EXPECT_EQ(std::bit_cast<std::uint32_t>(got), scale);
        EXPECT_EQ(elements<std::uint8_t>(file.at("x.codes"))[1], code);
    }
}

TEST_F(InspectQuantise, RefusesWhatItCannotDo) {
    expect_refused({"--tensor", "W"}, 1,
                   "in.safetensors: expected a tensor 'W', got none of that name among 4");
    expect_refused({"--tensor", "ids"}, 1, "'ids' is i32, expected f64, f32, bf16 or f16");
    expect_refused({"--as", "column"}, 2, "--as");
    expect_refused({"--as", "moss", "--group", "48"}, 2, "--group: expected 32, 64 or 128, got 48");
    expect_refused({"--as", "row", "--group", "32"}, 2,
                   "--group: only moss has groups, got --as row");
    expect_refused({"--as", "moss", "--scale", "pow2"}, 2,
                   "--scale pow2: moss has powers of two below exact scales");
    expect_refused({"--as", "moss", "--rule", "te"}, 2,
                   "--rule te: only blocks have it, got --as moss");
    expect_refused({"--dtype", "f16"}, 2, "--dtype");
    expect_refused({"--quantity", "1"}, 2, "--quantity");
    const Finished no_out = octavo(scratch_ / "", {"inspect", "quantise", "--in", in()});
    EXPECT_EQ(no_out.exit_code, 2) << no_out.text;
    write_safetensors(in(),
                      std::vector<TensorInfo>{{"ids", Dtype::i32, {4}, tensors_.at("ids").codes}});
    expect_refused({}, 1, "no tensor of f64, f32, bf16 or f16 elements to quantise");
    std::filesystem::remove(in());
    expect_refused({}, 1, "in.safetensors");
}

}  // namespace
}  // namespace octavo::test
