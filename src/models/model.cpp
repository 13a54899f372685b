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

// FNV-1a.
std::uint64_t random_stream(std::string_view parameter) {
    std::uint64_t h = 0xcbf29ce484222325;
    for (const char c : parameter) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return h;
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

Value ModelBuilder::positions() const {
    return cache ? cache->positions : documents ? documents->positions : Value{};
}

Value ModelBuilder::router(Shape shape) {
    const Value v = parameter("weight", shape, Init::normal, kSigma);
    parameters_.back().router = true;
    return v;
}

Value ModelBuilder::attend(Value q, Value k, Value v) {
    const std::int64_t batch = b.shape(q)[0], time = b.shape(q)[1];
    const Attention op{static_cast<float>(1.0 / std::sqrt(static_cast<double>(arch.head_dim))),
                       documents.has_value()};
    Value o;
    if (cache) {
        const auto extended = [&](std::string_view which, Value fresh) {
            const std::string name = fmt::format("kv/{}.{}", b.label(), which);
            const Shape shape{batch, cache->length, arch.kv_heads, arch.head_dim};
            const Value old = b.load(name, {b.dtype(fresh), shape});
            const Value all = b.one(KvWrite{}, {old, fresh, cache->positions});
            b.store(name, all);
            return all;
        };
        const Value keys = extended("k", k), values = extended("v", v);
        o = b.emit(op, {q, keys, values, cache->positions})[0];
    } else if (documents) {
        o = b.emit(op, {q, k, v, documents->starts})[0];
    } else {
        o = b.emit(op, {q, k, v})[0];
    }
    return b.reshape(o, {batch, time, arch.heads * arch.head_dim});
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
