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

TEST(CudaPlan, RefusesTallTransposes) {
    Graph g;
    Builder b(g);
    const auto scope = b.scope("lm_head");
    b.output("y", b.one(Transpose{}, {b.input("x", {Dtype::bf16, {5'000'000, 8}})}));
    const Unreachable backend;
    EXPECT_EQ(error_of([&] { Plan(g, backend); }),
              "transpose 'lm_head': no kernel of backend cuda takes transpose(bf16[5000000, 8]).\n"
              "  transpose: 5000000 rows; up to 4194240 are supported");
}

// A refusal inside of another kernel's preparation.
TEST(CudaPlan, RefusesVocabulariesThatAStepOfTheHeadDoesNotTake) {
    Graph g;
    Builder b(g);
    const auto scope = b.scope("lm_head");
    const Type x{Dtype::e4m3, {32, 16}, kPerTensor}, w{Dtype::e4m3, {5'000'000, 16}, kPerTensor};
    const Type one{Dtype::f32, {1}};
    const Values out = b.emit(
        HeadLoss{.chunk = 32, .quantise = ScaleRule{.to = Dtype::e5m2}},
        {b.input("x", x), b.input("w", w), b.input("targets", {Dtype::i32, {32}}),
         b.input("weight", one), b.input("dloss", one), b.input("history", {Dtype::f32, {4}}),
         b.input("counter", {Dtype::i32, {1}}), b.input("scale", one)});
    b.output("loss", out[0]);
    const Unreachable backend;
    EXPECT_EQ(error_of([&] { Plan(g, backend); }),
              "head_loss 'lm_head': transpose: no kernel takes it as a step of another\n"
              "  transpose: 5000000 rows; up to 4194240 are supported");
}

}  // namespace
}  // namespace octavo
