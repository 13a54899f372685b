#include "graph/scaled.h"

#include <cmath>

namespace octavo {

Scaled ScaleBuilder::settled(const Scaled& x) {
    if (x.scale.any || x.scale.base != x.size.base || x.scale == x.size) return x;
    const Cast op{.to = b.dtype(x.data), .exponent = x.scale.offset - x.size.offset};
    return {b.one(op, {x.data}), x.size, x.size};
}

Value ScaleBuilder::scale_value(const Exponent& e) {
    const Type one{Dtype::f32, {1}};
    if (!e.base) return b.constant(one, std::ldexp(1.0, e.any ? 0 : e.offset));
    return e.offset == 0 ? e.base : b.one(Cast{.to = Dtype::f32, .exponent = e.offset}, {e.base});
}

Value ScaleBuilder::value(const Scaled& x) {
    if (x.scale.any || x.scale == Exponent{}) return x.data;
    if (x.scale.base) return b.mul(x.data, scale_value(x.scale));
    return b.one(Cast{.to = b.dtype(x.data), .exponent = x.scale.offset}, {x.data});
}

int ScaleBuilder::offset(const Scaled& x, std::string_view op) const {
    check(!x.scale.base, "{} '{}': its operand has a scale that depends on the step's numbers", op,
          b.label());
    return x.scale.offset;
}

Exponent product(ScaleBuilder& s, const Exponent& a, const Exponent& b) {
    const Value base = !a.base ? b.base : !b.base ? a.base : s.b.mul(a.base, b.base);
    return {a.offset + b.offset, base, a.any || b.any};
}

Exponent shifted(Exponent e, int by) {
    e.offset += by;
    return e;
}

Value cast_data(Builder& b, const Cast& op, Value data, bool nan_casts) {
    if (nan_casts && is_fp8(op.to)) data = b.one(OverflowToNan{op.to, op.exponent}, {data});
    return b.one(op, {data});
}

ScaledValues like_first(ScaleBuilder& s, const Op& op, const ScaledValues& in) {
    Values data;
    for (const Scaled& x : in) data.push_back(x.data);
    ScaledValues out;
    for (const Value v : s.b.emit(op, data)) out.push_back({v, in[0].scale, in[0].size});
    return out;
}

int floor_log2(double v) {
    int exponent = 0;
    std::frexp(v, &exponent);
    return exponent - 1;
}

int sum_exponent(std::int64_t n) { return n < 1 ? 0 : floor_log2(static_cast<double>(n)) / 2; }

int softmax_gradient_exponent(std::int64_t v) {
    if (v < 2) return 0;
    const auto n = static_cast<double>(v);
    return floor_log2(std::sqrt(n - 1) / n);
}

int attention_exponent(std::int64_t t) {
    if (t < 2) return 0;
    const auto n = static_cast<double>(t);
    return floor_log2(std::pow(std::log(n) / n, 0.25));
}

}  // namespace octavo
