#include "io/safetensors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "base/error.h"
#include "io/scratch.h"

namespace octavo {
namespace {

std::string image(std::string_view header, std::string_view data = {}) {
    const std::uint64_t length = header.size();
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, sizeof length);
    return bytes.append(header).append(data);
}

SafetensorsFile parse(std::string_view bytes) {
    return {std::as_bytes(std::span(bytes)), "x.safetensors"};
}

std::string_view text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <class T>
TensorInfo tensor(std::string name, Dtype dtype, Shape shape, const std::vector<T>& values) {
    return {std::move(name), dtype, shape, std::as_bytes(std::span(values))};
}

TEST(Safetensors, ReadsWhatTheFormatSays) {
    const std::string bytes =
        image(R"({"w":{"dtype":"F8_E4M3","shape":[2,1],"data_offsets":[4,6]},)"
              R"("__metadata__":{"format":"pt","k":"v"},)"
              R"( "s":{"shape":[],"data_offsets":[0,4],"dtype":"F32"},)"
              R"("e":{"dtype":"I64","shape":[0,7],"data_offsets":[4,4]}}   )",
              "abcdxy");
    const SafetensorsFile file = parse(bytes);

    ASSERT_EQ(file.entries().size(), 3u);
    EXPECT_EQ(file.entries()[0].name, "e");
    EXPECT_EQ(file.at("w").dtype, Dtype::e4m3);
    EXPECT_EQ(file.at("w").shape, (Shape{2, 1}));
    EXPECT_EQ(text(file.at("w").bytes), "xy");
    EXPECT_EQ(file.at("s").shape, Shape{});
    EXPECT_EQ(text(file.at("s").bytes), "abcd");
    EXPECT_EQ(file.at("e").shape, (Shape{0, 7}));
    EXPECT_TRUE(file.at("e").bytes.empty());
    EXPECT_EQ(file.metadata(), (SafetensorsMetadata{{"format", "pt"}, {"k", "v"}}));
}

TEST(Safetensors, AFileWithoutTensorsIsLegal) {
    EXPECT_TRUE(parse(image("{}")).entries().empty());
    EXPECT_TRUE(parse(image(R"({"__metadata__":{}}  )")).entries().empty());
}

TEST(Safetensors, AbsentTensorsAreNothingOrAnErrorWithTheNearestName) {
    const std::string bytes =
        image(R"({"layers.0.up":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
              R"("layers.0.down":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
              "ab");
    const SafetensorsFile file = parse(bytes);
    EXPECT_FALSE(file.find("layers.0.dwon"));
    EXPECT_FALSE(file.contains("layers.0.dwon"));
    EXPECT_TRUE(file.contains("layers.0.down"));
    EXPECT_EQ(error_of([&] { file.at("layers.0.dwon"); }),
              "x.safetensors: expected a tensor 'layers.0.dwon', got none of that name among 2\n"
              "  The nearest name is 'layers.0.down'.");
}

TEST(Safetensors, ListsButDoesNotReadDtypesAndRanksThatOctavoLacks) {
    const std::string bytes =
        image(R"({"b":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]},)"
              R"("f":{"dtype":"F4","shape":[2],"data_offsets":[2,3]},)"
              R"("r":{"dtype":"U8","shape":[1,1,1,1,1,3],"data_offsets":[3,6]}})",
              "abcdef");
    const SafetensorsFile file = parse(bytes);
    EXPECT_EQ(file.entries()[0].dtype, "BOOL");
    EXPECT_EQ(file.entries()[2].dims, (std::vector<std::int64_t>{1, 1, 1, 1, 1, 3}));
    const std::string message = error_of([&] { file.at("b"); });
    EXPECT_TRUE(contains(message, "x.safetensors: tensor 'b': expected one of the dtypes F64 F32"));
    EXPECT_TRUE(contains(message, "got BOOL"));
    EXPECT_TRUE(contains(error_of([&] { file.find("f"); }), "got F4"));
    EXPECT_TRUE(contains(error_of([&] { file.at("r"); }),
                         "tensor 'r': expected at most 5 dimensions, got 6"));
}

struct BadHeader {
    const char* label;
    std::string header;
    std::string data;
    const char* message;  // a part of it

