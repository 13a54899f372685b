// A pseudo-random permutation of [0, size) without a table: O(1) state, any element in O(1).
//
// A Feistel network over (row, column) coordinates of a rows x columns grid, with additions modulo
// rows and columns in place of xor and Philox as its round function; coordinates past `size` are
// walked on until they land inside. (Black and Rogaway, "Ciphers with arbitrary finite domains",
// CT-RSA 2002.)
#pragma once

#include <cstdint>

namespace octavo {

class Permutation {
  public:
    // Different (seed, stream) give unrelated orders. `size` >= 1.
    Permutation(std::uint64_t size, std::uint64_t seed, std::uint64_t stream);

    // `i` < size.
    std::uint64_t operator()(std::uint64_t i) const;

  private:
    std::uint64_t size_, seed_, stream_;
    std::uint64_t rows_, columns_;
};

}  // namespace octavo
