// Tokens and their experts for the tests of mixtures of experts, ordered by hand.
#pragma once

#include "ops/op_test.h"

namespace octavo::test {

struct Experts {
    HostTensor ids, rows, choices, offsets;
    std::int64_t k = 0;

    std::int64_t row_count() const { return choices.type.shape[0]; }
};

// ids (T, k), distinct within a token. Experts from `experts` - `idle` on are never chosen.
inline HostTensor random_choices(std::int64_t tokens, std::int64_t k, std::int64_t experts,
                                 std::uint64_t seed, std::int64_t idle = 0) {
    std::vector<double> ids;
    for (std::int64_t t = 0; t < tokens; ++t) {
        const auto live = static_cast<std::uint64_t>(experts - idle);
        const std::uint64_t first = Rng(seed, 2).bits64(static_cast<std::uint64_t>(t)) % live;
        for (std::int64_t j = 0; j < k; ++j) {
            ids.push_back(static_cast<double>((first + static_cast<std::uint64_t>(j)) % live));
        }
    }
    return tensor(Dtype::i32, {tokens, k}, ids);
}

// The definition of ExpertOrder.
inline Experts order(const HostTensor& ids, std::int64_t experts, std::int64_t alignment) {
    const auto up = [&](std::int64_t n) { return (n + alignment - 1) / alignment * alignment; };
    const std::int64_t n = std::ssize(ids.values);
    const std::int64_t rows = up(n + std::min(experts, n) * (alignment - 1));
    std::vector<double> row_of(static_cast<std::size_t>(n)), offsets{0},
        choice_of(static_cast<std::size_t>(rows), -1);
    std::int64_t at = 0;
    for (std::int64_t e = 0; e < experts; ++e) {
        for (std::int64_t c = 0; c < n; ++c) {
            if (ids.values[static_cast<std::size_t>(c)] != static_cast<double>(e)) continue;
            row_of[static_cast<std::size_t>(c)] = static_cast<double>(at);
            choice_of[static_cast<std::size_t>(at++)] = static_cast<double>(c);
        }
        at = up(at);
        offsets.push_back(static_cast<double>(at));
    }
    return {ids, tensor(Dtype::i32, ids.type.shape, row_of), tensor(Dtype::i32, {rows}, choice_of),
            tensor(Dtype::i32, {experts + 1}, offsets), ids.type.shape[1]};
}

}  // namespace octavo::test
