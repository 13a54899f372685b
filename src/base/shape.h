// The extents of a tensor, row-major, at most kMaxRank of them. A shape of rank 0 is a scalar.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "base/error.h"

namespace octavo {

class Shape {
  public:
    static constexpr int kMaxRank = 5;

    Shape() = default;
    Shape(std::initializer_list<std::int64_t> dims)
        : Shape(std::span<const std::int64_t>(dims.begin(), dims.size())) {}
    explicit Shape(std::span<const std::int64_t> dims) : rank_(static_cast<int>(dims.size())) {
        check(dims.size() <= kMaxRank, "a tensor has at most {} dimensions, got {}", kMaxRank,
              dims.size());
        for (int i = 0; i < rank_; ++i) dims_[i] = dims[i];
    }

    int rank() const { return rank_; }
    // Negative indices count from the last dimension.
    std::int64_t operator[](int i) const { return dims_[i < 0 ? i + rank_ : i]; }
    std::int64_t& operator[](int i) { return dims_[i < 0 ? i + rank_ : i]; }
    const std::int64_t* begin() const { return dims_.data(); }
    const std::int64_t* end() const { return dims_.data() + rank_; }

    std::int64_t elements() const {
        std::int64_t n = 1;
        for (std::int64_t d : *this) n *= d;
        return n;
    }
    // All but the last dimension flattened: the rows that row-wise kernels walk over.
    std::int64_t rows() const {
        std::int64_t n = 1;
        for (int i = 0; i + 1 < rank_; ++i) n *= dims_[i];
        return n;
    }
    std::int64_t last() const { return rank_ == 0 ? 1 : dims_[rank_ - 1]; }

    bool operator==(const Shape&) const = default;

  private:
    std::array<std::int64_t, kMaxRank> dims_{};  // entries past rank_ stay 0, so == is memberwise
    int rank_ = 0;
};

inline std::string to_string(const Shape& shape) {
    std::string s = "[";
    for (int i = 0; i < shape.rank(); ++i) {
        s += (i ? ", " : "") + std::to_string(shape[i]);
    }
    return s + "]";
}

}  // namespace octavo
