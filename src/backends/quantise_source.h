// What a fused quantiser quantises, through memory: the results of its source wait in scratch. For
// kernels that cannot compute a source on the way.
#pragma once

#include <vector>

#include "backends/kernels.h"
#include "ops/delayed_quantise.h"

namespace octavo {

class QuantisedSource {
  public:
    // `operands` are the source's alone; its function sees one of them times 2^exponent.
    QuantisedSource(const KernelRegistry& registry, QuantiseSource of,
                    const std::optional<ScaleAlong>& scaled, std::span<const Type> operands,
                    int exponent = 0)
        : types_(source_types(of, scaled, Operands("source", operands))) {
        Types in(operands.begin(), operands.end());
        std::int64_t own = 0;
        if (scaled) {
            scale_ = prepare_op(registry, *scaled, std::span(in).last(2));
            in.pop_back();
            scaled_at_ = scratch_.reserve(total_bytes(in.back()));
            scaled_type_ = in.back();
            own = scale_.scratch_bytes;
        }
        if (const std::optional<Op> source = source_op(of, exponent)) {
            for (const Type& t : types_) results_at_.push_back(scratch_.reserve(total_bytes(t)));
            source_ = prepare_op(registry, *source, in);
            own = std::max(own, source_.scratch_bytes);
        }
        own_at_ = scratch_.reserve(own);
    }

    const Types& types() const { return types_; }
    std::int64_t scratch_bytes() const { return scratch_.bytes(); }

    // Without a source, the operand itself.
    std::vector<TensorRef> values(std::span<const TensorRef> operands, std::byte* scratch) const {
        std::vector<TensorRef> in(operands.begin(), operands.end());
        if (scale_.run) {
            const TensorRef scaled = tensor_at(scaled_type_, scratch + scaled_at_);
            scale_.run({std::span(in).last(2), std::span(&scaled, 1), scratch + own_at_});
            in.pop_back();
            in.back() = scaled;
        }
        if (!source_.run) return in;
        std::vector<TensorRef> results;
        for (std::size_t k = 0; k < types_.size(); ++k) {
            results.push_back(tensor_at(types_[k], scratch + results_at_[k]));
        }
        source_.run({in, results, scratch + own_at_});
        return results;
    }

  private:
    Prepared scale_, source_;  // none where there is nothing to scale or to compute
    Types types_;
    Type scaled_type_;
    ScratchCounter scratch_;
    std::int64_t scaled_at_ = 0, own_at_ = 0;
    std::vector<std::int64_t> results_at_;
};

}  // namespace octavo
