// Token files as the programs that they come from write them, in a few lines each.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "scratch.h"

namespace octavo {

template <class T>
std::string packed(const std::vector<std::int64_t>& values) {
    std::string bytes;
    for (const std::int64_t v : values) {
        const auto value = static_cast<T>(v);
        bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    return bytes;
}

// Megatron-LM's .idx of documents that are a sequence each.
inline std::string megatron_index(const std::vector<std::int64_t>& lengths, int code) {
    std::vector<std::int64_t> offsets, bounds{0};
    std::int64_t tokens = 0;
    for (const std::int64_t length : lengths) {
        offsets.push_back(tokens * (code == 8 ? 2 : 4));
        tokens += length;
        bounds.push_back(static_cast<std::int64_t>(bounds.size()));
    }
    const auto n = static_cast<std::int64_t>(lengths.size());
    return std::string("MMIDIDX\0\0", 9) + packed<std::uint64_t>({1}) +
           packed<std::uint8_t>({code}) + packed<std::uint64_t>({n, n + 1}) +
           packed<std::int32_t>(lengths) + packed<std::int64_t>(offsets) +
           packed<std::int64_t>(bounds);
}

// llmq's, with a bit for each token of `mask` if there is one.
inline std::string llmq_file(const std::vector<std::int64_t>& tokens,
                             const std::vector<std::int64_t>& mask, std::int64_t vocabulary) {
    std::string bytes = "BIN.TOK\n" + packed<std::int32_t>({2, 4, std::ssize(tokens), vocabulary,
                                                            mask.empty() ? 0 : 1});
    bytes.resize(1024);
    bytes += packed<std::int32_t>(tokens);
    std::string bits((mask.size() + 7) / 8, '\0');
    for (std::size_t p = 0; p < mask.size(); ++p) {
        if (mask[p]) bits[p / 8] = static_cast<char>(bits[p / 8] | 1 << p % 8);
    }
    return bytes + bits;
}

}  // namespace octavo
