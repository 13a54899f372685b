#include "graph/builder.h"

namespace octavo {

Values Builder::emit(Op op, Values in) {
    std::vector<Type> operands;
    operands.reserve(in.size());
    for (Value v : in) {
        check(bool(v) && v.id < graph_.value_count(), "{} '{}': operand {} is not a value",
              op_name(op), label_, operands.size());
        operands.push_back(graph_.type(v));
    }
    Types results;
    try {
        results = rules_of(op).type(op, Operands(op_name(op), operands));
    } catch (const Error& e) {
        throw label_.empty() ? e : e.in(fmt::format("'{}'", label_));
    }
    return graph_.append(std::move(op), std::move(in), results, label_, phase_);
}

Value Builder::linear(Value x, Value w) {
    return one(Matmul{.trans_b = true, .kind = MatmulKind::fprop, .out = dtype(x)}, {x, w});
}

Value Builder::conv1d(Value x, Value w) {
    return one(Matmul{.kind = MatmulKind::fprop, .out = dtype(x)}, {x, w});
}

Builder::Scope::Scope(Builder& b, std::string_view name) : builder_(b), outer_(b.label_) {
    if (!b.label_.empty()) b.label_ += '.';
    b.label_ += name;
}

}  // namespace octavo
