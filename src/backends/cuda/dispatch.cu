#include "backends/cuda/row_copies.cuh"

namespace octavo::cuda {
namespace {

template <class Unit>
struct TokensOfRows {
    const Unit* x;
    const std::int32_t* choices;
    std::int64_t k;
    Unit* y;
    std::int64_t units;

    __device__ RowCopy<Unit> operator()(std::int64_t i, int) const {
        const std::int32_t choice = choices[i];
        return {choice < 0 ? nullptr : x + choice / k * units, y + i * units, units};
    }
};

void dispatch(const KernelCall& call) {
    const Type& y = call.out[0].type;
    CopyUnit unit;
    unit.add(row_bytes(y));
    unit.dispatch([&](auto tag) {
        using Unit = typename decltype(tag)::type;
        const std::int64_t units = row_bytes(y) / static_cast<std::int64_t>(sizeof(Unit));
        copy_rows("dispatch", y.shape[0], 1, units,
                  TokensOfRows<Unit>{call.in[0].as<Unit>(), call.in[2].as<std::int32_t>(),
                                     call.in[1].type.shape[1], call.out[0].as<Unit>(), units});
    });
}

Prepared prepare(const NodeView&) { return {dispatch}; }

}  // namespace

void register_dispatch(KernelRegistry& registry) {
    registry.add<Dispatch>({"dispatch", takes_all, prepare});
}

}  // namespace octavo::cuda
