#include <algorithm>
#include <map>
#include <set>

#include "passes/fuse.h"
#include "passes/rewriter.h"
#include "recipes/recipe.h"

namespace octavo {
namespace {

// Whatever turns wider floats into 8 bits: its first operand and result are a tensor and its codes.
bool is_cast(const Graph& g, const Node& n) {
    if (n.in.empty() || n.out.empty()) return false;
    const Type &x = g.type(n.in[0]), &y = g.type(n.out[0]);
    return is_fp8(y.dtype) && is_float(x.dtype) && !is_fp8(x.dtype) && x.shape == y.shape;
}

class CastMeter {
  public:
    CastMeter(const Recipe& recipe, const Graph& g)
        : recipe_(recipe), g_(g), match_(g), rewrite_(g) {
        for (WorkingWeight& w : working_weights(recipe, g)) {
            if (is_fp8(w.type.dtype)) working_.emplace(w.state, std::move(w));
        }
    }

    Graph run() {
        for (const Node& n : g_.nodes()) {
            rewrite_.keep(n);
            rewrite_.stand_at(n);
            if (const auto* load = std::get_if<Load>(&n.op)) {
                measure_weight(n, *load);
            } else if (is_cast(g_, n)) {
                measure(name_of(n), source(n), rewrite_(n.out[0]));
            }
        }
        Graph measured = rewrite_.finish();
        std::ranges::stable_sort(found_, {}, &Found::place);
        for (const Found& f : found_) measured.add_output(f.tensor, f.stats);
        return measured;
    }

  private:
    struct Found {
        std::string tensor;
        std::size_t place;  // of the Linear layer, in the order of the forward pass
        Value stats;
    };

    // What the codes stand for: casts may multiply by a power of two on the way.
    Value source(const Node& cast) {
        const Value x = rewrite_(cast.in[0]);
        const auto* op = std::get_if<Cast>(&cast.op);
        if (!op || op->exponent == 0) return x;
        return rewrite_.b.one(Cast{.to = Dtype::f32, .exponent = op->exponent}, {x});
    }

    // Forward and backward may each cast a weight for themselves, to the same codes.
    void measure(const std::string& tensor, Value x, Value y) {
        if (!names_.insert(tensor).second) return;
        const std::string place = tensor.substr(0, tensor.rfind('.'));
        found_.push_back({tensor, places_.emplace(place, places_.size()).first->second,
                          rewrite_.b.one(MeasureCast{}, {x, y})});
    }

    void measure_weight(const Node& n, const Load& load) {
        const auto w = working_.find(load.name);
        if (w == working_.end()) return;
        Builder& b = rewrite_.b;
        const Value master =
            b.one(Load{w->second.weight, w->second.master, w->second.exponent}, {});
        measure(w->second.weight, cast_source(b, recipe_, w->second, master), rewrite_(n.out[0]));
    }

    std::string name_of(const Node& cast) {
        const Node& source = match_.producer(cast.in[0]);
        if (const auto* load = std::get_if<Load>(&source.op)) return load->name;
        const auto is_store = [&](std::int32_t i) {
            return std::holds_alternative<Store>(g_.node(i).op);
        };
        if (std::ranges::all_of(match_.readers(cast.out[0]), is_store)) {
            return cast.label.substr(0, cast.label.rfind('.')) + ".grad";
        }
        if (const Node* folded = match_.producer_as<ScaleAlong>(cast.in[0])) {
            const Node* weight = match_.producer_as<Load>(folded->in[0]);
            if (weight) return std::string(parameter_of(std::get<Load>(weight->op).name));
        }
        const bool turned = std::holds_alternative<Transpose>(source.op);
        const Value x = turned ? source.in[0] : cast.in[0];
        std::string& name = operands_[x.id];
        if (name.empty()) {
            const bool forward = match_.producer(x).phase == Phase::forward;
            name = cast.label + (forward ? ".x" : ".dy");
        }
        return turned ? name + "_t" : name;
    }

    const Recipe& recipe_;
    const Graph& g_;
    Matcher match_;
    Rewriter rewrite_;
    std::map<std::string, WorkingWeight, std::less<>> working_;  // by the copy's name
    std::map<std::int32_t, std::string> operands_;  // names by value, for the transpose to share
    std::map<std::string, std::size_t> places_;
    std::set<std::string> names_;
    std::vector<Found> found_;
};

}  // namespace

Graph measure_casts(const Recipe& recipe, const Graph& applied) {
    return CastMeter(recipe, applied).run();
}

}  // namespace octavo
