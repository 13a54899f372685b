#include "graph/graph.h"

#include <utility>

namespace octavo {

std::string_view op_name(const Op& op) {
    struct Names {
        std::string_view operator()(const Input&) const { return "input"; }
        std::string_view operator()(const Load&) const { return "load"; }
        std::string_view operator()(const Store&) const { return "store"; }
#define OP(T, file) \
    std::string_view operator()(const T&) const { return #file; }
#include "graph/ops.inc"
#undef OP
    };
    return std::visit(Names{}, op);
}

const Values& Graph::append(Op op, Values in, std::span<const Type> results, std::string label,
                            Phase phase) {
    Node& node =
        nodes_.emplace_back(Node{std::move(op), std::move(in), {}, std::move(label), phase});
    for (const Type& type : results) {
        node.out.push_back({value_count()});
        values_.push_back({type, static_cast<std::int32_t>(nodes_.size()) - 1,
                           static_cast<int>(node.out.size()) - 1});
    }
    return node.out;
}

std::string Graph::value_name(Value v) const {
    if (!v) return "none";
    const Node& node = nodes_[producer(v)];
    if (const auto* load = std::get_if<Load>(&node.op)) return load->name;
    if (const auto* input = std::get_if<Input>(&node.op)) return input->name;
    std::string name = fmt::format("%{}", v.id);
    if (!node.label.empty()) name += fmt::format(" ({} of {})", op_name(node.op), node.label);
    return name;
}

}  // namespace octavo
