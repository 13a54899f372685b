// The only file that sees cudnn-frontend, which takes half a minute to compile.
#include "backends/cuda/attention_cudnn.h"

#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <map>
#include <memory>
#include <tuple>

#include "backends/cuda/device.h"

namespace octavo::cuda {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

cudnnHandle_t cudnn() {
    static const cudnnHandle_t handle = [] {
        cudnnHandle_t h = nullptr;
        check(cudnnCreate(&h) == CUDNN_STATUS_SUCCESS, "cuDNN: cudnnCreate failed");
        check(cudnnSetStream(h, stream()) == CUDNN_STATUS_SUCCESS, "cuDNN: no stream");
        return h;
    }();
    return handle;
}

enum Id : std::int64_t { kQ = 1, kK, kV, kO, kStats, kDo, kDq, kDk, kDv, kBias };

struct Shapes {
    std::int64_t batch, time, heads, kv_heads, dim;
    Dtype dtype;
    float scale;
    bool backward, documents, deterministic = false;
    auto operator<=>(const Shapes&) const = default;
};

// The bias that keeps documents apart would take more than this: then it is not worth it.
constexpr std::int64_t kMostBiasBytes = std::int64_t{1} << 30;

Shapes shapes_of(const NodeView& node) {
    const Shape &q = node.in[0].shape, &k = node.in[1].shape;
    Shapes s{q[0], q[1], q[2], k[2], q[3], node.in[0].dtype, 1, false, false};
    if (const auto* forward = std::get_if<Attention>(&node.op)) {
        s.scale = forward->scale;
        s.documents = node.in.size() == 4;
    } else {
        s.scale = std::get<AttentionGrad>(node.op).scale;
        s.backward = true;
        s.documents = node.in.size() == 7;
    }
    return s;
}

std::int64_t bias_bytes(const Shapes& s) {
    return s.documents ? s.batch * s.time * s.time * std::int64_t{2} : 0;
}

// A compiled attention, or the reason why there is none.
struct Built {
    std::shared_ptr<fe::graph::Graph> graph;
    std::int64_t workspace = 0;
    std::string refusal;
};

class GraphOf {
  public:
    explicit GraphOf(const Shapes& s) : s_(s), graph_(std::make_shared<fe::graph::Graph>()) {
        graph_
            ->set_io_data_type(s.dtype == Dtype::bf16 ? fe::DataType_t::BFLOAT16
                                                      : fe::DataType_t::HALF)
            .set_intermediate_data_type(fe::DataType_t::FLOAT)
            .set_compute_data_type(fe::DataType_t::FLOAT);
    }

    std::shared_ptr<fe::graph::Graph> forward() {
        auto attributes = fe::graph::SDPA_attributes()
                              .set_name("attention")
                              .set_generate_stats(true)
                              .set_causal_mask(true)
                              .set_attn_scale(s_.scale);
        if (s_.documents) attributes.set_bias(bias());
        auto [o, stats] = graph_->sdpa(heads_tensor(kQ, s_.heads), heads_tensor(kK, s_.kv_heads),
                                       heads_tensor(kV, s_.kv_heads), attributes);
        result(o, kO, s_.heads);
        stats->set_output(true).set_uid(kStats).set_data_type(fe::DataType_t::FLOAT);
        return graph_;
    }

    std::shared_ptr<fe::graph::Graph> backward() {
        auto attributes = fe::graph::SDPA_backward_attributes()
                              .set_name("attention_grad")
                              .set_deterministic_algorithm(s_.deterministic)
                              .set_causal_mask(true)
                              .set_attn_scale(s_.scale);
        if (s_.documents) attributes.set_bias(bias());
        const Tensor stats = graph_->tensor(fe::graph::Tensor_attributes()
                                                .set_uid(kStats)
                                                .set_data_type(fe::DataType_t::FLOAT)
                                                .set_dim({s_.batch, s_.heads, s_.time, 1})
                                                .set_stride({s_.heads * s_.time, s_.time, 1, 1}));
        auto [dq, dk, dv] =
            graph_->sdpa_backward(heads_tensor(kQ, s_.heads), heads_tensor(kK, s_.kv_heads),
                                  heads_tensor(kV, s_.kv_heads), heads_tensor(kO, s_.heads),
                                  heads_tensor(kDo, s_.heads), stats, attributes);
        result(dq, kDq, s_.heads);
        result(dk, kDk, s_.kv_heads);
        result(dv, kDv, s_.kv_heads);
        return graph_;
    }

