#include "io/text_source.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <vector>

#include "scratch.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;
using Documents = std::vector<std::string>;

std::string zstd(std::string_view text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return out;
}

Documents read_all(const fs::path& path, const TextOptions& options = {}) {
    TextSource source(path, options);
    Documents documents;
    for (std::string document; source.next(document);) documents.push_back(document);
    return documents;
}

std::string joined(const Documents& documents) {
    std::string text;
    for (const auto& document : documents) text += document;
    return text;
}

TEST(PlainText, SeparatorLinesEndDocuments) {
    const Scratch dir;
    const auto path = dir.write("a.txt",
                                "<|endoftext|>\none\n\ntwo <|endoftext|>\n<|endoftext|>\r\n"
                                "<|endoftext|>\n \n<|endoftext|>\nlast");
    TextSource source(path);
    std::string document;
    Documents documents;
    while (source.next(document)) documents.push_back(document);
    EXPECT_EQ(documents, (Documents{"one\n\ntwo <|endoftext|>\n", " \n", "last"}));
    EXPECT_EQ(source.empty_documents(), 2);
    EXPECT_FALSE(source.next(document));
    EXPECT_EQ(source.file().bytes_read(), source.file().bytes_total());
}

TEST(PlainText, SeparatorIsAnOption) {
    const Scratch dir;
    const auto path = dir.write("a.txt", "a\n---\nb\n<|endoftext|>\n");
    EXPECT_EQ(read_all(path, {.separator = "---"}), (Documents{"a\n", "b\n<|endoftext|>\n"}));
    EXPECT_EQ(read_all(path, {.separator = ""}).size(), 1u);
}

TEST(PlainText, SeparatedDocumentsAreNotCut) {
    const Scratch dir;
    std::string paragraphs;
    for (int i = 0; i < 20000; ++i) paragraphs += "some text\n\n";
    const auto path = dir.write("a.txt", "x\n<|endoftext|>\n" + paragraphs);
    EXPECT_EQ(read_all(path), (Documents{"x\n", paragraphs}));
}

TEST(PlainText, BlocksEndAtBlankLines) {
    const Scratch dir;
    std::string text;
    for (int i = 0; i < 3000; ++i) text += "paragraph " + std::to_string(i) + "\nline\n\n";
    const Documents documents = read_all(dir.write("a.txt", text));
    EXPECT_EQ(joined(documents), text);
    ASSERT_GT(documents.size(), 10u);
    for (std::size_t i = 0; i + 1 < documents.size(); ++i) {
        EXPECT_TRUE(documents[i].ends_with("line\n\n"));
        EXPECT_GE(documents[i].size(), 4096u);
        EXPECT_LT(documents[i].size(), 4200u);
    }
}

TEST(PlainText, BlocksGrowWithTheFile) {
    const Scratch dir;
    std::string text;
    while (text.size() < (20u << 20)) text += "a line of text\n\n";
    const Documents documents = read_all(dir.write("a.txt", text));
    EXPECT_EQ(joined(documents), text);
    EXPECT_NEAR(static_cast<double>(documents.size()), 20.0 * 1024 / 64, 2);
}

TEST(PlainText, WithoutBlankLinesOrLinesBlocksStillEnd) {
    const Scratch dir;
    std::string lines, one_line;
    for (int i = 0; i < 10000; ++i) lines += "no blank line here\n";
    one_line.assign(100000, 'x');
    const Documents by_line = read_all(dir.write("a.txt", lines));
    EXPECT_EQ(joined(by_line), lines);
    EXPECT_GT(by_line.size(), 5u);
    for (const auto& document : by_line) EXPECT_TRUE(document.ends_with('\n'));
    const Documents anywhere = read_all(dir.write("b.txt", one_line));
    EXPECT_EQ(joined(anywhere), one_line);
    EXPECT_GT(anywhere.size(), 5u);
}

