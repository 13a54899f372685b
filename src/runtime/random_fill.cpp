#include "runtime/random_fill.h"

#include <algorithm>
#include <span>

#include "base/convert.h"
#include "base/rng.h"

namespace octavo {
namespace {

// A million values, repeated, are as good as any.
constexpr std::size_t kPeriod = (std::size_t{1} << 20) - 1;

template <class T, class Draw>
std::vector<T> repeated(std::size_t n, Draw&& draw) {
    std::vector<T> values(n);
    for (std::size_t i = 0; i < n; ++i) values[i] = i < kPeriod ? draw(i) : values[i - kPeriod];
    return values;
}

}  // namespace

void fill_random(Backend& backend, const TensorRef& t, std::uint64_t seed, std::int64_t below,
                 float low) {
    const auto n = static_cast<std::size_t>(t.type.shape.elements());
    const Rng rng(seed, 0);
    std::vector<std::byte> bytes(static_cast<std::size_t>(data_bytes(t.type)));
    if (t.type.dtype == Dtype::i32) {
        const auto ids = repeated<std::int32_t>(n, [&](std::size_t i) {
            return static_cast<std::int32_t>(rng.bits64(i) % static_cast<std::uint64_t>(below));
        });
        std::ranges::copy(std::as_bytes(std::span(ids)), bytes.begin());
    } else {
        const auto values = repeated<float>(n, [&](std::size_t i) { return rng.uniform(i) + low; });
        convert(std::as_bytes(std::span(values)), Dtype::f32, bytes, t.type.dtype);
    }
    backend.copy_in(t.as<std::byte>(), bytes.data(), std::ssize(bytes));
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
