#include "io/token_file.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>

#include "io/token_file_writer.h"
#include "scratch.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;
using Tokens = std::vector<std::int32_t>;

// A header of llm.c's making, and `payload` bytes.
std::string image(std::int32_t magic, std::int32_t version, std::int32_t tokens,
                  std::string_view payload) {
    std::array<std::int32_t, 256> header{magic, version, tokens};
    std::string bytes(sizeof header, '\0');
    std::memcpy(bytes.data(), header.data(), sizeof header);
    return bytes.append(payload);
}

void write_tokens(const fs::path& path, std::int64_t vocabulary, const Tokens& tokens) {
    TokenFileWriter file(path, vocabulary);
    file.write(tokens);
    file.close();
}

Tokens all(const TokenFile& file) {
    Tokens tokens(static_cast<std::size_t>(file.size()));
    file.read(0, tokens);
    return tokens;
}

TEST(TokenFile, ReadsVersion1) {
    const Scratch dir;
    const TokenFile file(
        dir.write("a.bin", image(20240520, 1, 3, std::string_view("\x01\0\x02\x01\xff\xff", 6))));
    EXPECT_EQ(file.size(), 3);
    EXPECT_EQ(file.token_bytes(), 2u);
    EXPECT_EQ(file[1], 0x102u);
    EXPECT_EQ(all(file), (Tokens{1, 0x102, 0xffff}));
}

TEST(TokenFile, ReadsVersion7) {
    const Scratch dir;
    const TokenFile file(
        dir.write("a.bin", image(20240801, 7, 2, std::string_view("\x01\0\0\0\x56\x34\x12\0", 8))));
    EXPECT_EQ(file.size(), 2);
    EXPECT_EQ(file.token_bytes(), 4u);
    EXPECT_EQ(file[1], 0x123456u);
    EXPECT_EQ(all(file), (Tokens{1, 0x123456}));
}

TEST(TokenFile, WriterMatchesTheFormatByteForByte) {
    const Scratch dir;
    write_tokens(dir / "a.bin", 65536, {1, 0x102, 0xffff});
    EXPECT_EQ(Scratch::read(dir / "a.bin"),
              image(20240520, 1, 3, std::string_view("\x01\0\x02\x01\xff\xff", 6)));
    write_tokens(dir / "b.bin", 65537, {1, 65536});
    EXPECT_EQ(Scratch::read(dir / "b.bin"),
              image(20240801, 7, 2, std::string_view("\x01\0\0\0\0\0\x01\0", 8)));
}

TEST(TokenFile, LongFilesRoundTrip) {
    const Scratch dir;
    for (const std::int64_t vocabulary : {50000, 200000}) {
        Tokens tokens(1234567);  // several of the writer's buffers
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            tokens[i] = static_cast<std::int32_t>(i * 7919 % static_cast<std::size_t>(vocabulary));
        }
        {
            TokenFileWriter file(dir / "a.bin", vocabulary);
            file.write(std::span(tokens).first(1));
            file.write({});
            file.write(std::span(tokens).subspan(1));
            EXPECT_EQ(file.size(), 1234567);
            file.close();
        }
        const TokenFile file(dir / "a.bin");
        file.check_contents(vocabulary);
        EXPECT_EQ(all(file), tokens);
        Tokens part(5);
        file.read(1000, part);
        EXPECT_EQ(part, Tokens(tokens.begin() + 1000, tokens.begin() + 1005));
    }
}

TEST(TokenFile, ReadStaysInside) {
    const Scratch dir;
    write_tokens(dir / "a.bin", 10, {1, 2, 3});
    const TokenFile file(dir / "a.bin");
    Tokens two(2);
    file.read(1, two);
    EXPECT_EQ(two, (Tokens{2, 3}));
    file.read(3, {});
    EXPECT_TRUE(contains(error_of([&] { file.read(2, two); }), "outside the file of 3 tokens"));
    EXPECT_THROW(file.read(-1, two), Error);
    EXPECT_THROW(file.read(std::numeric_limits<std::int64_t>::max(), two), Error);
}

struct BadFile {
    const char* name;
    std::string bytes;
    const char* message;
};
void PrintTo(const BadFile& bad, std::ostream* out) { *out << bad.name; }

class BadTokenFile : public testing::TestWithParam<BadFile> {};

