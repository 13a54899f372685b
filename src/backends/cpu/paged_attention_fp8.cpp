// Paged attention with products in FP8, by its definition: a query of one head at a time, keys in
// ascending order, probabilities below the largest score of all.
#include <array>

#include "backends/cpu/attention.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

using Values = std::array<float, 256>;

// What each code stands for.
const Values& code_values() {
    static const Values values = [] {
        Values all;
        for (std::size_t code = 0; code < all.size(); ++code) {
            all[code] = float(e4m3::from_bits(static_cast<std::uint8_t>(code)));
        }
        return all;
    }();
    return values;
}

template <class T>
struct Fp8Attention {
    PagedAttention op;
    std::int64_t rows, heads, groups, d, table, slots;

    std::int64_t keys() const { return table * op.block; }
    std::int64_t scratch_elements() const { return keys() + 2 * d; }

    void operator()(const KernelCall& call) const {
        for_each_task(rows * heads, slots, [&](std::int64_t task, std::int64_t slot) {
            attend(call, task / heads, task % heads,
                   reinterpret_cast<float*>(call.scratch) + slot * scratch_elements());
        });
    }

    void attend(const KernelCall& call, std::int64_t row, std::int64_t head, float* scratch) const {
        const std::int64_t visible = std::clamp<std::int64_t>(
            call.in[3].as<std::int32_t>()[row] + std::int64_t{1}, 0, keys());
        const std::int32_t* blocks =
            call.in[5].as<std::int32_t>() + call.in[4].as<std::int32_t>()[row] * table;
        const auto at = [&](std::int64_t s) {
            const std::int64_t slot = blocks[s / op.block] * op.block + s % op.block;
            return (slot * groups + head / (heads / groups)) * d;
        };
        const T* q = call.in[0].as<T>() + (row * heads + head) * d;
        T* o = call.out[0].as<T>() + (row * heads + head) * d;
        if (visible == 0) {
            std::fill_n(o, d, T(0.0f));
            return;
        }
        const e4m3 *k = call.in[1].as<e4m3>(), *v = call.in[2].as<e4m3>();
        const float k_scale = *call.in[6].as<float>(), v_scale = *call.in[7].as<float>();
        const float q_scale = *call.in[8].as<float>(), inverse = 1.0f / q_scale;
        const float unit = q_scale * k_scale;
        const Values& value = code_values();
        float *p = scratch, *query = p + keys(), *sums = query + d;

        for (std::int64_t i = 0; i < d; ++i) {
            query[i] = float(e4m3(static_cast<float>(q[i]) * inverse));
        }
        float top = std::numeric_limits<float>::lowest();
        for (std::int64_t s = 0; s < visible; ++s) {
            const e4m3* codes = k + at(s);
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (std::int64_t i = 0; i < d; ++i) sum += query[i] * value[codes[i].bits];
            p[s] = sum * unit * op.scale;
            top = std::max(top, p[s]);
        }
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (std::int64_t s = 0; s < visible; ++s) {
            p[s] = exp(p[s] - top);
            sum += p[s];
        }
        std::fill_n(sums, d, 0.0f);
        for (std::int64_t s = 0; s < visible; ++s) {
            const e4m3* codes = v + at(s);
            const float weight = float(e4m3(256 * p[s]));
#pragma omp simd
            for (std::int64_t i = 0; i < d; ++i) sums[i] += weight * value[codes[i].bits];
        }
        const float factor = v_scale / (256 * sum);
        for (std::int64_t i = 0; i < d; ++i) o[i] = round_to<T>(sums[i] * factor);
    }
};

}  // namespace

Prepared prepare_paged_attention_fp8(const NodeView& node) {
    const Shape& q = node.in[0].shape;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) -> Prepared {
        const Fp8Attention<typename decltype(tag)::type> kernel{
            .op = std::get<PagedAttention>(node.op),
            .rows = q[0] * q[1],
            .heads = q[2],
            .groups = node.in[1].shape[1],
            .d = q[3],
            .table = node.in[5].shape[1],
            .slots = slot_count(q[0] * q[1] * q[2])};
        return {kernel, kernel.slots * kernel.scratch_elements() *
                            static_cast<std::int64_t>(sizeof(float))};
    });
}

}  // namespace octavo::cpu
