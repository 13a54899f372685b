// Token files of other programs.
#include <gtest/gtest.h>

#include "foreign_tokens.h"
#include "io/token_file_writer.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;
using Tokens = std::vector<std::int32_t>;

Tokens all(const TokenFile& file) {
    Tokens tokens(static_cast<std::size_t>(file.size()));
    file.read(0, tokens);
    return tokens;
}

std::vector<std::int64_t> ends(const TokenFile& file) {
    std::vector<std::int64_t> found;
    if (!file.documents()) return found;
    for (std::int64_t i = 0; i < file.documents()->documents(); ++i) {
        found.push_back(file.documents()->end(i));
    }
    return found;
}

std::vector<int> learned(const TokenFile& file) {
    std::vector<int> found;
    for (std::int64_t i = 0; i < file.size(); ++i) found.push_back(file.learns(i));
    return found;
}

TEST(Megatron, ReadsTokensAndDocuments) {
    const Scratch dir;
    dir.write("a.idx", megatron_index({2, 0, 3}, 8));
    const TokenFile narrow(dir.write("a.bin", packed<std::uint16_t>({1, 2, 3, 40000, 65499})));
    EXPECT_EQ(narrow.format(), TokenFormat::megatron);
    EXPECT_EQ(all(narrow), (Tokens{1, 2, 3, 40000, 65499}));
    EXPECT_EQ(ends(narrow), (std::vector<std::int64_t>{2, 2, 5}));
    EXPECT_EQ(narrow.documents()->document_of(1), 0);
    EXPECT_EQ(narrow.documents()->document_of(2), 2);
    EXPECT_EQ(narrow.documents()->document_of(4), 2);
    EXPECT_FALSE(narrow.has_mask());

    dir.write("b.idx", megatron_index({1, 1}, 4));
    const TokenFile wide(dir.write("b.bin", packed<std::int32_t>({7, 151642})));
    EXPECT_EQ(all(wide), (Tokens{7, 151642}));
    EXPECT_EQ(ends(wide), (std::vector<std::int64_t>{1, 2}));
}

// Documents of several sequences, and modes behind the bounds.
TEST(Megatron, ReadsDocumentsOfSeveralSequences) {
    const Scratch dir;
    std::string index = megatron_index({2, 1, 3}, 8);
    index.resize(index.size() - 4 * 8);
    index.replace(26, 8, packed<std::uint64_t>({3}));
    index += packed<std::int64_t>({0, 2, 3}) + std::string(3, '\0');
    dir.write("a.idx", index);
    const TokenFile file(dir.write("a.bin", packed<std::uint16_t>({1, 2, 3, 4, 5, 6})));
    EXPECT_EQ(ends(file), (std::vector<std::int64_t>{3, 6}));
}

TEST(Megatron, LyingHeadersAreRefused) {
    const Scratch dir;
    const std::string good = megatron_index({2, 3}, 8);
    const auto bin = dir.write("a.bin", packed<std::uint16_t>({1, 2, 3, 4, 5}));
    const auto refused = [&](const std::string& index) {
        dir.write("a.idx", index);
        return error_of([&] { TokenFile{bin}; });
    };
    const auto changed = [&](std::size_t at, const std::string& bytes) {
        return refused(std::string(good).replace(at, bytes.size(), bytes));
    };
    EXPECT_TRUE(contains(refused("MMIDID"), "a.idx: expected a Megatron index"));
    EXPECT_TRUE(contains(changed(0, "X"), "expected a Megatron index"));
    EXPECT_TRUE(contains(changed(9, packed<std::uint64_t>({2})), "version 1"));
    EXPECT_TRUE(contains(changed(17, "\x06"), "got dtype code 6"));
    EXPECT_TRUE(contains(changed(18, packed<std::uint64_t>({-1})), "the header says"));
    EXPECT_TRUE(contains(changed(18, packed<std::uint64_t>({3})), "expected "));
    EXPECT_TRUE(contains(changed(26, packed<std::uint64_t>({0})), "0 document entries"));
    EXPECT_TRUE(contains(changed(34, packed<std::int32_t>({-2})), "got -2 tokens"));
    EXPECT_TRUE(
        contains(changed(34 + 8 + 8, packed<std::int64_t>({2})), "expected sequence 1 at byte 4"));
    EXPECT_TRUE(contains(changed(34 + 24, packed<std::int64_t>({1})), "document bounds"));
    EXPECT_TRUE(contains(changed(34 + 24 + 8, packed<std::int64_t>({9})), "document bounds"));
    EXPECT_TRUE(contains(refused(good + "x"), "truncated or damaged"));
    EXPECT_TRUE(contains(refused(megatron_index({2, 4}, 8)), "expected 6 tokens of 2 bytes"));
    EXPECT_TRUE(contains(refused(megatron_index({}, 8)), "expected 0 tokens"));
    dir.write("a.idx", good);
    EXPECT_EQ(TokenFile(bin).size(), 5);
}

