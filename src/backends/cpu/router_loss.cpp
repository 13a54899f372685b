#include <vector>

#include "backends/cpu/kernels.h"
#include "backends/cpu/router.h"

namespace octavo::cpu {
namespace {

struct Scratch {
    std::int64_t partials, sums, bytes;
};

template <class C>
Scratch cut_scratch(const Shape& logits) {
    ScratchCounter counter;
    Scratch s{};
    const std::int64_t columns = logits[1] + 1;
    s.partials = counter.reserve(row_chunk_bytes<C>(logits[0], columns));
    s.sums = counter.reserve(columns * static_cast<std::int64_t>(sizeof(C)));
    s.bytes = counter.bytes();
    return s;
}

template <class C>
void router_loss(const KernelCall& call, const RouterLoss& op, const Scratch& at) {
    const Shape& shape = call.in[1].type.shape;
    const std::int64_t tokens = shape[0], experts = shape[1];
    const std::int64_t choices = call.in[2].type.shape.elements();
    std::vector<double> probability(static_cast<std::size_t>(experts)), chosen(probability);
    double squares = 0;
    for (std::size_t i = 1; i < call.in.size(); i += 2) {
        const C* logits = call.in[i].as<C>();
        const std::int32_t* ids = call.in[i + 1].as<std::int32_t>();
        for (std::int64_t c = 0; c < choices; ++c) chosen[static_cast<std::size_t>(ids[c])] += 1;
        // Probabilities, and in the last column squares of logsumexp.
        C* sums = reinterpret_cast<C*>(call.scratch + at.sums);
        sum_over_row_chunks(tokens, experts + 1, call.scratch + at.partials, sums,
                            [&](std::int64_t begin, std::int64_t end, C* partial) {
                                for (std::int64_t t = begin; t < end; ++t) {
                                    const C* row = logits + t * experts;
                                    const Softmax<C> softmax({row, experts});
                                    for (std::int64_t e = 0; e < experts; ++e)
                                        partial[e] += softmax(row[e]);
                                    const C lse = softmax.logsumexp();
                                    partial[experts] += lse * lse;
                                }
                            });
        for (std::int64_t e = 0; e < experts; ++e) {
            probability[static_cast<std::size_t>(e)] += static_cast<double>(sums[e]);
        }
        squares += static_cast<double>(sums[experts]);
    }
    const double n = static_cast<double>(tokens) * static_cast<double>(call.in.size() / 2);
    double balance = 0;
    for (std::size_t e = 0; e < probability.size(); ++e) {
        balance += chosen[e] / n * (probability[e] / n);
    }
    const double loss = static_cast<double>(op.balance) * static_cast<double>(experts) * balance +
                        static_cast<double>(op.z) * squares / n;
    const auto weight = static_cast<double>(*call.in[0].as<C>());
    *call.out[0].as<C>() =
        tokens == 0 ? C(0) : static_cast<C>(weight * static_cast<double>(tokens) * loss);
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<RouterLoss>(node.op);
    const auto of = [&]<class C>(std::type_identity<C>) {
        const Scratch at = cut_scratch<C>(node.in[1].shape);
        return Prepared{[=](const KernelCall& call) { router_loss<C>(call, op, at); }, at.bytes};
    };
    return node.in[1].dtype == Dtype::f64 ? of(std::type_identity<double>{})
                                          : of(std::type_identity<float>{});
}

}  // namespace

void register_router_loss(KernelRegistry& registry) {
    registry.add<RouterLoss>({"router_loss", takes_all, prepare});
}

}  // namespace octavo::cpu