    friend std::ostream& operator<<(std::ostream& out, const BadHeader& c) {
        return out << c.label;
    }
};

// A header of one tensor 'a' with these fields.
std::string one(std::string_view fields) { return R"({"a":{)" + std::string(fields) + "}}"; }

std::vector<BadHeader> bad_headers() {
    const std::string a = R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]})";
    return {
        {"NotAnObject", "[1]", "", "expected a header that starts with '{'"},
        {"LeadingSpace", " {}", "", "expected a header that starts with '{'"},
        {"EndsInNewline", "{}\n", "", "expected a header that ends in '}' and spaces"},
        {"TextAfterObject", "{}{}", "", "expected the header to be JSON, got at byte 11"},
        {"NulAfterObject", std::string("{}\0}", 4), "", "holds no NUL"},
        {"NotUtf8", "{\"\xff\":{}}", "", "expected the header to be JSON"},
        {"Comment", "{/**/}", "", "expected the header to be JSON"},
        {"Unfinished", R"({"a":{"dtype":}})", "", "expected the header to be JSON"},
        {"DeepList", R"({"a":)" + std::string(100000, '[') + "}", "", "'a': expected an object"},
        {"DeepObject", R"({"a":{"x":{"y":{}}}})", "", "got 'x'"},
        {"TensorIsNumber", R"({"a":5})", "", "tensor 'a': expected an object, got a number"},
        {"MetadataIsList", R"({"__metadata__":[]})", "", "expected an object, got a list"},
        {"MetadataNumber", R"({"__metadata__":{"k":1}})", "",
         "metadata 'k': expected a string, got a number"},
        {"MetadataTwice", R"({"__metadata__":{},"__metadata__":{}})", "",
         "__metadata__ appears twice"},
        {"MetadataKeyTwice", R"({"__metadata__":{"k":"1","k":"2"}})", "",
         "metadata key 'k' appears twice"},
        {"TensorTwice", "{" + a + "," + a + "}", "xy", "tensor 'a' appears twice"},
        {"FieldTwice", one(R"("dtype":"U8","dtype":"U8")"), "", "'a': 'dtype' appears twice"},
        {"NoDtype", one(R"("shape":[],"data_offsets":[0,1])"), "x", "'a': expected dtype, shape"},
        {"NoOffsets", one(R"("dtype":"U8","shape":[])"), "x", "got no data_offsets"},
        {"UnknownField", one(R"("strides":[1])"), "", "'a': expected only dtype, shape and"},
        {"DtypeIsNumber", one(R"("dtype":8)"), "", "'a': dtype: expected a string, got a number"},
        {"DtypeIsNull", one(R"("dtype":null)"), "", "dtype: expected a string, got null"},
        {"ShapeIsObject", one(R"("shape":{})"), "", "shape: expected a list, got an object"},
        {"ShapeIsString", one(R"("shape":"2")"), "", "shape: expected a list, got a string"},
        {"ShapeNegative", one(R"("shape":[-1])"), "", "'a': shape: expected numbers from 0"},
        {"ShapeFraction", one(R"("shape":[1.5])"), "", "2^63 - 1, got '1.5'"},
        {"ShapeBeyondInt64", one(R"("shape":[9223372036854775808])"), "",
         "got 9223372036854775808"},
        {"ShapeNested", one(R"("shape":[[1]])"), "", "'a': shape: expected numbers"},
        {"OneOffset", one(R"("data_offsets":[0])"), "", "expected two numbers"},
        {"ThreeOffsets", one(R"("data_offsets":[0,1,2])"), "", "got more than two"},
        {"OffsetIsFloat", one(R"("data_offsets":[0,1.0])"), "", "'a': data_offsets: expected two"},
        {"OffsetIsExponent", one(R"("data_offsets":[0,1e2])"), "", "got '1e2'"},
        {"OffsetBeyondUint64", one(R"("data_offsets":[0,18446744073709551616])"), "",
         "got '18446744073709551616'"},
        {"OffsetBeyondDouble", one(R"("data_offsets":[0,1e999])"), "", "1e999"},
        {"OffsetIsBool", one(R"("data_offsets":[0,true])"), "", "got a boolean"},
        {"Reversed", one(R"("dtype":"U8","shape":[0],"data_offsets":[2,0])"), "xy",
         "'a': data_offsets: expected begin <= end, got [2, 0]"},
        {"Truncated", one(R"("dtype":"U8","shape":[9],"data_offsets":[0,9])"), "xy",
         "'a': data_offsets: expected an end within the 2 bytes of data, got 9"},
        {"SizeMismatch", one(R"("dtype":"BF16","shape":[3,1],"data_offsets":[0,2])"), "xy",
         "'a': expected 6 bytes for shape [3, 1] of BF16, got 2 (data_offsets [0, 2])"},
        {"ProductOverflows",
         one(R"("dtype":"F32","shape":[4294967296,1073741824],"data_offsets":[0,0])"), "",
         "'a': shape: expected fewer than 2^63 bytes"},
        {"ProductOverflowsBesideZero",
         one(R"("dtype":"U8","shape":[0,4611686018427387904,4],"data_offsets":[0,0])"), "",
         "'a': shape: expected fewer than 2^63 bytes"},
        {"Overlap", "{" + a + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", "xyz",
         "'b': expected its data at offset 2, got 1 (it overlaps another tensor)"},
        {"SameBytes", "{" + a + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "xy",
         "'b': expected its data at offset 2, got 0 (it overlaps another tensor)"},
        {"Hole", "{" + a + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}})", "xy.z",
         "'b': expected its data at offset 2, got 3 (a gap before it)"},
        {"HoleAtStart", one(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])"), ".x",
         "'a': expected its data at offset 0, got 1"},
        {"TrailingBytes", "{" + a + "}", "xyz", "expected 2 bytes of data, got 3"},
        {"DataWithoutTensors", "{}", "x", "expected 0 bytes of data, got 1"},
    };
}

