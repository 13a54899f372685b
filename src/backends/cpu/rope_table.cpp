#include "backends/cpu/rope_table.h"

#include <cmath>

#include "base/parallel.h"
#include "ops/rope.h"

namespace octavo::cpu {
namespace {

template <class C>
RopeTable<C> make_table(const Rope& op, std::int64_t positions, std::int64_t half) {
    const std::vector<double> frequency = rope_frequencies(op, half);
    RopeTable<C> table{std::vector<C>(positions * half), std::vector<C>(positions * half)};
    parallel_for(positions, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t p = begin; p < end; ++p) {
            for (std::int64_t i = 0; i < half; ++i) {
                const double angle = static_cast<double>(p) * frequency[i];
                table.cosine[p * half + i] = static_cast<C>(std::cos(angle));
                table.sine[p * half + i] = static_cast<C>(std::sin(angle));
            }
        }
    });
    return table;
}

}  // namespace

template <class C>
std::shared_ptr<const RopeTable<C>> rope_table(const Rope& op, std::int64_t positions,
                                               std::int64_t half) {
    return shared_rope_table<RopeTable<C>>(op, positions, half, [&] {
        return std::make_shared<const RopeTable<C>>(make_table<C>(op, positions, half));
    });
}

template std::shared_ptr<const RopeTable<float>> rope_table(const Rope&, std::int64_t,
                                                            std::int64_t);
template std::shared_ptr<const RopeTable<double>> rope_table(const Rope&, std::int64_t,
                                                             std::int64_t);

}  // namespace octavo::cpu
