#include "io/safetensors_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace octavo {
namespace {

constexpr const char* kDamaged =
    "The file is damaged or was made by a faulty writer: copy or download it again.";

// Bytes of a tensor, or nothing if they do not fit. Zeros are left out of the check, so that the
// product of any selection of the extents fits too, in whatever order code may multiply them.
std::optional<std::uint64_t> checked_bytes(std::span<const std::int64_t> dims, std::int64_t width) {
    std::int64_t n = width;
    bool empty = false;
    for (std::int64_t d : dims) {
        empty |= d == 0;
        if (d != 0 && __builtin_mul_overflow(n, d, &n)) return std::nullopt;
    }
    return empty ? 0 : static_cast<std::uint64_t>(n);
}

// Receives the header's JSON token by token. Nothing is built but the result, so a hostile header
// costs no more memory than an honest one, and nesting beyond the format's ends at once.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
  public:
    HeaderReader(const std::string& file, std::span<const std::byte> data,
                 SafetensorsHeader& header)
        : file_(file), data_(data), header_(header) {}

    bool null() override { unexpected("null"); }
    bool boolean(bool) override { unexpected("a boolean"); }
    bool number_integer(number_integer_t) override { unexpected("a negative number"); }
    bool number_float(number_float_t, const string_t& text) override {
        unexpected(fmt::format("'{}'", printable(text)));
    }
    bool binary(binary_t&) override { unexpected("binary data"); }

    bool number_unsigned(number_unsigned_t value) override {
        if (at_ == At::shape) {
            if (value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
                unexpected(std::to_string(value));
            }
            entry_.dims.push_back(static_cast<std::int64_t>(value));
        } else if (at_ == At::offsets && offset_count_ < 2) {
            offsets_[offset_count_++] = value;
        } else {
            unexpected(at_ == At::offsets ? "more than two" : "a number");
        }
        return true;
    }

    bool string(string_t& value) override {
        if (at_ == At::metadata) {
            const bool fresh = header_.metadata.emplace(field_, value).second;
            check(fresh, "{}: metadata key '{}' appears twice\n  {}", file_, printable(field_),
                  kDamaged);
        } else if (at_ == At::tensor && field_ == "dtype") {
            entry_.dtype = value;
        } else {
            unexpected("a string");
        }
        return true;
    }

    bool key(string_t& key) override {
        if (at_ == At::root) {
            entry_ = {.name = key, .dtype = {}, .dims = {}, .bytes = {}};
            return true;
        }
        field_ = key;
        if (at_ != At::tensor) return true;
        bool* seen = field_ == "dtype"          ? &has_dtype_
                     : field_ == "shape"        ? &has_shape_
                     : field_ == "data_offsets" ? &has_offsets_
                                                : nullptr;
        if (!seen)
            fail_tensor("expected only dtype, shape and data_offsets, got '{}'", printable(key));
        if (std::exchange(*seen, true)) fail_tensor("'{}' appears twice", key);
        return true;
    }

    bool start_object(std::size_t) override {
        if (at_ == At::file) {
            at_ = At::root;
        } else if (at_ == At::root && entry_.name == "__metadata__") {
            check(!std::exchange(has_metadata_, true), "{}: __metadata__ appears twice\n  {}",
                  file_, kDamaged);
            at_ = At::metadata;
        } else if (at_ == At::root) {
            at_ = At::tensor;
            has_dtype_ = has_shape_ = has_offsets_ = false;
            offset_count_ = 0;
        } else {
            unexpected("an object");
        }
        return true;
    }

    bool end_object() override {
        if (at_ == At::tensor) add_tensor();
        at_ = at_ == At::root ? At::file : At::root;
        return true;
    }

    bool start_array(std::size_t) override {
        if (at_ != At::tensor || field_ == "dtype") unexpected("a list");
        at_ = field_ == "shape" ? At::shape : At::offsets;
        return true;
    }

