// What kernels for the GPU do not take is told when the plan is made; no GPU is needed for that.
#include "runtime/plan.h"

#include "backends/cuda/kernels.h"
#include "graph/builder.h"
#include "io/scratch.h"
#include "train/far_backend.h"

namespace octavo {
namespace {

class Unreachable final : public FarBackend {
  public:
    std::string_view name() const override { return "cuda"; }
    const KernelRegistry& kernels() const override { return cuda::kernel_registry(); }
};

TEST(CudaPlan, RefusesLongHeads) {
    Graph g;
    Builder b(g);
    const auto scope = b.scope("model.layers.0.self_attn");
    const Type t{Dtype::f32, {2, 16, 4, 320}};
    const Values out = b.emit(Attention{}, {b.input("q", t), b.input("k", t), b.input("v", t)});
    b.output("o", out[0]);
    const Unreachable backend;
    const std::string text = error_of([&] { Plan(g, backend); });
    EXPECT_TRUE(contains(text,
                         "attention 'model.layers.0.self_attn': no kernel of backend cuda takes "
                         "attention(f32[2, 16, 4, 320], f32[2, 16, 4, 320], f32[2, 16, 4, 320])"));
    EXPECT_TRUE(contains(text, "heads of 320 elements; up to 256 are supported"));
}

}  // namespace
}  // namespace octavo
