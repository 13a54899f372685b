#include <map>

#include "passes/fuse.h"
#include "passes/rewriter.h"
#include "recipes/table.h"

namespace octavo {
namespace {

// The product that alone reads the result of this node, a SwiGLU, along its rows.
const Node* down_projection(const Matcher& match, const Node& swiglu) {
    if (!std::holds_alternative<SwiGlu>(swiglu.op)) return nullptr;
    Value h = swiglu.out[0];
    while (const Node* reshape = match.only_reader_as<Reshape>(h)) h = reshape->out[0];
    const Node* product = match.only_reader_as<Matmul>(h);
    if (!product || product->in[0] != h) return nullptr;
    const auto& op = std::get<Matmul>(product->op);
    return op.kind == MatmulKind::fprop && !op.trans_a ? product : nullptr;
}

// swiglu(gate, up) W  ->  s * (h W) or h (s * W), with h = swiglu(gate, up) / s. Differentiation
// does the rest: to the gradients of W, gate and up, s is a constant that cancels. Where the
// product is not quantised there is nothing to smooth.
class Smoother {
  public:
    Smoother(const Recipe& recipe, const Graph& g)
        : recipe_(recipe), smooth_(*recipe.smooth), match_(g), rewrite_(g) {}

    Graph run(Values& values) {
        for (const Node& n : match_.graph().nodes()) {
            const Node* product = down_projection(match_, n);
            if (product && recipe_.quantises(product->label)) {
                divide(n, *product);
            } else if (const Value s = factors_of(n); s) {
                multiply_back(n, s);
            } else {
                rewrite_.keep(n);
            }
        }
        values = rewrite_(values);
        return rewrite_.finish();
    }

  private:
    void divide(const Node& swiglu, const Node& product) {
        rewrite_.stand_at(swiglu);
        SmoothSwiGlu op{.axis = smooth_.axis, .rounding = smooth_.rounding};
        Values in = rewrite_(swiglu.in);
        if (const auto given = factors_in_state(swiglu, product)) {
            op.given = true;
            in.push_back(rewrite_.b.one(*given, {}));
        }
        const Values out = rewrite_.b.emit(op, in);
        rewrite_.replace(swiglu.out[0], out[0]);
        factors_[product.out[0].id] = op.given ? in.back() : out[1];
    }

    // Those of the step before.
    std::optional<Load> factors_in_state(const Node& swiglu, const Node& product) const {
        const Node* weight = match_.producer_as<Load>(product.in[1]);
        if (!smooth_.in_state() || !weight || !std::get<Matmul>(product.op).trans_b) return {};
        const std::int64_t channels = match_.graph().type(swiglu.in[1]).shape.last();
        return Load{smooth_factor_name(std::get<Load>(weight->op).name), {Dtype::f32, {channels}}};
    }

    Value factors_of(const Node& n) const {
        const auto found = n.out.empty() ? factors_.end() : factors_.find(n.out[0].id);
        return found == factors_.end() ? Value{} : found->second;
    }

    void multiply_back(const Node& product, Value s) {
        if (smooth_.axis == Axis::row) {
            const Value y = rewrite_.keep(product)[0];
            rewrite_.replace(product.out[0], rewrite_.b.one(ScaleAlong{Axis::row}, {y, s}));
            return;
        }
        rewrite_.stand_at(product);
        const bool trans_b = std::get<Matmul>(product.op).trans_b;
        const Axis along_k = trans_b ? Axis::column : Axis::row;
        const Value w = rewrite_.b.one(ScaleAlong{along_k}, {rewrite_(product.in[1]), s});
        Values in = rewrite_(product.in);
        in[1] = w;
        rewrite_.keep(product, product.op, std::move(in));
    }

    const Recipe& recipe_;
    const Smooth& smooth_;
    Matcher match_;
    Rewriter rewrite_;
    std::map<std::int32_t, Value> factors_;  // by the product's old result
};

}  // namespace

Graph rewrite_forward(const Recipe& recipe, Graph forward, Values& values) {
    return recipe.smooth ? Smoother(recipe, forward).run(values) : forward;
}

// The products of fp8-lm, with Smooth-SwiGLU and both moments in 8 bits (arXiv 2409.12517). Its
// quotient has a scale from this very tensor: one of the past would clip a first spike.
Recipe smooth_swiglu_recipe() {
    Recipe r = fp8_lm_recipe();
    r.name = "smooth-swiglu";
    r.smooth = Smooth{.hidden = {.dtype = Dtype::e4m3, .provider = Provider::current}};
    r.states = {.master = Dtype::f16, .m = Dtype::e4m3, .v = Dtype::e5m2};
    return r;
}

}  // namespace octavo
