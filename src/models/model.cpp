#include "models/model.h"

#include <cmath>

#include "base/parallel.h"
#include "base/rng.h"
#include "graph/scaled.h"

namespace octavo {

// Of biases, which start at zero, as if they had been drawn like weights.
int size_exponent(Init init, double sigma) {
    if (init == Init::ones) return 0;
    return floor_log2(sigma > 0 ? sigma : kSigma);
}

double residual_sigma(const Architecture& a) {
    return kSigma / std::sqrt(2.0 * static_cast<double>(a.layers));
}

Value ModelBuilder::parameter(std::string_view name, Shape shape, Init init, double sigma) {
    std::string full = name.starts_with('/')
                           ? std::string(name.substr(1))
                           : (b.label().empty() ? "" : b.label() + ".") + std::string(name);
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
        if (parameters_[i].name == full) return values_[i];  // tied
    }
    values_.push_back(b.one(Load{full, {Dtype::f32, shape}, size_exponent(init, sigma)}, {}));
    parameters_.push_back({std::move(full), shape, init, sigma});
    return values_.back();
}

Value ModelBuilder::table(std::string_view name, Shape shape, double sigma) {
    const std::size_t known = parameters_.size();
    const Value v = parameter(name, shape, Init::normal, sigma);
    if (parameters_.size() > known) parameters_.back().table = true;
    return v;
}

bool has_qk_norm(const Architecture& a) {
    return a.family == Family::qwen3 || a.family == Family::qwen3_moe;
}

Value ModelBuilder::positions() const {
    return cache ? cache->positions : documents ? documents->positions : Value{};
}

Value ModelBuilder::router(Shape shape) {
    const Value v = parameter("weight", shape, Init::normal, kSigma);
    parameters_.back().router = true;
    return v;
}

namespace {

float attention_scale(const Architecture& arch) {
    return static_cast<float>(1.0 / std::sqrt(static_cast<double>(arch.head_dim)));
}

}  // namespace

Value ModelBuilder::attend(Value q, Value k, Value v) {
    const std::int64_t batch = b.shape(q)[0], time = b.shape(q)[1];
    Value o;
    if (cache) {
        o = attend_cached(q, k, v);
    } else {
        Values operands{q, k, v};
        if (documents) operands.push_back(documents->starts);
        o = b.emit(Attention{attention_scale(arch)}, operands)[0];
    }
    return b.reshape(o, {batch, time, arch.heads * arch.head_dim});
}

Value ModelBuilder::attend_cached(Value q, Value k, Value v) {
    const CacheContext& c = *cache;
    const Type pool{c.coded ? Dtype::e4m3 : b.dtype(k),
                    {c.pool_slots, arch.kv_heads, arch.head_dim}};
    const auto named = [&](std::string_view role, std::string_view which) {
        return fmt::format("{}/{}.{}", role, b.label(), which);
    };
    Values scales;
    Value q_scale;
    const auto add_scale = [&](std::string_view which, Value x, float range) {
        const std::string name = named("kv.scale", which);
        if (!c.calibrate) return b.load(name, {Dtype::f32, {1}});
        const Value scale = b.one(RangeScale{range}, {b.one(Amax{}, {x})});
        b.store(name, scale);
        return scale;
    };
    if (c.coded) {
        const CacheContext::Ranges ranges = c.calibrate.value_or(CacheContext::Ranges{});
        if (c.calibrate || c.fp8_products) q_scale = add_scale("q", q, ranges.q);
        scales = {add_scale("k", k, ranges.k), add_scale("v", v, ranges.v)};
    }
    const auto with_scales = [&](Values operands) {
        operands.insert(operands.end(), scales.begin(), scales.end());
        return operands;
    };
    const Values pools =
        b.emit(KvWrite{}, with_scales({b.load(named("kv", "k"), pool),
                                       b.load(named("kv", "v"), pool), k, v, c.slots}));
    b.store(named("kv", "k"), pools[0]);
    b.store(named("kv", "v"), pools[1]);
    if (c.fp8_products) scales.push_back(q_scale);
    return b.one(PagedAttention{attention_scale(arch), c.block},
                 with_scales({q, pools[0], pools[1], c.positions, c.sequences, c.tables}));
}

Value backbone(ModelBuilder& m, Value ids) {
    return m.arch.family == Family::gpt2 ? gpt2_backbone(m, ids) : llama_backbone(m, ids);
}

Value head(ModelBuilder& m, Value hidden) {
    return m.arch.family == Family::gpt2 ? gpt2_head(m, hidden) : llama_head(m, hidden);
}

Value language_model_loss(ModelBuilder& m, Value logits, Value targets, Value weight) {
    Builder& b = m.b;
    const auto scope = b.scope("loss");
    const std::int64_t rows = b.shape(targets).elements();
    return b.emit(CrossEntropy{}, {b.reshape(logits, {rows, m.arch.vocab_size}),
                                   b.reshape(targets, {rows}), weight})[0];
}

std::vector<Parameter> parameters(const Architecture& arch) {
    Graph graph;
    Builder b(graph);
    ModelBuilder m(b, arch);
    head(m, backbone(m, b.input("ids", {Dtype::i32, {1, 1}})));
    return m.parameters();
}

std::vector<std::string> linear_layers(const Architecture& arch) {
    std::vector<std::string> labels;
    for (const Parameter& p : parameters(arch)) {
        if (!p.decays() || p.table || p.router) continue;
        labels.push_back(p.name.substr(0, p.name.rfind('.')));
    }
    labels.emplace_back("lm_head");
    return labels;
}

std::vector<float> initial_values(const Parameter& p, std::uint64_t seed) {
    const auto n = p.shape.elements();
    std::vector<float> values(static_cast<std::size_t>(n), p.init == Init::ones ? 1.0f : 0.0f);
    if (p.init != Init::normal) return values;
    const Rng rng(seed, random_stream(p.name));
    const auto sigma = static_cast<float>(p.sigma);
    parallel_for(n, 4096, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            values[static_cast<std::size_t>(i)] = sigma * rng.normal(static_cast<std::uint64_t>(i));
        }
    });
    return values;
}

}  // namespace octavo
