// Paged attention with products in FP8, by its definition: a query of one head at a time, keys in
// ascending order, probabilities below the largest score of all.
#include "backends/cpu/math.h"
#include "backends/cpu/paged_attention.h"

namespace octavo::cpu {
namespace {

// A row of a pool, as what its codes stand for.
struct CodedRow {
    const e4m3* codes;
    float operator[](std::int64_t i) const { return code_values<float>()[codes[i].bits]; }
};

template <class T>
struct Fp8Attention {
    PagedRows r;

    std::int64_t scratch_elements() const { return r.keys() + 2 * r.d; }

    void operator()(const KernelCall& call) const {
        const e4m3 *k = call.in[1].as<e4m3>(), *v = call.in[2].as<e4m3>();
        const float k_scale = *call.in[6].as<float>(), v_scale = *call.in[7].as<float>();
        const float q_scale = *call.in[8].as<float>(), inverse = 1.0f / q_scale;
        const float unit = q_scale * k_scale;
        r.for_each<T, float>(
            call, scratch_elements(),
            [&](const T* q, T* o, std::int64_t visible, auto&& at, float* scratch) {
                float *p = scratch, *query = p + r.keys(), *sums = query + r.d;
                for (std::int64_t i = 0; i < r.d; ++i) {
                    query[i] = float(e4m3(static_cast<float>(q[i]) * inverse));
                }
                const Softmax<float> softmax = attend_row(
                    query, r.d, visible, [&](std::int64_t s) { return CodedRow{k + at(s)}; },
                    [&](std::int64_t s) { return CodedRow{v + at(s)}; }, p, sums,
                    [&](float product) { return product * unit * r.op.scale; },
                    [](float probability) { return float(e4m3(256 * probability)); });
                const float factor = v_scale / (256 * softmax.sum);
                for (std::int64_t i = 0; i < r.d; ++i) o[i] = round_to<T>(sums[i] * factor);
            });
    }
};

}  // namespace

Prepared prepare_paged_attention_fp8(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [&](auto tag) -> Prepared {
        const Fp8Attention<typename decltype(tag)::type> kernel{PagedRows(node)};
        return {kernel, kernel.r.slots * kernel.scratch_elements() *
                            static_cast<std::int64_t>(sizeof(float))};
    });
}

}  // namespace octavo::cpu
