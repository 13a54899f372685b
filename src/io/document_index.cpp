#include "io/document_index.h"

#include <cstring>
#include <string_view>

#include "base/error.h"

namespace octavo {
namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr std::size_t kHeader = 34;

template <class T>
T at(std::span<const std::byte> bytes, std::size_t offset) {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

std::size_t width_of_code(int code, const std::string& name) {
    if (code == 8) return 2;
    if (code == 4) return 4;
    fail(
        "{}: expected tokens in uint16 (code 8) or int32 (code 4), got dtype code {}\n"
        "  Token ids in other types are not read.",
        name, code);
}

}  // namespace

DocumentIndex DocumentIndex::megatron(const std::filesystem::path& path) {
    DocumentIndex index(path);
    const std::string name = path.string();
    const std::span<const std::byte> bytes = index.file_.bytes();
    check(bytes.size() >= kHeader && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0,
          "{}: expected a Megatron index, which begins with MMIDIDX\n"
          "  The file is damaged, or belongs to something else.",
          name);
    const auto version = at<std::uint64_t>(bytes, 9);
    check(version == 1, "{}: expected version 1 of Megatron's index, got {}", name, version);
    index.width_ = width_of_code(at<std::uint8_t>(bytes, 17), name);
    const auto sequences = at<std::uint64_t>(bytes, 18), entries = at<std::uint64_t>(bytes, 26);
    // Any larger number would overflow below, and does not fit in the file anyhow.
    check(sequences <= bytes.size() / 12 && entries <= bytes.size() / 8 && entries >= 1,
          "{}: the header says {} sequences and {} document entries, the file has {} bytes\n"
          "  The index is truncated or damaged: write or copy it again.",
          name, sequences, entries, bytes.size());
    index.sequences_ = static_cast<std::int64_t>(sequences);
    index.documents_ = static_cast<std::int64_t>(entries) - 1;
    index.lengths_ = kHeader;
    index.offsets_ = index.lengths_ + 4 * sequences;
    index.bounds_ = index.offsets_ + 8 * sequences;
    const std::size_t end = index.bounds_ + 8 * entries;
    check(bytes.size() == end || bytes.size() == end + sequences,
          "{}: expected {} bytes for {} sequences and {} document entries, got {}\n"
          "  The index is truncated or damaged: write or copy it again.",
          name, end, sequences, entries, bytes.size());

    for (std::int64_t i = 0; i < index.sequences_; ++i) {
        const auto place = static_cast<std::size_t>(i);
        const auto length = at<std::int32_t>(bytes, index.lengths_ + 4 * place);
        const auto offset = at<std::int64_t>(bytes, index.offsets_ + 8 * place);
        const auto want = index.tokens_ * static_cast<std::int64_t>(index.width_);
        check(length >= 0 && offset == want,
              "{}: expected sequence {} at byte {}, right behind those before it, got {} tokens at "
              "byte {}\n  The index is damaged, or not of Megatron's making.",
              name, i, want, length, offset);
        index.tokens_ += length;
    }
    std::int64_t before = 0;
    for (std::size_t i = 0; i < entries; ++i) {
        const auto bound = at<std::int64_t>(bytes, index.bounds_ + 8 * i);
        const bool last = i + 1 == entries;
        check(bound >= before && bound <= index.sequences_ && (i > 0 || bound == 0) &&
                  (!last || bound == index.sequences_),
              "{}: expected document bounds that rise from 0 to {} sequences, got {} at {}\n"
              "  The index is damaged.",
              name, index.sequences_, bound, i);
        before = bound;
    }
    return index;
}

DocumentIndex DocumentIndex::datatrove(const std::filesystem::path& path) {
    DocumentIndex index(path);
    const std::span<const std::byte> bytes = index.file_.bytes();
    check(bytes.size() % 8 == 0,
          "{}: expected 8 bytes for each document, got {} bytes\n"
          "  The index is truncated or damaged: write or copy it again.",
          path.string(), bytes.size());
    index.documents_ = static_cast<std::int64_t>(bytes.size() / 8);
    std::uint64_t before = 0;
    for (std::int64_t i = 0; i < index.documents_; ++i) {
        const auto end = at<std::uint64_t>(bytes, 8 * static_cast<std::size_t>(i));
        check(end >= before && end < std::uint64_t{1} << 62,
              "{}: expected ends of documents that do not fall, got {} after {} at {}\n"
              "  The index is damaged.",
              path.string(), end, before, i);
        before = end;
    }
    index.tokens_ = static_cast<std::int64_t>(before);
    return index;
}

std::int64_t DocumentIndex::end(std::int64_t i) const {
    const std::span<const std::byte> bytes = file_.bytes();
    const auto place = static_cast<std::size_t>(i);
    if (width_ == 0) return at<std::int64_t>(bytes, 8 * place);
    const auto sequence = at<std::int64_t>(bytes, bounds_ + 8 * (place + 1));
    if (sequence == sequences_) return tokens_;
    return at<std::int64_t>(bytes, offsets_ + 8 * static_cast<std::size_t>(sequence)) /
           static_cast<std::int64_t>(width_);
}

std::int64_t DocumentIndex::document_of(std::int64_t token) const {
    std::int64_t low = 0, high = documents_ - 1;
    while (low < high) {
        const std::int64_t middle = low + (high - low) / 2;
        if (end(middle) <= token) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

}  // namespace octavo
