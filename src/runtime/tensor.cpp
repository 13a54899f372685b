#include "runtime/tensor.h"

namespace octavo {

TensorRef tensor_at(const Type& type, std::byte* base) {
    const auto padded = [](std::int64_t bytes) {
        return (bytes + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
    };
    TensorRef t{.type = type, .data = base};
    base += padded(data_bytes(type));
    if (scale_count(type) > 0) t.scale = base;
    base += padded(scale_bytes(type));
    if (group_bytes(type) > 0) t.groups = reinterpret_cast<std::uint8_t*>(base);
    return t;
}

}  // namespace octavo