class BadHeaders : public testing::TestWithParam<BadHeader> {};

TEST_P(BadHeaders, AreRefused) {
    const BadHeader& c = GetParam();
    const std::string bytes = image(c.header, c.data);
    const std::string message = error_of([&] { parse(bytes); });
    EXPECT_TRUE(message.starts_with("x.safetensors: ")) << message;
    EXPECT_TRUE(contains(message, c.message));
    EXPECT_TRUE(contains(message, "\n  The file is damaged"));
}

INSTANTIATE_TEST_SUITE_P(Safetensors, BadHeaders, testing::ValuesIn(bad_headers()),
                         [](const auto& test) { return test.param.label; });

TEST(Safetensors, AHeaderLengthThatLiesIsRefused) {
    const std::string good = image("{}");
    EXPECT_TRUE(contains(error_of([&] { parse(good.substr(0, 7)); }), "got a file of 7 bytes"));
    EXPECT_TRUE(contains(error_of([&] { parse(""); }), "got a file of 0 bytes"));
    const std::string message = error_of([&] { parse(good.substr(0, 9)); });
    EXPECT_TRUE(contains(message, "expected a header of 2 bytes, got a file of 9"));
    EXPECT_TRUE(contains(message, "truncated"));
    std::string huge = good;
    std::memset(huge.data(), 0xff, 8);
    EXPECT_TRUE(contains(error_of([&] { parse(huge); }),
                         "expected a header of at most 100000000 bytes, got 18446744073709551615"));
    EXPECT_TRUE(contains(error_of([&] { parse(std::string(8, '\0')); }), "starts with '{'"));
    EXPECT_TRUE(contains(error_of([] { parse("version https://git-lfs.github.com/spec/v1\noid"); }),
                         "git lfs pull"));
}

