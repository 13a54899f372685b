#include "runtime/random_fill.h"

#include <algorithm>
#include <span>

#include "base/convert.h"
#include "base/rng.h"

namespace octavo {
namespace {

// A million values, repeated, are as good as any.
constexpr std::int64_t kPeriod = (std::int64_t{1} << 20) - 1;

template <class T, class Draw>
std::vector<T> drawn(std::int64_t n, Draw&& draw) {
    std::vector<T> values(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = draw(i);
    return values;
}

}  // namespace

void fill_random(Backend& backend, const TensorRef& t, std::uint64_t seed, std::int64_t below,
                 float low) {
    const std::int64_t n = std::min(t.type.shape.elements(), kPeriod);
    const Rng rng(seed, 0);
    std::vector<std::byte> bytes(static_cast<std::size_t>(n) * size_of(t.type.dtype));
    if (t.type.dtype == Dtype::i32) {
        const auto ids = drawn<std::int32_t>(n, [&](std::size_t i) {
            return static_cast<std::int32_t>(rng.bits64(i) % static_cast<std::uint64_t>(below));
        });
        std::ranges::copy(std::as_bytes(std::span(ids)), bytes.begin());
    } else {
        const auto values = drawn<float>(n, [&](std::size_t i) { return rng.uniform(i) + low; });
        convert(std::as_bytes(std::span(values)), Dtype::f32, bytes, t.type.dtype);
    }
    auto* data = t.as<std::byte>();
    backend.copy_in(data, bytes.data(), std::ssize(bytes));
    const std::int64_t all = data_bytes(t.type);
    for (std::int64_t filled = std::ssize(bytes); filled < all; filled *= 2) {
        backend.copy(data + filled, data, std::min(filled, all - filled));
    }
    if (t.scale) {
        const std::vector<float> ones(static_cast<std::size_t>(scale_count(t.type)), 1.0f);
        const auto raw = std::as_bytes(std::span(ones));
        backend.copy_in(static_cast<std::byte*>(t.scale), raw.data(), std::ssize(raw));
    }
    if (t.groups) {
        const std::vector<std::byte> units(static_cast<std::size_t>(group_bytes(t.type)),
                                           std::byte{127});  // 2^0
        backend.copy_in(reinterpret_cast<std::byte*>(t.groups), units.data(), std::ssize(units));
    }
}

}  // namespace octavo