TEST_P(BadTokenFile, IsRefusedWithItsPath) {
    const Scratch dir;
    const fs::path path = dir.write("bad.bin", GetParam().bytes);
    const std::string error = error_of([&] { TokenFile{path}; });
    EXPECT_TRUE(contains(error, GetParam().message));
    EXPECT_EQ(error.find(path.string() + ": "), 0u) << error;
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadTokenFile,
    testing::Values(BadFile{"empty", "", "got an empty file"},
                    BadFile{"short_header", std::string(1023, 'x'),
                            "header of 1024 bytes, got 1023"},
                    BadFile{"magic", image(20240521, 1, 1, "ab"),
                            "(magic 20240520 or 20240801), got magic 20240521"},
                    BadFile{"unfinished", image(0, 0, 0, "ab"), "got magic 0"},
                    BadFile{"version", image(20240520, 7, 1, "ab"),
                            "expected version 1 with magic 20240520, got version 7"},
                    BadFile{"version_7", image(20240801, 1, 1, "abcd"),
                            "expected version 7 with magic 20240801, got version 1"},
                    BadFile{"odd", image(20240520, 1, 2, "abc"),
                            "expected 2 bytes a token after the header, got 3 bytes"},
                    BadFile{"odd_7", image(20240801, 7, 1, "abcdef"),
                            "expected 4 bytes a token after the header, got 6 bytes"},
                    BadFile{"truncated", image(20240520, 1, 3, "abcd"),
                            "says 3 tokens, the file has 2\n  The file is truncated"},
                    BadFile{"trailing", image(20240520, 1, 1, "abcd"),
                            "says 1 tokens, the file has 2\n  The file is damaged"},
                    BadFile{"negative", image(20240520, 1, -1, "ab"), "says -1 tokens"},
                    BadFile{"no_tokens", image(20240520, 1, 0, ""), "holds no tokens"}),
    testing::PrintToStringParamName());

TEST(TokenFile, MissingFileIsNamed) {
    EXPECT_TRUE(contains(error_of([] { TokenFile("/nowhere/a.bin"); }), "/nowhere/a.bin"));
}

TEST(CheckContents, NamesTheFirstIdOutside) {
    const Scratch dir;
    for (const std::int64_t vocabulary : {1000, 100000}) {
        // Every thread finds some; the first of all must be named.
        Tokens tokens(600000, 7);
        for (std::size_t i = 234567; i < tokens.size(); i += 1000) tokens[i] = 501;
        tokens[234567] = 500;
        write_tokens(dir / "a.bin", vocabulary, tokens);
        const TokenFile file(dir / "a.bin");
        file.check_contents(502);
        const std::string first = error_of([&] { file.check_contents(500); });
        EXPECT_TRUE(contains(first, (dir / "a.bin").string()));
        EXPECT_TRUE(contains(first, "below the vocabulary of 500, got 500 at position 234567"));
        const std::string second = error_of([&] { file.check_contents(501); });
        EXPECT_TRUE(contains(second, "got 501 at position 235567"));
        EXPECT_TRUE(contains(error_of([&] { file.check_contents(7); }), "got 7 at position 0"));
    }
}

TEST(CheckContents, KnowsTheEdgesOfBothWidths) {
    const Scratch dir;
    const TokenFile narrow(dir.write("a.bin", image(20240520, 1, 1, "\xff\xff")));
    narrow.check_contents(65536);
    narrow.check_contents(1'000'000);
    EXPECT_TRUE(contains(error_of([&] { narrow.check_contents(65535); }), "got 65535"));
    const TokenFile wide(dir.write("b.bin", image(20240801, 7, 1, "\xff\xff\xff\xff")));
    // Ids of 2^31 and more would come out of `read` negative.
    EXPECT_TRUE(contains(error_of([&] { wide.check_contents(128256); }), "got 4294967295"));
}

TEST(TokenFileWriter, RefusesIdsOutsideTheVocabulary) {
    const Scratch dir;
    TokenFileWriter file(dir / "a.bin", 257);
    file.write(Tokens{0, 256});
    EXPECT_TRUE(contains(error_of([&] { file.write(Tokens{1, 257}); }),
                         "below the vocabulary of 257, got 257 at position 3"));
    EXPECT_THROW(file.write(Tokens{-1}), Error);
}

TEST(TokenFileWriter, LeavesTheOldFileUntilClose) {
    const Scratch dir;
    write_tokens(dir / "a.bin", 10, {1, 2, 3});
    {
        TokenFileWriter file(dir / "a.bin", 10);
        file.write(Tokens{4});
        EXPECT_TRUE(fs::exists(dir / "a.bin.tmp"));
    }
    EXPECT_FALSE(fs::exists(dir / "a.bin.tmp"));
    EXPECT_EQ(all(TokenFile(dir / "a.bin")), (Tokens{1, 2, 3}));
    write_tokens(dir / "a.bin", 10, {4});
    EXPECT_EQ(all(TokenFile(dir / "a.bin")), (Tokens{4}));
    EXPECT_FALSE(fs::exists(dir / "a.bin.tmp"));
}

TEST(TokenFileWriter, RefusesEmptyAndUnwritableFiles) {
    const Scratch dir;
    EXPECT_TRUE(contains(error_of([&] { write_tokens(dir / "a.bin", 10, {}); }), "no tokens"));
    EXPECT_FALSE(fs::exists(dir / "a.bin"));
    EXPECT_TRUE(contains(error_of([&] { write_tokens(dir / "no/a.bin", 10, {1}); }), "no/a.bin"));
}

TEST(TokenFileWriter, RefusesTwoToThe31Tokens) {
    const Scratch dir;
    TokenFileWriter file(dir / "a.bin", 10);
    file.write(Tokens{1});
    // The count is checked before the tokens are looked at, so the span need not be real memory.
    static const std::int32_t one = 1;
    const std::span<const std::int32_t> huge(&one, std::size_t{1} << 31);
    EXPECT_TRUE(contains(error_of([&] { file.write(huge); }), "fewer than 2^31 tokens"));
    EXPECT_EQ(file.size(), 1);
}

}  // namespace
}  // namespace octavo
