// Square roots of scales: 2^a = 2^inside (2^root)^2 with inside in {0, 1}, so that
// sqrt(x 2^a) = sqrt(x 2^inside) 2^root.
#pragma once

namespace octavo {

struct RootExponents {
    int inside, root;
};

constexpr RootExponents root_exponents(int a) { return {a & 1, a >> 1}; }

}  // namespace octavo
