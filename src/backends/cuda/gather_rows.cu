#include "backends/cuda/row_copies.cuh"

namespace octavo::cuda {
namespace {

template <class Unit>
struct ChosenRows {
    const Unit* x;
    const std::int32_t* rows;
    Unit* y;
    std::int64_t units;

    __device__ RowCopy<Unit> operator()(std::int64_t i, int) const {
        return {x + rows[i] * units, y + i * units, units};
    }
};

void gather_rows(const KernelCall& call) {
    const Type& y = call.out[0].type;
    CopyUnit unit;
    unit.add(row_bytes(y));
    unit.dispatch([&](auto tag) {
        using Unit = typename decltype(tag)::type;
        const std::int64_t units = row_bytes(y) / static_cast<std::int64_t>(sizeof(Unit));
        copy_rows("gather_rows", y.shape.rows(), 1, units,
                  ChosenRows<Unit>{call.in[0].as<Unit>(), call.in[1].as<std::int32_t>(),
                                   call.out[0].as<Unit>(), units});
    });
}

Prepared prepare(const NodeView&) { return {gather_rows}; }

}  // namespace

void register_gather_rows(KernelRegistry& registry) {
    registry.add<GatherRows>({"gather_rows", takes_all, prepare});
}

}  // namespace octavo::cuda
