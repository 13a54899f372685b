#include "passes/rewriter.h"

namespace octavo {

Value Rewriter::operator()(Value v) const {
    check(bool(v) && bool(map_[v.id]), "a pass lost value {}", old_.value_name(v));
    return map_[v.id];
}

Values Rewriter::operator()(const Values& vs) const {
    Values mapped;
    mapped.reserve(vs.size());
    for (Value v : vs) mapped.push_back((*this)(v));
    return mapped;
}

void Rewriter::stand_at(const Node& n) {
    b.set_label(n.label);
    b.set_phase(n.phase);
}

const Values& Rewriter::keep(const Node& n, const Op& op, Values in) {
    stand_at(n);
    kept_ = b.emit(op, std::move(in));
    for (std::size_t i = 0; i < n.out.size(); ++i) replace(n.out[i], kept_[i]);
    return kept_;
}

Graph Rewriter::finish() {
    for (const Output& o : old_.outputs()) fresh_.add_output(o.name, (*this)(o.value));
#ifndef NDEBUG
    verify(fresh_);
#endif
    return std::move(fresh_);
}

}  // namespace octavo
