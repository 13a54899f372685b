// The header of a safetensors file: the parser behind SafetensorsFile.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace octavo {

struct StoredDtype {
    std::string_view name;
    std::int64_t width;          // bytes an element
    std::optional<Dtype> dtype;  // none: Octavo lists such tensors but does not read them
};

inline constexpr StoredDtype kStoredDtypes[] = {
    {"F64", 8, Dtype::f64},
    {"F32", 4, Dtype::f32},
    {"BF16", 2, Dtype::bf16},
    {"F16", 2, Dtype::f16},
    {"F8_E4M3", 1, Dtype::e4m3},
    {"F8_E5M2", 1, Dtype::e5m2},
    {"F8_E8M0", 1, Dtype::e8m0},
    {"I64", 8, Dtype::i64},
    {"I32", 4, Dtype::i32},
    {"U16", 2, Dtype::u16},
    {"U8", 1, Dtype::u8},
    {"U64", 8, {}},
    {"U32", 4, {}},
    {"I16", 2, {}},
    {"I8", 1, {}},
    {"BOOL", 1, {}},
};

// The row of that name, or null.
inline const StoredDtype* stored_dtype(std::string_view name) {
    const auto* row = std::ranges::find(kStoredDtypes, name, &StoredDtype::name);
    return row == std::end(kStoredDtypes) ? nullptr : row;
}

struct SafetensorsHeader {
    std::vector<TensorEntry> entries;  // sorted by name; `bytes` point into the image
    SafetensorsMetadata metadata;
};

// Checks all that safetensors.h promises. `file` is for errors.
SafetensorsHeader parse_safetensors(std::span<const std::byte> image, const std::string& file);

}  // namespace octavo