    bool end_array() override {
        if (at_ == At::offsets && offset_count_ < 2) unexpected("fewer than two");
        at_ = At::tensor;
        return true;
    }

    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::detail::exception& error) override {
        fail("{}: expected the header to be JSON, got at byte {}: {}\n  {}", file_, position + 8,
             printable(error.what()), kDamaged);
    }

  private:
    enum class At { file, root, metadata, tensor, shape, offsets };

    template <class... Args>
    [[noreturn]] void fail_tensor(fmt::format_string<Args...> text, Args&&... args) const {
        throw Error(fmt::format("{}: tensor '{}': {}", file_, printable(entry_.name),
                                fmt::format(text, std::forward<Args>(args)...)),
                    kDamaged);
    }

    [[noreturn]] void unexpected(std::string got) const {
        switch (at_) {
            case At::file:
                fail("{}: expected a JSON object, got {}\n  {}", file_, got, kDamaged);
            case At::root:
                fail_tensor("expected an object, got {}", got);
            case At::metadata:
                fail("{}: metadata '{}': expected a string, got {}\n  {}", file_, printable(field_),
                     got, kDamaged);
            case At::shape:
                fail_tensor("shape: expected numbers from 0 to 2^63 - 1, got {}", got);
            case At::offsets:
                fail_tensor("data_offsets: expected two numbers from 0 to 2^64 - 1, got {}", got);
            case At::tensor:
                break;
        }
        fail_tensor("{}: expected {}, got {}", field_, field_ == "dtype" ? "a string" : "a list",
                    got);
    }

    void add_tensor() {
        const auto [begin, end] = offsets_;
        const char* missing = !has_dtype_     ? "dtype"
                              : !has_shape_   ? "shape"
                              : !has_offsets_ ? "data_offsets"
                                              : nullptr;
        if (missing) fail_tensor("expected dtype, shape and data_offsets, got no {}", missing);
        if (begin > end) {
            fail_tensor("data_offsets: expected begin <= end, got [{}, {}]", begin, end);
        }
        if (end > data_.size()) {
            fail_tensor("data_offsets: expected an end within the {} bytes of data, got {}",
                        data_.size(), end);
        }
        // The width of a dtype that is not in the table is unknown; `find` refuses such a tensor.
        const StoredDtype* row = stored_dtype(entry_.dtype);
        const std::optional<std::uint64_t> bytes = checked_bytes(entry_.dims, row ? row->width : 1);
        if (!bytes) fail_tensor("shape: expected fewer than 2^63 bytes, got more");
        if (row && *bytes != end - begin) {
            fail_tensor("expected {} bytes for shape [{}] of {}, got {} (data_offsets [{}, {}])",
                        *bytes, fmt::join(entry_.dims, ", "), row->name, end - begin, begin, end);
        }
        entry_.bytes = data_.subspan(begin, end - begin);
        header_.entries.push_back(std::move(entry_));
    }

    const std::string& file_;
    std::span<const std::byte> data_;
    SafetensorsHeader& header_;

    At at_ = At::file;
    std::string field_;  // the last key inside a tensor or the metadata
    TensorEntry entry_;  // the tensor being read; its name is the last key of the root
    std::array<std::uint64_t, 2> offsets_{};
    std::size_t offset_count_ = 0;
    bool has_metadata_ = false, has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
};

std::uint64_t header_length(std::span<const std::byte> image) {
    std::uint64_t length = 0;
    std::memcpy(&length, image.data(), sizeof length);
    return length;
}

// The JSON text of the header, its frame checked.
std::string_view header_text(std::span<const std::byte> image, const std::string& file) {
    const std::string_view all{reinterpret_cast<const char*>(image.data()), image.size()};
    check(!all.starts_with("version https://git-lfs"),
          "{}: expected safetensors, got a Git LFS pointer\n  Fetch the data with: git lfs pull",
          file);
    check(image.size() >= 8, "{}: expected safetensors, got a file of {} bytes\n  {}", file,
          image.size(), kDamaged);
    const std::uint64_t length = header_length(image);
    check(length <= kLongestSafetensorsHeader,
          "{}: expected a header of at most {} bytes, got {}\n  Check that this is safetensors and "
          "not another format, such as a pickled .bin.",
          file, kLongestSafetensorsHeader, length);
    check(length <= image.size() - 8,
          "{}: expected a header of {} bytes, got a file of {}\n  The file is truncated: copy or "
          "download it again.",
          file, length, image.size());
    std::string_view text = all.substr(8, length);
    // The JSON library would stop at a NUL as if the text ended there.
    check(text.starts_with('{') && text.find('\0') == text.npos,
          "{}: expected a header that starts with '{{' and holds no NUL, got another\n  {}", file,
          kDamaged);
    text = text.substr(0, text.find_last_not_of(' ') + 1);
    check(text.ends_with('}'),
          "{}: expected a header that ends in '}}' and spaces, got another\n  {}", file, kDamaged);
    return text;
}

void check_names(std::span<const TensorEntry> entries, const std::string& file) {
    const auto twin = std::ranges::adjacent_find(entries, {}, &TensorEntry::name);
    if (twin != entries.end()) {
        fail("{}: tensor '{}' appears twice\n  {}", file, printable(twin->name), kDamaged);
    }
}

// The format forbids bytes that belong to no tensor or to two.
void check_tiling(std::span<const TensorEntry> entries, std::span<const std::byte> data,
                  const std::string& file) {
    std::vector<const TensorEntry*> order;
    for (const TensorEntry& e : entries) order.push_back(&e);
    std::ranges::sort(order, {}, [](const TensorEntry* e) {
        return std::pair(e->bytes.data(), e->bytes.size());
    });
    std::size_t end = 0;
    for (const TensorEntry* e : order) {
        const auto begin = static_cast<std::size_t>(e->bytes.data() - data.data());
        if (begin != end) {
            fail("{}: tensor '{}': expected its data at offset {}, got {} ({})\n  {}", file,
                 printable(e->name), end, begin,
                 begin < end ? "it overlaps another tensor" : "a gap before it", kDamaged);
        }
        end = begin + e->bytes.size();
    }
    check(end == data.size(),
          "{}: expected {} bytes of data, got {}, the last of which belong to no tensor\n  {}",
          file, end, data.size(), kDamaged);
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> image, const std::string& file) {
    const std::string_view text = header_text(image, file);
    const std::span<const std::byte> data = image.subspan(8 + header_length(image));
    SafetensorsHeader header;
    HeaderReader reader(file, data, header);
    nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
    std::ranges::sort(header.entries, {}, &TensorEntry::name);
    check_names(header.entries, file);
    check_tiling(header.entries, data, file);
    return header;
}

}  // namespace octavo
