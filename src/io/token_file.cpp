#include "io/token_file.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <string>

#include "base/error.h"
#include "base/parallel.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "token files are mapped as they are");

// llm.c's and llmq's are of one size.
using Header = std::array<std::int32_t, 256>;
constexpr std::string_view kLlmqMagic = "BIN.TOK\n";

struct LlmcKind {
    std::int32_t magic, version;
    std::size_t width;
};
constexpr LlmcKind kLlmcKinds[] = {{20240520, 1, 2}, {20240801, 7, 4}};

constexpr std::int64_t kScanBlock = std::int64_t{1} << 14;

fs::path with(fs::path path, std::string_view more) { return path += more; }

Header read_header(const MappedFile& file) {
    const std::size_t bytes = file.bytes().size();
    check(bytes >= sizeof(Header),
          "{}: expected a header of {} bytes, got {} bytes in all\n"
          "  The file is truncated, or is not a token file.",
          file.path().string(), sizeof(Header), bytes);
    Header header;
    std::memcpy(header.data(), file.bytes().data(), sizeof header);
    return header;
}

// The first item that is not below `limit`, or `n`.
template <class Item>
std::int64_t find_outside(const Item* items, std::int64_t n, std::int64_t limit) {
    if (limit > std::numeric_limits<Item>::max()) return n;
    const auto bound = static_cast<Item>(limit);
    std::atomic<std::int64_t> first = n;
    const std::int64_t blocks = (n + kScanBlock - 1) / kScanBlock;
    parallel_for(blocks, 16, [&](std::int64_t begin_block, std::int64_t end_block) {
        for (std::int64_t block = begin_block; block < end_block; ++block) {
            const std::int64_t begin = block * kScanBlock, end = std::min(n, begin + kScanBlock);
            if (begin >= first.load(std::memory_order_relaxed)) return;
            // The maximum vectorises; the search for the place does not, and is almost never run.
            Item largest = 0;
            for (std::int64_t i = begin; i < end; ++i) largest = std::max(largest, items[i]);
            if (largest < bound) continue;
            const std::int64_t at =
                std::find_if(items + begin, items + end, [&](Item t) { return t >= bound; }) -
                items;
            std::int64_t seen = first.load();
            while (at < seen && !first.compare_exchange_weak(seen, at)) {
            }
            return;
        }
    });
    return first;
}

// Of "name|2" in the first line of datatrove's metadata; 0 if it says nothing.
std::size_t width_in_metadata(const fs::path& path) {
    if (!fs::exists(path)) return 0;
    const std::string text = read_file(path);
    const std::string line = text.substr(0, text.find('\n'));
    return line.ends_with("|2") ? 2 : line.ends_with("|4") ? 4 : 0;
}

}  // namespace

std::string_view name(TokenFormat format) {
    constexpr std::string_view kNames[] = {"llm.c", "llmq", "Megatron", "datatrove"};
    return kNames[static_cast<int>(format)];
}

TokenFile::TokenFile(const fs::path& path, std::int64_t vocabulary) : file_(path) {
    const std::string name = path.string();
    const std::span<const std::byte> bytes = file_.bytes();
    check(!bytes.empty(), "{}: expected a token file, got an empty file", name);
    // Tokens without a header can look like anything: what stands beside them comes first.
    const fs::path idx = fs::path(path).replace_extension(".idx");
    if (path.extension() == ".ds") {
        open_datatrove(vocabulary);
    } else if (path.extension() == ".bin" && fs::exists(idx)) {
        open_megatron(idx);
    } else if (bytes.size() >= kLlmqMagic.size() &&
               std::memcmp(bytes.data(), kLlmqMagic.data(), kLlmqMagic.size()) == 0) {
        open_llmq();
    } else {
        open_llmc();
    }
    check(size_ > 0, "{}: the token file holds no tokens", name);

    const fs::path loss = with(path, ".loss");
    if (!fs::exists(loss)) return;
    check(mask_bits_ == 0, "{}: the file has a loss mask, and {} is another\n  Remove one of them.",
          name, loss.string());
    loss_.emplace(loss);
    check(std::cmp_equal(loss_->bytes().size(), size_),
          "{}: expected a byte for each of the {} tokens of {}, got {} bytes\n"
          "  The mask is truncated, or of other tokens: make both again.",
          loss.string(), size_, name, loss_->bytes().size());
}

// Of the bytes that are there for size_ tokens.
void TokenFile::check_size(std::size_t payload) const {
    const std::string name = path().string();
    check(size_ >= 0, "{}: the header says {} tokens\n  The file is damaged.", name, size_);
    check(payload % width_ == 0,
          "{}: expected {} bytes a token after the header, got {} bytes\n"
          "  The file is truncated or damaged: write or copy it again.",
          name, width_, payload);
    check(payload / width_ == static_cast<std::size_t>(size_),
          "{}: the header says {} tokens, the file has {}\n"
          "  The file is {}: write or copy it again.",
          name, size_, payload / width_,
          payload / width_ < static_cast<std::size_t>(size_) ? "truncated" : "damaged");
}

void TokenFile::open_llmc() {
    const Header header = read_header(file_);
    const auto* kind = std::ranges::find(kLlmcKinds, header[0], &LlmcKind::magic);
    check(kind != std::end(kLlmcKinds),
          "{}: expected an llm.c token file (magic {} or {}), got magic {}\n"
          "  Write token files with: octavo tokenize. Megatron's have an .idx beside them, "
          "datatrove's end in .ds.",
          path().string(), kLlmcKinds[0].magic, kLlmcKinds[1].magic, header[0]);
    check(header[1] == kind->version,
          "{}: expected version {} with magic {}, got version {}\n"
          "  The file is damaged, or was written by a program newer than this one.",
          path().string(), kind->version, kind->magic, header[1]);
    format_ = TokenFormat::llmc;
    width_ = kind->width;
    size_ = header[2];
    offset_ = sizeof header;
    check_size(file_.bytes().size() - sizeof header);
}