TEST(Megatron, WriterMatchesTheFormatByteForByte) {
    const Scratch dir;
    for (const std::int64_t vocabulary : {65499, 65500}) {
        TokenFileWriter file(dir / "a.bin", vocabulary, {.format = TokenFormat::megatron});
        file.write(Tokens{1, 2});
        file.write({});
        file.write(Tokens{3, 4, 5});
        file.close();
        const bool narrow = vocabulary < 65500;
        EXPECT_EQ(Scratch::read(dir / "a.idx"), megatron_index({2, 3}, narrow ? 8 : 4));
        EXPECT_EQ(Scratch::read(dir / "a.bin"), narrow ? packed<std::uint16_t>({1, 2, 3, 4, 5})
                                                       : packed<std::int32_t>({1, 2, 3, 4, 5}));
        EXPECT_FALSE(fs::exists(dir / "a.idx.tmp"));
    }
    // Over it, a file without index and mask.
    TokenFileWriter plain(dir / "a.bin", 100);
    plain.write(Tokens{9});
    plain.close();
    EXPECT_FALSE(fs::exists(dir / "a.idx"));
    EXPECT_EQ(TokenFile(dir / "a.bin").format(), TokenFormat::llmc);
}

TEST(Llmq, ReadsTokensAndShiftsTheMask) {
    const Scratch dir;
    const TokenFile plain(dir.write("a.bin", llmq_file({5, 6, 7}, {}, 10)));
    EXPECT_EQ(plain.format(), TokenFormat::llmq);
    EXPECT_EQ(all(plain), (Tokens{5, 6, 7}));
    EXPECT_FALSE(plain.has_mask());
    EXPECT_EQ(learned(plain), (std::vector<int>{1, 1, 1}));
    const TokenFile masked(dir.write(
        "b.bin", llmq_file({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {1, 0, 0, 1, 1, 0, 0, 0, 1, 1}, 11)));
    EXPECT_TRUE(masked.has_mask());
    EXPECT_EQ(learned(masked), (std::vector<int>{0, 1, 0, 0, 1, 1, 0, 0, 0, 1}));
}

TEST(Llmq, LyingHeadersAreRefused) {
    const Scratch dir;
    const std::string good = llmq_file({5, 6, 7}, {1, 1, 1}, 10);
    const auto changed = [&](std::size_t at, std::int64_t value) {
        const auto path =
            dir.write("a.bin", std::string(good).replace(at, 4, packed<std::int32_t>({value})));
        return error_of([&] { TokenFile{path}; });
    };
    EXPECT_TRUE(contains(changed(8, 1), "expected version 2"));
    EXPECT_TRUE(contains(changed(12, 2), "4 bytes a token"));
    EXPECT_TRUE(contains(changed(16, 4), "says 4 tokens, the file has 3"));
    EXPECT_TRUE(contains(changed(16, -1), "says -1 tokens"));
    EXPECT_TRUE(contains(changed(16, 0), "4 bytes a token after the header"));
    EXPECT_TRUE(contains(changed(16, INT32_MAX), "expected a mask of"));
    EXPECT_TRUE(contains(changed(24, 0), "4 bytes a token after the header"));
    EXPECT_TRUE(contains(changed(24, 7), "expected 0 or 1"));
    const auto cut = dir.write("a.bin", good.substr(0, 500));
    EXPECT_TRUE(contains(error_of([&] { TokenFile{cut}; }), "header of 1024 bytes"));
}

TEST(Datatrove, TakesItsWidthFromTheIndexTheMetadataOrTheVocabulary) {
    const Scratch dir;
    const auto path = dir.write("a.ds", packed<std::uint32_t>({1, 2, 70000}));
    EXPECT_TRUE(contains(error_of([&] { TokenFile{path}; }), "of 2 or of 4 bytes"));
    EXPECT_EQ(all(TokenFile(path, 100000)), (Tokens{1, 2, 70000}));
    EXPECT_EQ(TokenFile(path, 65536).size(), 6);
    EXPECT_EQ(TokenFile(path, 65537).size(), 3);
    dir.write("a.ds.metadata", "gpt2|4\n3\n3 T");
    EXPECT_EQ(all(TokenFile(path, 1000)), (Tokens{1, 2, 70000}));
    dir.write("a.ds.index", packed<std::uint64_t>({2, 3}));
    const TokenFile file(path);
    EXPECT_EQ(file.format(), TokenFormat::datatrove);
    EXPECT_EQ(file.token_bytes(), 4u);
    EXPECT_EQ(ends(file), (std::vector<std::int64_t>{2, 3}));

    // An index of no tokens would put every token behind the last document.
    for (const std::vector<std::int64_t>& ends : {std::vector<std::int64_t>{}, {0}, {0, 0}}) {
        dir.write("a.ds.index", packed<std::uint64_t>(ends));
        EXPECT_TRUE(contains(error_of([&] { TokenFile{path}; }), "expected no tokens, as"));
    }
    dir.write("a.ds.index", packed<std::uint64_t>({6}));
    EXPECT_TRUE(contains(error_of([&] { TokenFile{path}; }), "as its .metadata says, got 2"));
    dir.write("a.ds.index", packed<std::uint64_t>({2, 4}));
    EXPECT_TRUE(contains(error_of([&] { TokenFile{path}; }), "for each of the 4 tokens"));
    dir.write("a.ds.index", packed<std::uint64_t>({3, 2}));
    EXPECT_TRUE(contains(error_of([&] { TokenFile{path}; }), "got 2 after 3 at 1"));
    dir.write("a.ds.index", packed<std::uint64_t>({-1}));
    EXPECT_TRUE(contains(error_of([&] { TokenFile{path}; }), "a.ds.index: expected ends"));
    dir.write("a.ds.index", "1234");
    EXPECT_TRUE(contains(error_of([&] { TokenFile{path}; }), "8 bytes for each document"));
}

TEST(LossMask, LiesBesideTheTokens) {
    const Scratch dir;
    const auto path = dir.write("a.ds", packed<std::uint16_t>({1, 2, 3}));
    dir.write("a.ds.loss", std::string("\0\1\0", 3));
    const TokenFile file(path, 10);
    EXPECT_EQ(learned(file), (std::vector<int>{0, 1, 0}));
    file.check_contents(10);
    dir.write("a.ds.loss", std::string("\0\1\2", 3));
    EXPECT_TRUE(contains(error_of([&] { TokenFile(path, 10).check_contents(10); }),
                         "a.ds.loss: expected bytes of 0 and 1, got 2 at position 2"));
    dir.write("a.ds.loss", "ab");
    EXPECT_TRUE(
        contains(error_of([&] { TokenFile(path, 10); }), "a byte for each of the 3 tokens"));

    const auto llmq = dir.write("b.bin", llmq_file({5, 6}, {1, 1}, 10));
    dir.write("b.bin.loss", "\1\1");
    EXPECT_TRUE(contains(error_of([&] { TokenFile{llmq}; }), "Remove one of them"));
}

TEST(LossMask, IsWritten) {
    const Scratch dir;
    for (const TokenFormat format : {TokenFormat::llmc, TokenFormat::megatron}) {
        TokenFileWriter file(dir / "a.bin", 10, {.format = format, .mask = true});
        file.write(Tokens{1, 2, 3}, std::vector<std::uint8_t>{0, 0, 1});
        file.write(Tokens{4});
        file.close();
        EXPECT_EQ(learned(TokenFile(dir / "a.bin")), (std::vector<int>{0, 0, 1, 1}));
        EXPECT_THROW(file.write(Tokens{1, 2}, std::vector<std::uint8_t>{1}), Error);
    }
    TokenFileWriter plain(dir / "a.bin", 10);
    plain.write(Tokens{1});
    EXPECT_THROW(plain.write(Tokens{1}, std::vector<std::uint8_t>{1}), Error);
    plain.close();
    EXPECT_FALSE(TokenFile(dir / "a.bin").has_mask());
}

}  // namespace
}  // namespace octavo
