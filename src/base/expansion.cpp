#include "base/expansion.h"

#include <algorithm>
#include <array>

#include "base/convert.h"

namespace octavo {
namespace {

// visit(first element, elements, group)
template <class Visit>
void for_groups(std::int64_t n, Visit&& visit) {
    for (std::int64_t at = 0; at < n; at += kExpansionGroup) {
        visit(at, std::min(kExpansionGroup, n - at), at / kExpansionGroup);
    }
}

}  // namespace

void expand(const float* x, std::int64_t n, void* codes, Expansion* groups) {
    for_groups(n, [&](std::int64_t at, std::int64_t count, std::int64_t group) {
        Magnitudes magnitudes;
        for (std::int64_t i = 0; i < count; ++i) magnitudes.add(x[at + i]);
        groups[group] = expansion_of(magnitudes);
        const Expander expander(groups[group]);
        std::array<float, kExpansionGroup> y;
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) y[i] = expander(x[at + i]);
        quantise(y.data(), Dtype::f32, 1.0f, static_cast<std::byte*>(codes) + at, Dtype::e4m3,
                 count);
    });
}

void contract(const void* codes, const Expansion* groups, std::int64_t n, float* x) {
    convert(codes, Dtype::e4m3, x, Dtype::f32, n);
    for_groups(n, [&](std::int64_t at, std::int64_t count, std::int64_t group) {
        const Contractor contractor(groups[group]);
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) x[at + i] = contractor(x[at + i]);
    });
}

}  // namespace octavo
