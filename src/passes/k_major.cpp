#include "passes/k_major.h"

#include <map>

#include "passes/rewriter.h"

namespace octavo {
namespace {

class KMajor {
  public:
    explicit KMajor(const Graph& g) : g_(g), rewrite_(g) {}

    Graph run() {
        for (const Node& n : g_.nodes()) {
            const auto* matmul = std::get_if<Matmul>(&n.op);
            if (!matmul || !is_fp8(g_.type(n.in[0]).dtype) || !is_fp8(g_.type(n.in[1]).dtype)) {
                rewrite_.keep(n);
                continue;
            }
            rewrite_.stand_at(n);
            Matmul op = *matmul;
            Values in = rewrite_(n.in);
            const bool stack = op.groups > 0 && !op.group_k;
            if (op.trans_a) in[0] = transposed(n.in[0], false);
            if (!op.trans_b) in[1] = transposed(n.in[1], stack);
            op.trans_a = false;
            op.trans_b = true;
            rewrite_.keep(n, op, std::move(in));
        }
        return rewrite_.finish();
    }

  private:
    Value transposed(Value v, bool batched) {
        Value& copy = copies_[v.id];
        if (!copy) copy = rewrite_.b.one(Transpose{batched}, {rewrite_(v)});
        return copy;
    }

    const Graph& g_;
    Rewriter rewrite_;
    std::map<std::int32_t, Value> copies_;  // by old value
};

}  // namespace

Graph k_major(const Graph& g) { return KMajor(g).run(); }

}  // namespace octavo
