#include "recipes/table.h"

namespace octavo {

// Scalify (arXiv 2407.17353): scales follow from shapes alone, so that tensors are cast as they
// are. Two tensors of a layer are measured, in its backward pass.
Recipe scalify_recipe() {
    const auto plain = [](Dtype dtype) {
        return Format{.dtype = dtype, .granularity = Granularity::none};
    };
    return {
        .name = "scalify",
        .compute = Dtype::f16,
        .activation = plain(Dtype::e4m3),
        .weight = plain(Dtype::e4m3),
        .output_grad = plain(Dtype::e5m2),
        .propagation = Propagation{},
    };
}

// The paper's runs: #0 everything in f32, #1 products and gradients in 16 bits, #2 masters, too, #3
// products and gradients in 8, #4 moments in 16.
void set_scalify_run(Recipe& r, int run) {
    if (run == 0) {
        const std::string name = r.name;
        r = fp32_recipe();
        r.name = name;
        return;
    }
    if (run < 3) r.activation = r.weight = r.output_grad = std::nullopt;
    r.propagation->rescale_norms = run > 1;
    r.propagation->rescale_weight_gradients = run > 3;
    const Dtype moments = run > 3 ? Dtype::f16 : Dtype::f32;
    r.states = {.master = run > 1 ? Dtype::f16 : Dtype::f32,
                .gradient = run > 2 ? Dtype::e5m2 : Dtype::f16,
                .m = moments,
                .v = moments};
}

}  // namespace octavo