TEST(Safetensors, NamesInErrorsAreShortAndPrintable) {
    EXPECT_EQ(printable("a\nb\x1b[31m"), "a?b?[31m");
    const std::string shown = printable(std::string(159, 'a') + "\u00e9\u00e9");
    EXPECT_EQ(shown, std::string(159, 'a') + "...");
}

TEST(Safetensors, MissingAndEmptyFilesAreNamed) {
    const Scratch folder;
    std::string message = error_of([&] { SafetensorsFile(folder / "none"); });
    EXPECT_TRUE(contains(message, (folder / "none").string()));
    EXPECT_TRUE(contains(message, "No such file"));
    folder.write("empty", "");
    message = error_of([&] { SafetensorsFile(folder / "empty"); });
    EXPECT_TRUE(contains(message, (folder / "empty").string()));
    EXPECT_TRUE(contains(message, "a file of 0 bytes"));
}

TEST(WriteSafetensors, WritesTheFormatByteForByte) {
    const Scratch folder;
    const std::vector<std::uint8_t> codes = {0x7f, 0x38, 0xff};
    const std::vector<float> values = {1.0f, std::numeric_limits<float>::quiet_NaN()};
    const std::vector<std::int64_t> ids = {-1};
    const TensorInfo tensors[] = {tensor("codes", Dtype::e4m3, {3}, codes),
                                  tensor("w", Dtype::f32, {1, 2}, values),
                                  tensor("ids", Dtype::i64, {}, ids)};
    write_safetensors(folder / "f", tensors, {{"step", "7 \"x\""}});

    std::string header = R"({"__metadata__":{"format":"pt","step":"7 \"x\""},)"
                         R"("ids":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                         R"("w":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},)"
                         R"("codes":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[16,19]}})";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const std::string data = std::string(text(tensors[2].bytes)) +
                             std::string(text(tensors[1].bytes)) +
                             std::string(text(tensors[0].bytes));
    EXPECT_EQ(read_file(folder / "f"), image(header, data));
    EXPECT_FALSE(std::filesystem::exists(folder / "f.tmp"));

    const SafetensorsFile file(folder / "f");
    EXPECT_EQ(text(file.at("w").bytes), text(tensors[1].bytes));
    EXPECT_EQ(file.metadata().at("step"), "7 \"x\"");
}

TEST(WriteSafetensors, EveryDtypeSurvives) {
    const Scratch folder;
    const std::vector<std::uint8_t> bytes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255};
    std::vector<TensorInfo> tensors;
    for (Dtype d : kAllDtypes) {
        const auto size = static_cast<std::int64_t>(2 * size_of(d));
        tensors.push_back({std::string(name(d)),
                           d,
                           {1, 2, 1, 1, 1},
                           std::as_bytes(std::span(bytes)).first(static_cast<std::size_t>(size))});
        tensors.push_back({std::string(name(d)) + ".empty", d, {4, 0}, {}});
    }
    write_safetensors(folder / "f", tensors);
    const SafetensorsFile file(folder / "f");
    ASSERT_EQ(file.entries().size(), tensors.size());
    for (const TensorInfo& t : tensors) {
        const TensorInfo u = file.at(t.name);
        EXPECT_EQ(u.dtype, t.dtype) << t.name;
        EXPECT_EQ(u.shape, t.shape) << t.name;
        EXPECT_EQ(text(u.bytes), text(t.bytes)) << t.name;
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(u.bytes.data()) % size_of(u.dtype), 0u);
    }
}

TEST(WriteSafetensors, MayReplaceTheFileItsTensorsComeFrom) {
    const Scratch folder;
    const std::vector<std::uint8_t> bytes(100000, 42);
    const TensorInfo first[] = {tensor("a", Dtype::u8, {100000}, bytes)};
    write_safetensors(folder / "f", first);
    const SafetensorsFile source(folder / "f");
    const TensorInfo second[] = {source.at("a"), {"b", Dtype::u8, {100000}, source.at("a").bytes}};
    write_safetensors(folder / "f", second);
    EXPECT_EQ(text(SafetensorsFile(folder / "f").at("b").bytes), text(first[0].bytes));
}