void TokenFile::open_llmq() {
    const Header header = read_header(file_);
    const std::int32_t version = header[2], width = header[3], mask = header[6];
    const std::string name = path().string();
    check(version == 2 && width == 4,
          "{}: expected version 2 of llmq's token files with 4 bytes a token, got version {} with "
          "{}",
          name, version, width);
    check(mask == 0 || mask == 1, "{}: expected 0 or 1 for whether there is a mask, got {}", name,
          mask);
    format_ = TokenFormat::llmq;
    width_ = 4;
    size_ = header[4];
    offset_ = sizeof header;
    std::size_t payload = file_.bytes().size() - sizeof header;
    if (mask == 1 && size_ > 0) {
        const std::size_t bits = (static_cast<std::size_t>(size_) + 7) / 8;
        check(payload >= bits, "{}: expected a mask of {} bytes, got {} bytes after the header",
              name, bits, payload);
        payload -= bits;
        mask_bits_ = offset_ + payload;
    }
    check_size(payload);
}

void TokenFile::open_megatron(const fs::path& idx) {
    documents_ = DocumentIndex::megatron(idx);
    format_ = TokenFormat::megatron;
    width_ = documents_->token_bytes();
    size_ = documents_->tokens();
    const std::size_t bytes = file_.bytes().size();
    check(bytes == static_cast<std::size_t>(size_) * width_,
          "{}: expected {} tokens of {} bytes, as {} says, got {} bytes\n"
          "  The two are not of one data set, or one is damaged: write or copy both again.",
          path().string(), size_, width_, idx.string(), bytes);
}

void TokenFile::open_datatrove(std::int64_t vocabulary) {
    const std::string name = path().string();
    const std::size_t bytes = file_.bytes().size();
    format_ = TokenFormat::datatrove;
    const fs::path index = with(path(), ".index");
    if (fs::exists(index)) documents_ = DocumentIndex::datatrove(index);
    const std::size_t said = width_in_metadata(with(path(), ".metadata"));
    if (documents_ && documents_->tokens() == 0) {
        check(bytes == 0,
              "{}: expected no tokens, as {} says, got {} bytes\n"
              "  The two are not of one data set, or one is damaged: write or copy both again.",
              name, index.string(), bytes);
        documents_.reset();
    }
    if (documents_) {
        const auto tokens = static_cast<std::size_t>(documents_->tokens());
        width_ = bytes / tokens;
        check((width_ == 2 || width_ == 4) && bytes % tokens == 0,
              "{}: expected 2 or 4 bytes for each of the {} tokens of {}, got {} bytes\n"
              "  The two are not of one data set, or one is damaged: write or copy both again.",
              name, tokens, index.string(), bytes);
        check(said == 0 || said == width_,
              "{}: expected {} bytes a token, as its .metadata says, got {}, as {} says\n"
              "  One of the two is damaged: write or copy both again.",
              name, said, width_, index.string());
    } else {
        width_ = said;
        // datatrove takes two bytes for tokenizers of up to 65,536 tokens.
        if (width_ == 0 && vocabulary > 0) width_ = vocabulary <= 65536 ? 2 : 4;
        check(width_ > 0,
              "{}: nothing says whether its tokens are of 2 or of 4 bytes\n"
              "  Put its .ds.index or .ds.metadata beside it.",
              name);
        check(bytes % width_ == 0, "{}: expected {} bytes a token, got {} bytes", name, width_,
              bytes);
    }
    size_ = static_cast<std::int64_t>(bytes / width_);
}

void TokenFile::read(std::int64_t begin, std::span<std::int32_t> out) const {
    const auto n = static_cast<std::int64_t>(out.size());
    check(begin >= 0 && begin <= size_ && n <= size_ - begin,
          "{}: tokens [{}, {} + {}) are outside the file of {} tokens", path().c_str(), begin,
          begin, n, size_);
    if (width_ == 2) {
        std::copy_n(narrow() + begin, n, out.data());
    } else {
        std::memcpy(out.data(), wide() + begin, out.size_bytes());
    }
}

bool TokenFile::learns(std::int64_t i) const {
    const auto at = static_cast<std::size_t>(i);
    if (loss_) return loss_->bytes()[at] != std::byte{0};
    if (mask_bits_ == 0) return true;
    // The bit of the token that predicts it; nothing predicts the first.
    if (i == 0) return false;
    const auto byte = std::to_integer<unsigned>(file_.bytes()[mask_bits_ + (at - 1) / 8]);
    return (byte >> ((at - 1) % 8) & 1) != 0;
}

void TokenFile::check_contents(std::int64_t vocabulary) const {
    const std::int64_t at = width_ == 2 ? find_outside(narrow(), size_, vocabulary)
                                        : find_outside(wide(), size_, vocabulary);
    if (at != size_) {
        fail(
            "{}: expected token ids below the vocabulary of {}, got {} at position {}\n"
            "  The tokens were made with another tokenizer than the model's.",
            path().string(), vocabulary, (*this)[at], at);
    }
    if (!loss_) return;
    const auto* mask = reinterpret_cast<const std::uint8_t*>(loss_->bytes().data());
    const std::int64_t odd = find_outside(mask, size_, 2);
    check(odd == size_, "{}: expected bytes of 0 and 1, got {} at position {}",
          loss_->path().string(), odd < size_ ? mask[odd] : 0, odd);
}

}  // namespace octavo
