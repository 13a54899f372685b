#include "io/safetensors.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "io/safetensors_header.h"

namespace octavo {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are read in place");

std::string readable_dtypes() {
    std::string text;
    for (const StoredDtype& row : kStoredDtypes) {
        if (row.dtype) (text += text.empty() ? "" : " ") += row.name;
    }
    return text;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), name_(path.string()) {
    parse(file_->bytes());
}

SafetensorsFile::SafetensorsFile(std::span<const std::byte> image, std::string name)
    : name_(std::move(name)) {
    parse(image);
}

void SafetensorsFile::parse(std::span<const std::byte> image) {
    SafetensorsHeader header = parse_safetensors(image, name_);
    entries_ = std::move(header.entries);
    metadata_ = std::move(header.metadata);
}

const TensorEntry* SafetensorsFile::entry(std::string_view name) const {
    const auto e = std::ranges::lower_bound(entries_, name, {}, &TensorEntry::name);
    return e != entries_.end() && e->name == name ? &*e : nullptr;
}

std::optional<TensorInfo> SafetensorsFile::find(std::string_view name) const {
    const TensorEntry* e = entry(name);
    if (!e) return std::nullopt;
    const StoredDtype* row = stored_dtype(e->dtype);
    if (!row || !row->dtype) {
        fail("{}: tensor '{}': expected one of the dtypes {}, got {}\n  Convert the tensor.", name_,
             printable(name), readable_dtypes(), printable(e->dtype));
    }
    if (e->dims.size() > Shape::kMaxRank) {
        fail("{}: tensor '{}': expected at most {} dimensions, got {}\n  Reshape the tensor.",
             name_, printable(name), Shape::kMaxRank, e->dims.size());
    }
    return TensorInfo{e->name, *row->dtype, Shape(e->dims), e->bytes};
}

TensorInfo SafetensorsFile::at(std::string_view name) const {
    if (auto tensor = find(name)) return *std::move(tensor);
    std::vector<std::string> names;
    for (const TensorEntry& e : entries_) names.push_back(e.name);
    const std::string near = nearest(name, names);
    fail("{}: expected a tensor '{}', got none of that name among {}{}", name_, printable(name),
         entries_.size(),
         near.empty() ? "" : fmt::format("\n  The nearest name is '{}'.", printable(near)));
}

std::string_view safetensors_name(Dtype dtype) {
    for (const StoredDtype& row : kStoredDtypes) {
        if (row.dtype == dtype) return row.name;
    }
    fail("safetensors: no name for dtype {}", name(dtype));
}

std::string printable(std::string_view text) {
    constexpr std::size_t kMost = 160;
    std::string shown(text.substr(0, kMost));
    if (text.size() > kMost) {
        // Not in the middle of a UTF-8 sequence.
        while (!shown.empty() && (shown.back() & 0xC0) == 0x80) shown.pop_back();
        if (!shown.empty() && (shown.back() & 0x80)) shown.pop_back();
        shown += "...";
    }
    std::ranges::replace_if(shown, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
    return shown;
}

}  // namespace octavo