TEST(WriteSafetensors, RefusesWhatCannotBeReadBack) {
    const Scratch folder;
    const std::vector<float> values = {1, 2};
    const auto write = [&](std::vector<TensorInfo> tensors, SafetensorsMetadata metadata = {}) {
        return error_of([&] { write_safetensors(folder / "f", tensors, metadata); });
    };
    const TensorInfo a = tensor("a", Dtype::f32, {2}, values);
    EXPECT_TRUE(contains(write({tensor("a", Dtype::f32, {3}, values)}),
                         "tensor 'a': expected 12 bytes for f32 [3], got 8"));
    EXPECT_TRUE(contains(write({a, a}), "two tensors are named 'a'"));
    EXPECT_TRUE(contains(write({tensor("__metadata__", Dtype::f32, {2}, values)}),
                         "cannot be the name of a tensor"));
    EXPECT_TRUE(contains(write({tensor("\xff", Dtype::f32, {2}, values)}), "in UTF-8"));
    EXPECT_TRUE(contains(write({a}, {{"k", "\xc3"}}), "in UTF-8"));
    EXPECT_TRUE(std::filesystem::is_empty(folder / ""));
}

TEST(WriteSafetensors, AFailedWriteLeavesNothingBehind) {
    const Scratch folder;
    std::filesystem::create_directories(folder / "f/in_the_way");
    EXPECT_TRUE(contains(error_of([&] { write_safetensors(folder / "f", {}); }),
                         (folder / "f").string() + ": cannot rename"));
    EXPECT_FALSE(std::filesystem::exists(folder / "f.tmp"));
    EXPECT_TRUE(
        contains(error_of([&] { write_safetensors(folder / "none/f", {}); }), "cannot create"));
}

class Model : public testing::Test {
  protected:
    void write_shard(std::string_view file, std::string name) {
        const std::vector<std::uint8_t> bytes(name.begin(), name.end());
        const TensorInfo tensors[] = {
            tensor(name, Dtype::u8, {static_cast<std::int64_t>(bytes.size())}, bytes)};
        write_safetensors(folder_ / file, tensors);
    }
    void write_index(std::string_view text) { folder_.write("model.safetensors.index.json", text); }
    std::string open_error() {
        return error_of([&] { SafetensorsModel{folder_ / ""}; });
    }

    Scratch folder_;
};

TEST_F(Model, OneFile) {
    write_shard("model.safetensors", "a");
    const SafetensorsModel model(folder_ / "");
    EXPECT_EQ(model.names(), (std::vector<std::string>{"a"}));
    EXPECT_EQ(text(model.at("a").bytes), "a");
}

TEST_F(Model, Shards) {
    write_shard("model-1.safetensors", "embed");
    write_shard("model-2.safetensors", "head");
    write_index(R"({"metadata":{"total_size":9,"note":[{"weight_map":0}]},"weight_map":)"
                R"({"embed":"model-1.safetensors","head":"model-2.safetensors"}})");
    const SafetensorsModel model(folder_ / "");
    EXPECT_EQ(model.names(), (std::vector<std::string>{"embed", "head"}));
    EXPECT_EQ(text(model.at("head").bytes), "head");
    EXPECT_FALSE(model.find("haed"));
    EXPECT_EQ(error_of([&] { model.at("haed"); }),
              (folder_ / "").string() +
                  ": expected a tensor 'haed', got none of that name among 2\n"
                  "  The nearest name is 'head'.");
}