TEST(PlainText, AnyBytesComeThrough) {
    const Scratch dir;
    std::string bytes;
    for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
    EXPECT_EQ(read_all(dir.write("a.txt", bytes)), (Documents{bytes}));
    EXPECT_EQ(read_all(dir.write("b", "\r\n")), (Documents{"\r\n"}));
    EXPECT_EQ(read_all(dir.write("c", "x")), (Documents{"x"}));
    EXPECT_EQ(read_all(dir.write("d", "")), Documents{});
}

TEST(PlainText, TooLongADocumentIsAnError) {
    const Scratch dir;
    const auto path = dir.write("a.txt", "<|endoftext|>\n" + std::string(3000, 'x') + "\n");
    EXPECT_TRUE(contains(error_of([&] { read_all(path, {.max_bytes = 3000}); }),
                         "the document that ends in line 2 is longer than 3000 bytes"));
    EXPECT_EQ(read_all(path, {.max_bytes = 3001}).size(), 1u);
}

TEST(Jsonl, ReadsTheColumn) {
    const Scratch dir;
    const auto path =
        dir.write("a.jsonl",
                  "\xef\xbb\xbf{\"text\": \"one\\n\\u00e9\\ud83d\\ude00\", \"id\": 1}\n"
                  "\n  \r\n"
                  "{\"meta\": {\"text\": 5, \"a\": [{\"text\": \"no\"}]}, \"text\": \"two\"}\r\n"
                  "{\"text\": \"\"}\n"
                  "{\"x\": null, \"text\": \"three\"}");
    TextSource source(path);
    Documents documents;
    for (std::string document; source.next(document);) documents.push_back(document);
    EXPECT_EQ(documents, (Documents{"one\n\xc3\xa9\xf0\x9f\x98\x80", "two", "three"}));
    EXPECT_EQ(source.empty_documents(), 1);
    EXPECT_EQ(source.options().format, TextFormat::jsonl);

    const auto other = dir.write("b.data", "{\"body\": \"x\", \"text\": 4}\n");
    EXPECT_EQ(read_all(other, {.format = TextFormat::jsonl, .column = "body"}), (Documents{"x"}));
}

struct BadLine {
    const char* name;
    std::string line;
    const char* message;
};
void PrintTo(const BadLine& bad, std::ostream* out) { *out << bad.name; }

class BadJsonl : public testing::TestWithParam<BadLine> {};

