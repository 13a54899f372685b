#include "passes/rewriter.h"
#include "recipes/recipe.h"

namespace octavo {

Graph measure_swiglus(const Graph& applied) {
    Rewriter rewrite(applied);
    Builder& b = rewrite.b;
    std::vector<Output> found;
    const auto measure = [&](const Node& n, Value h, Value factors) {
        found.push_back({std::string(kSwiGluAmax) + n.label, b.one(Amax{}, {h})});
        if (factors) found.push_back({std::string(kSwiGluFactors) + n.label, factors});
    };
    for (const Node& n : applied.nodes()) {
        const Values out = rewrite.keep(n);
        if (n.phase != Phase::forward) continue;
        rewrite.stand_at(n);
        if (std::holds_alternative<SwiGlu>(n.op)) measure(n, out[0], {});
        if (const auto* smooth = std::get_if<SmoothSwiGlu>(&n.op)) {
            const Values in = rewrite(n.in);
            // As it would be if nothing were divided out.
            const Value h = b.one(SwiGlu{}, {in[0], in[1]});
            measure(n, h, smooth->given ? in[2] : out[1]);
        }
    }
    Graph measured = rewrite.finish();
    for (Output& o : found) measured.add_output(std::move(o.name), o.value);
    return measured;
}

}  // namespace octavo