TEST_F(Model, MissingShardsAndTensorsAreNamed) {
    EXPECT_TRUE(
        contains(open_error(), "expected model.safetensors or model.safetensors.index.json"));
    write_shard("model-1.safetensors", "a");
    write_index(R"({"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}})");
    EXPECT_TRUE(contains(open_error(), "expected 2 shards, 1 missing: 'model-2.safetensors'"));
    write_shard("model-2.safetensors", "c");
    EXPECT_TRUE(contains(open_error(),
                         "model-2.safetensors: expected the tensors of "
                         "model.safetensors.index.json, missing: 'b'"));
}

TEST_F(Model, ATensorOfTwoShardsIsNamedWithBoth) {
    write_shard("model-1.safetensors", "a");
    std::filesystem::copy_file(folder_ / "model-1.safetensors", folder_ / "model-2.safetensors");
    write_index(R"({"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}})");
    EXPECT_TRUE(contains(open_error(),
                         "model-2.safetensors: expected tensor 'a' in "
                         "model-1.safetensors alone, as "
                         "model.safetensors.index.json says, got it here, too"));
}

TEST_F(Model, SizesAddUpToTheIndexesTotal) {
    write_shard("model-1.safetensors", "embed");
    write_shard("model-2.safetensors", "head");
    const auto index_with = [&](const char* metadata) {
        write_index(fmt::format(R"({{"metadata":{},"weight_map":{{"embed":"model-1.safetensors",)"
                                R"("head":"model-2.safetensors"}}}})",
                                metadata));
    };
    for (const char* fits :
         {R"({"total_size":9})", R"({"total_size":9.0})", "{}", "null", R"({"total_size":null})"}) {
        index_with(fits);
        EXPECT_NO_THROW(SafetensorsModel{folder_ / ""}) << fits;
    }
    index_with(R"({"total_size":8})");
    EXPECT_TRUE(contains(open_error(),
                         "model.safetensors.index.json: expected tensors of 8 bytes together "
                         "(total_size), got 9"));
}

// As in transformers.
TEST_F(Model, TheSingleFileWinsOverAnIndex) {
    write_shard("model.safetensors", "a");
    write_index("no JSON");
    EXPECT_EQ(SafetensorsModel(folder_ / "").names(), (std::vector<std::string>{"a"}));
}

TEST_F(Model, BadIndexesAreRefused) {
    const auto parse_error = [](std::string_view json) {
        return error_of([&] { parse_safetensors_index(json, "i.json"); });
    };
    EXPECT_TRUE(contains(parse_error(""), "i.json: expected JSON, got at byte"));
    EXPECT_TRUE(contains(parse_error("[]"), "expected a JSON object, got a list"));
    EXPECT_TRUE(contains(parse_error("{}"), "expected a key 'weight_map', got none"));
    EXPECT_TRUE(
        contains(parse_error(R"({"weight_map":[]})"), "weight_map: expected an object, got array"));
    EXPECT_TRUE(contains(parse_error(R"({"weight_map":{"a":1}})"),
                         "tensor 'a': expected the name of a file, got number"));
    EXPECT_TRUE(contains(parse_error(R"({"weight_map":{"a":"x","a":"y"}})"),
                         "weight_map: 'a' appears twice"));
    EXPECT_TRUE(contains(parse_error(R"({"weight_map":{},"weight_map":{}})"),
                         "'weight_map' appears twice"));
    EXPECT_TRUE(contains(parse_error(R"({"weight_map":{"a":"../b"}})"),
                         "tensor 'a': expected the name of a file beside the index, got '../b'"));
    EXPECT_TRUE(contains(parse_error(std::string_view("{\"weight_map\":{}}\0", 18)), "a NUL byte"));
    EXPECT_TRUE(contains(parse_error(R"({"x":)" + std::string(100000, '[')), "more than 32 deep"));
    for (const char* size : {"-1", "1.5", "\"9\"", "1e300", "true"}) {
        EXPECT_TRUE(contains(parse_error(fmt::format(
                                 R"({{"metadata":{{"total_size":{}}},"weight_map":{{}}}})", size)),
                             "total_size"))
            << size;
    }
}

}  // namespace
}  // namespace octavo
