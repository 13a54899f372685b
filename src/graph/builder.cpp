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

Value Builder::one(Op op, Values in) { return emit(std::move(op), std::move(in))[0]; }

Value Builder::input(std::string name, Type type) { return one(Input{std::move(name), type}, {}); }
Value Builder::load(std::string name, Type type) { return one(Load{std::move(name), type}, {}); }
void Builder::store(std::string name, Value v) { emit(Store{std::move(name)}, {v}); }
Value Builder::constant(Type type, double value) { return one(Constant{type, value}, {}); }

Value Builder::add(Value a, Value b) { return one(Add{}, {a, b}); }
Value Builder::mul(Value a, Value b) { return one(Mul{}, {a, b}); }
Value Builder::cast(Value x, Dtype to) { return dtype(x) == to ? x : one(Cast{to}, {x}); }
Value Builder::reshape(Value x, Shape s) {
    return shape(x) == s ? x : one(Reshape{std::move(s)}, {x});
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
