// Models as plain functions over a Builder. Parameters are State tensors under their Hugging Face
// names, so checkpoints, conversions and error messages all speak the same language.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/builder.h"
#include "models/architecture.h"

namespace octavo {

enum class Init : std::uint8_t { normal, zeros, ones };

struct Parameter {
    std::string name;
    Shape shape;
    Init init = Init::normal;
    double sigma = 0;     // of Init::normal
    bool table = false;   // an embedding's or the head's: each row belongs to a token or a position
    bool router = false;  // a router's, which stays in f32 under every recipe

    // Weight decay is for matrices; norms and biases are left alone.
    bool decays() const { return shape.rank() >= 2; }
};

// Generation over a cache of keys and values in blocks (ops/paged_attention.cpp). Each layer has
// two pools in State, `kv/<layer>.k` and `.v`, (slots, G, D), in the dtype of the activations or in
// e4m3 under `kv.scale/<layer>.k` and `.v`.
struct CacheContext {
    // (B, T): where in its sequence each new token is (-1: an unused row), its slot in the pools,
    // and its row of `tables` (S, blocks of a sequence).
    Value positions, slots, sequences, tables;
    std::int64_t pool_slots = 0, block = 16;
    bool coded = false;
    bool fp8_products = false;  // of codes, q's under `kv.scale/<layer>.q`
    // The scales are those of this very forward (ops/range_scale.cpp), with one of q beside them,
    // and they stay in State.
    struct Ranges {
        float q = 200, k = 200, v = 100;
    };
    std::optional<Ranges> calibrate{};
};

// Whether q and k are normalised per head before they are turned, which bounds them.
bool has_qk_norm(const Architecture&);

// Sequences of several documents, none of which sees another: where the document of each token
// begins in its sequence, and how far into it the token is; both (B, T) i32.
struct DocumentContext {
    Value starts, positions;
};

// Weights start at N(0, kSigma); projections onto the residual stream at kSigma / sqrt(2 layers),
// so that its variance does not grow with depth (Radford et al., 2019).
inline constexpr double kSigma = 0.02;
double residual_sigma(const Architecture&);

// What a layer's router made of its tokens.
struct Router {
    std::string label;  // "model.layers.0.mlp"
    Value logits;       // (T, E) f32
    Value ids;          // (T, k) i32
    Value counts;       // (E) i32: choices of each expert
};

// Hands out parameters to a model function and remembers them.
class ModelBuilder {
  public:
    ModelBuilder(Builder& builder, const Architecture& architecture)
        : b(builder), arch(architecture) {}
    ModelBuilder(Builder&, Architecture&&) = delete;  // it would be gone

    // `name` is relative to the open scope, unless it starts with '/'.
    Value parameter(std::string_view name, Shape shape, Init init, double sigma = 0);
    Value table(std::string_view name, Shape shape, double sigma);
    Value router(Shape shape);
    const std::vector<Parameter>& parameters() const { return parameters_; }
    const Values& values() const { return values_; }  // in the order of parameters()

    // Where each token is in its sequence or document (B, T); no value: in the order of time.
    Value positions() const;
    // Attention over this sequence, its documents, or the cache when there is one: q (B, T, H, D),
    // k and v (B, T, G, D) -> (B, T, H * D). Call with the layer's scope open.
    Value attend(Value q, Value k, Value v);

    Builder& b;
    const Architecture& arch;
    std::optional<CacheContext> cache;
    std::optional<DocumentContext> documents;
    std::vector<Router> routers;  // in the order of the layers

  private:
    Value attend_cached(Value q, Value k, Value v);

    std::vector<Parameter> parameters_;
    Values values_;
};

// Token ids (B, T) to final hidden states (B, T, C), after the last norm.
Value backbone(ModelBuilder&, Value ids);
// Hidden states (..., C) to logits (..., V).
Value head(ModelBuilder&, Value hidden);

// weight * sum of the cross entropy of logits (B, T, V) and `targets` (B, T); targets < 0 are
// ignored.
Value language_model_loss(ModelBuilder&, Value logits, Value targets, Value weight);

// The auxiliary losses of all routers with these coefficients (ops/router_loss.cpp); there must be
// one. `weight` is that of the language model's loss.
Value router_loss(ModelBuilder&, double balance, double z, Value weight);

std::vector<Parameter> parameters(const Architecture&);
// The labels of the Linear layers, in the order of the model: the head is the last.
std::vector<std::string> linear_layers(const Architecture&);
// The largest power of two up to the standard deviation of a parameter's initial values, as
// exponent.
int size_exponent(Init, double sigma);

// The initial values of a parameter: a pure function of the seed and the parameter's name.
std::vector<float> initial_values(const Parameter&, std::uint64_t seed);

// One function per family of equations.
Value llama_backbone(ModelBuilder&, Value ids);  // Llama, Qwen2, Qwen3, Qwen3-MoE
Value llama_head(ModelBuilder&, Value hidden);
Value mixture_of_experts(ModelBuilder&, Value x);
Value gpt2_backbone(ModelBuilder&, Value ids);
Value gpt2_head(ModelBuilder&, Value hidden);

}  // namespace octavo