TEST_P(BadJsonl, IsNamedWithFileAndLine) {
    const Scratch dir;
    const auto path = dir.write(
        "bad.jsonl", "{\"text\": \"fine\"}\n\n" + GetParam().line + "\n{\"text\": \"b\"}\n");
    const std::string error = error_of([&] { read_all(path); });
    EXPECT_EQ(error.find(path.string() + ": line 3: "), 0u) << error;
    EXPECT_TRUE(contains(error, GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Lines, BadJsonl,
    testing::Values(
        BadLine{"not_json", "hello", "not valid JSON at byte 1"},
        BadLine{"cut", "{\"text\": \"abc", "not valid JSON"},
        BadLine{"trailing", "{\"text\": \"abc\"} x", "not valid JSON"},
        BadLine{"two_objects", "{\"text\": \"a\"}{\"text\": \"b\"}", "not valid JSON"},
        BadLine{"array", "[1, 2]", "expected a JSON object, got an array"},
        BadLine{"scalar", "\"text\"", "expected a JSON object, got a string"},
        BadLine{"missing", "{\"a\": 1, \"b\": 2}", "no field 'text' (its fields: a, b)"},
        BadLine{"none", "{}", "no field 'text' (its fields: none)"},
        BadLine{"number", "{\"text\": 1}", "a string in field 'text', got a number"},
        BadLine{"null", "{\"text\": null}", "a string in field 'text', got null"},
        BadLine{"list", "{\"text\": [\"a\"]}", "a string in field 'text', got an array"},
        BadLine{"object", "{\"text\": {}}", "a string in field 'text', got an object"},
        BadLine{"twice", "{\"text\": \"a\", \"text\": \"b\"}", "'text' appears twice"},
        BadLine{"not_utf8", "{\"text\": \"\xff\"}", "UTF-8"},
        BadLine{"half_pair", "{\"text\": \"\\ud800\"}", "surrogate"},
        BadLine{"deep", std::string(100000, '['), "expected a JSON object"},
        BadLine{"deep_field", "{\"a\":" + std::string(100000, '['), "not valid JSON"}),
    testing::PrintToStringParamName());

TEST(Jsonl, TooLongALineIsAnError) {
    const Scratch dir;
    const auto path =
        dir.write("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"" + std::string(500, 'x'));
    EXPECT_TRUE(contains(error_of([&] { read_all(path, {.max_bytes = 200}); }),
                         "line 2 is longer than 200 bytes"));
}

TEST(Zstd, IsFoundByItsFirstBytes) {
    const Scratch dir;
    std::string text;
    for (int i = 0; i < 100000; ++i) text += std::to_string(i * 7919) + "\n\n";
    EXPECT_EQ(joined(read_all(dir.write("a.txt", zstd(text)))), text);
    EXPECT_EQ(read_all(dir.write("b.jsonl.zst", zstd("{\"text\": \"a\"}\n"))), (Documents{"a"}));
    EXPECT_EQ(read_all(dir.write("c.zst", zstd(""))), Documents{});
}

TEST(Zstd, FramesMayFollowEachOther) {
    const Scratch dir;
    const std::string skippable("\x50\x2a\x4d\x18\x03\0\0\0abc", 11);
    const auto path = dir.write("a.zst", skippable + zstd("one ") + skippable + zstd("two"));
    EXPECT_EQ(read_all(path), (Documents{"one two"}));
}

TEST(Zstd, EveryTruncationIsAnError) {
    const Scratch dir;
    const std::string bytes = zstd("some text that compresses to a few bytes, bytes, bytes, bytes");
    for (std::size_t n = 4; n < bytes.size(); ++n) {
        const auto path = dir.write("a.zst", bytes.substr(0, n));
        EXPECT_TRUE(contains(error_of([&] { read_all(path); }), "truncated zstd data")) << n;
    }
}

TEST(Zstd, LongTruncatedFilesGiveTheirBeginningFirst) {
    const Scratch dir;
    std::string text;
    for (int i = 0; i < 300000; ++i) text += std::to_string(i * 719 % 65537) + "\n\n";
    const std::string bytes = zstd(text);
    TextSource source(dir.write("a.zst", bytes.substr(0, bytes.size() - 1)));
    std::string document;
    ASSERT_TRUE(source.next(document));
    EXPECT_EQ(document, text.substr(0, document.size()));
    EXPECT_TRUE(contains(error_of([&] {
                             while (source.next(document)) {
                             }
                         }),
                         "truncated zstd data"));
}

TEST(Zstd, DamageIsAnError) {
    const Scratch dir;
    std::string bytes = zstd("some text that compresses to a few bytes, bytes, bytes, bytes");
    bytes[8] = static_cast<char>(bytes[8] ^ 0xff);
    EXPECT_TRUE(contains(error_of([&] { read_all(dir.write("a.zst", bytes)); }), "zstd data"));
    const auto trailing = dir.write("b.zst", zstd("abc") + "garbage!");
    EXPECT_TRUE(contains(error_of([&] { read_all(trailing); }), "damaged zstd data"));
}

TEST(Zstd, ASmallFileGetsNoHugeWindow) {
    const Scratch dir;
    // A frame header that announces 2 GB in one segment.
    const auto path =
        dir.write("a.zst", std::string_view("\x28\xb5\x2f\xfd\xa0\0\0\0\x7f\1\0\0", 12));
    EXPECT_TRUE(contains(error_of([&] { read_all(path); }), "requires too much memory"));
}

TEST(InputFile, RefusesWhatItCannotRead) {
    const Scratch dir;
    EXPECT_TRUE(
        contains(error_of([] { InputFile("/nowhere/a.txt"); }), "/nowhere/a.txt: cannot open"));
    EXPECT_TRUE(contains(error_of([&] { InputFile(dir / ""); }), "got a directory"));
    EXPECT_TRUE(
        contains(error_of([&] { InputFile(dir.write("a.gz", "\x1f\x8b\x08\x00")); }), "gzip"));
}

}  // namespace
}  // namespace octavo
