#include "engine/engine_graphs.h"

#include "passes/fuse.h"
#include "passes/join_products.h"
#include "passes/simplify.h"

namespace octavo {
namespace {

Graph in_formats(const Recipe& recipe, const Target& target, Graph g) {
    Values none;
    g = apply(recipe, rewrite_forward(recipe, std::move(g), none), /*training=*/false);
    return fuse(join_products(g), target);
}

}  // namespace

Graph body_graph(const Architecture& arch, const Recipe& recipe, std::int64_t batch,
                 std::int64_t time, std::int64_t sequences, const CacheForm& form, bool calibrate,
                 const Target& target) {
    Graph g;
    Builder b(g);
    ModelBuilder m(b, arch);
    const Type tokens{Dtype::i32, {batch, time}};
    const Value ids = b.input("ids", tokens);
    CacheContext cache{.positions = b.input("positions", tokens),
                       .slots = b.input("slots", tokens),
                       .sequences = b.input("sequences", tokens),
                       .tables = b.input("tables", {Dtype::i32, {sequences, form.table}}),
                       .pool_slots = form.blocks * form.block,
                       .block = form.block,
                       .coded = form.coded,
                       .fp8_products = form.fp8_products};
    if (calibrate) cache.calibrate = form.ranges;
    m.cache = cache;
    b.output("hidden", b.reshape(backbone(m, ids), {batch * time, arch.hidden_size}));
    return in_formats(recipe, target, std::move(g));
}

Graph head_graph(const Architecture& arch, const Recipe& recipe, std::int64_t rows,
                 std::int64_t hidden_rows, const Target& target) {
    Graph g;
    Builder b(g);
    ModelBuilder m(b, arch);
    const Value hidden =
        b.load(std::string(kHiddenRows), {Dtype::f32, {hidden_rows, arch.hidden_size}});
    const Value chosen = b.one(GatherRows{}, {hidden, b.input("rows", {Dtype::i32, {rows}})});
    // The step is built in f32 and the recipe lowers it afterwards, so this cast is not idle.
    const Value logits = b.one(Cast{Dtype::f32}, {head(m, chosen)});
    b.output("logits", logits);
    const Values drawn = b.emit(Sample{}, {logits, b.input("reals", {Dtype::f32, {rows, 2}}),
                                           b.input("integers", {Dtype::i32, {rows, 4}})});
    b.output("tokens", drawn[0]);
    b.output("logprobs", drawn[1]);
    return in_formats(recipe, target, std::move(g));
}

}  // namespace octavo
