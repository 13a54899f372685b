#include "graph/rules.h"

namespace octavo {
namespace {

Types input_type(const Input& op, Operands in) {
    in.expect_count(0);
    return {op.type};
}
Types load_type(const Load& op, Operands in) {
    in.expect_count(0);
    return {op.type};
}
Types store_type(const Store&, Operands in) {
    in.expect_count(1);
    return {};
}

constexpr RulesFor<Input> kInput{.type = input_type};
constexpr RulesFor<Load> kLoad{.type = load_type};
constexpr RulesFor<Store> kStore{.type = store_type};

const Rules& rules(const Input&) { return kRules<kInput>; }
const Rules& rules(const Load&) { return kRules<kLoad>; }
const Rules& rules(const Store&) { return kRules<kStore>; }

}  // namespace

const Rules& rules_of(const Op& op) {
    return std::visit([](const auto& o) -> const Rules& { return rules(o); }, op);
}

void Operands::expect_count(std::size_t least, std::size_t most) const {
    if (least == most) {
        check(size() == least, "{} takes {} operands, got {}", op_, least, size());
    }
    check(size() >= least && size() <= most, "{} takes {} to {} operands, got {}", op_, least, most,
          size());
}

void Operands::expect_rank(std::size_t i, int rank) const {
    check(types_[i].shape.rank() == rank, "{}: operand {} must have {} dimensions, got {}", op_, i,
          rank, to_string(types_[i]));
}

void Operands::expect_shape(std::size_t i, const Shape& shape) const {
    check(types_[i].shape == shape, "{}: operand {} must have shape {}, got {}", op_, i,
          to_string(shape), to_string(types_[i]));
}

void Operands::expect_dtype(std::size_t i, Dtype dtype) const {
    check(types_[i].dtype == dtype && types_[i].scaling == kUnscaled,
          "{}: operand {} must be unscaled {}, got {}", op_, i, name(dtype), to_string(types_[i]));
}

void Operands::expect_float(std::size_t i) const {
    const Dtype d = types_[i].dtype;
    check(types_[i].scaling == kUnscaled && is_float(d) && !is_fp8(d),
          "{}: operand {} must be an unscaled f64, f32, bf16 or f16 tensor, got {}", op_, i,
          to_string(types_[i]));
}

void Operands::expect_like(std::size_t i, std::size_t as) const {
    check(types_[i] == types_[as], "{}: operands {} and {} must have the same type, got {} and {}",
          op_, as, i, to_string(types_[as]), to_string(types_[i]));
}

}  // namespace octavo
