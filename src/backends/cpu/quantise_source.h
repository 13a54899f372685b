// What a fused quantiser quantises: the results of its source op, which wait in scratch, or the
// operand itself.
#pragma once

#include <vector>

#include "backends/cpu/kernels.h"
#include "graph/rules.h"
#include "ops/delayed_quantise.h"

namespace octavo::cpu {

class QuantisedSource {
  public:
    QuantisedSource(QuantiseSource of, std::span<const Type> operands, int exponent = 0) {
        const std::optional<Op> source = source_op(of, exponent);
        if (!source) return;
        types_ = rules_of(*source).type(*source, Operands(op_name(*source), operands));
        for (const Type& t : types_) {
            offsets_.push_back(own_scratch_);
            own_scratch_ += total_bytes(t);
        }
        kernel_ = prepare_op(kernel_registry(), *source, operands);
    }

    // Types of the values: none without a source op.
    const Types& types() const { return types_; }
    std::int64_t scratch_bytes() const { return own_scratch_ + kernel_.scratch_bytes; }

    std::vector<TensorRef> values(std::span<const TensorRef> operands, std::byte* scratch) const {
        if (!kernel_.run) return {operands[0]};
        std::vector<TensorRef> results;
        for (std::size_t k = 0; k < types_.size(); ++k) {
            results.push_back(tensor_at(types_[k], scratch + offsets_[k]));
        }
        kernel_.run({operands, results, scratch + own_scratch_});
        return results;
    }

  private:
    Prepared kernel_;  // none for the value itself
    Types types_;
    std::vector<std::int64_t> offsets_;
    std::int64_t own_scratch_ = 0;
};

}  // namespace octavo::cpu
