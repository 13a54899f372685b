#include "backends/cuda/row_copies.cuh"

namespace octavo::cuda {
namespace {

template <class Unit>
struct TableRows {
    const Unit* table;
    const std::int32_t* ids;
    Unit* y;
    std::int64_t units;

    __device__ RowCopy<Unit> operator()(std::int64_t row, int) const {
        const std::int32_t id = ids[row];
        return {id < 0 ? nullptr : table + id * units, y + row * units, units};
    }
};

void embedding(const KernelCall& call) {
    const Type& y = call.out[0].type;
    CopyUnit unit;
    unit.add(row_bytes(y));
    unit.dispatch([&](auto tag) {
        using Unit = typename decltype(tag)::type;
        const std::int64_t units = row_bytes(y) / static_cast<std::int64_t>(sizeof(Unit));
        copy_rows("embedding", y.shape.rows(), 1, units,
                  TableRows<Unit>{call.in[0].as<Unit>(), call.in[1].as<std::int32_t>(),
                                  call.out[0].as<Unit>(), units});
    });
}

Prepared prepare(const NodeView&) { return {embedding}; }

}  // namespace

void register_embedding(KernelRegistry& registry) {
    registry.add<Embedding>({"embedding", takes_all, prepare});
}

}  // namespace octavo::cuda