  private:
    // Octavo keeps (B, T, H, D); cuDNN speaks of (B, H, T, D) and takes any strides.
    std::vector<std::int64_t> dims(std::int64_t heads) const {
        return {s_.batch, heads, s_.time, s_.dim};
    }
    std::vector<std::int64_t> strides(std::int64_t heads) const {
        return {s_.time * heads * s_.dim, s_.dim, heads * s_.dim, 1};
    }
    Tensor heads_tensor(Id id, std::int64_t heads) {
        return graph_->tensor(fe::graph::Tensor_attributes()
                                  .set_uid(id)
                                  .set_dim(dims(heads))
                                  .set_stride(strides(heads)));
    }
    Tensor bias() {
        const std::int64_t t = s_.time;
        return graph_->tensor(fe::graph::Tensor_attributes()
                                  .set_uid(kBias)
                                  .set_dim({s_.batch, 1, t, t})
                                  .set_stride({t * t, t * t, t, 1}));
    }
    void result(const Tensor& t, Id id, std::int64_t heads) const {
        t->set_output(true).set_uid(id).set_dim(dims(heads)).set_stride(strides(heads));
    }

    Shapes s_;
    std::shared_ptr<fe::graph::Graph> graph_;
};

// Compiling takes a good part of a second, and all layers share one shape.
const Built& built(Shapes s) {
    static std::map<Shapes, Built> known;
    s.deterministic = device().deterministic();
    const auto [it, fresh] = known.try_emplace(s);
    if (!fresh) return it->second;
    Built& b = it->second;
    GraphOf graph(s);
    b.graph = s.backward ? graph.backward() : graph.forward();
    fe::error_t status = b.graph->build(cudnn(), {fe::HeurMode_t::A});
    if (status.is_good()) status = b.graph->get_workspace_size(b.workspace);
    if (!status.is_good()) b.refusal = "cuDNN: " + status.get_message();
    return b;
}

Refusal reject(const Shapes& s) {
    if (s.dtype != Dtype::bf16 && s.dtype != Dtype::f16) {
        return fmt::format("cuDNN takes bf16 and f16, not {}", name(s.dtype));
    }
    if (s.batch == 0 || s.time == 0) return "no elements";
    if (s.dim % 8 != 0) return fmt::format("a head of {} is no multiple of 8", s.dim);
    if (s.documents && s.time % 8 != 0) {
        return fmt::format("documents in sequences of {}, no multiple of 8", s.time);
    }
    if (bias_bytes(s) > kMostBiasBytes) {
        return fmt::format("a bias of {} MB to keep documents apart", bias_bytes(s) / 1000000);
    }
    const Built& b = built(s);
    return b.refusal.empty() ? Refusal{} : Refusal{b.refusal};
}

std::int64_t bias_offset(const Built& b) { return (b.workspace + 255) / 256 * 256; }

// With `starts`, the bias lies in scratch behind cuDNN's workspace.
void execute(const Shapes& s, const Built& b, std::unordered_map<std::int64_t, void*> tensors,
             const KernelCall& call, std::size_t starts) {
    if (s.documents) {
        void* const bias = call.scratch + bias_offset(b);
        write_document_bias(s.dtype, call.in[starts].as<std::int32_t>(), bias, s.batch, s.time);
        tensors[kBias] = bias;
    }
    fe::error_t status = b.graph->execute(cudnn(), tensors, call.scratch);
    if (!status.is_good()) expect_no_fault();
    check(status.is_good(), "cuDNN: attention failed: {}", status.get_message());
}

std::int64_t scratch_bytes(const Shapes& s, const Built& b) {
    return s.documents ? bias_offset(b) + bias_bytes(s) : b.workspace;
}

}  // namespace

Refusal reject_attention_cudnn(const NodeView& node) { return reject(shapes_of(node)); }

Prepared prepare_attention_cudnn(const NodeView& node) {
    const Shapes s = shapes_of(node);
    const Built& b = built(s);
    return {[s, &b](const KernelCall& call) {
                execute(s, b,
                        {{kQ, call.in[0].data},
                         {kK, call.in[1].data},
                         {kV, call.in[2].data},
                         {kO, call.out[0].data},
                         {kStats, call.out[1].data}},
                        call, 3);
            },
            scratch_bytes(s, b)};
}

Refusal reject_attention_grad_cudnn(const NodeView& node) { return reject(shapes_of(node)); }

Prepared prepare_attention_grad_cudnn(const NodeView& node) {
    const Shapes s = shapes_of(node);
    const Built& b = built(s);
    return {[s, &b](const KernelCall& call) {
                execute(s, b,
                        {{kQ, call.in[0].data},
                         {kK, call.in[1].data},
                         {kV, call.in[2].data},
                         {kO, call.in[3].data},
                         {kStats, call.in[4].data},
                         {kDo, call.in[5].data},
                         {kDq, call.out[0].data},
                         {kDk, call.out[1].data},
                         {kDv, call.out[2].data}},
                        call, 6);
            },
            scratch_bytes(s, b)};
}

}  // namespace octavo::cuda
