// Runs a whole graph, its inputs and State filled with values that depend on their names alone.
#pragma once

#include <map>

#include "ops/op_test.h"

namespace octavo::test {

struct Ran {
    std::map<std::string, HostTensor> outputs, state;
    std::int64_t arena_bytes = 0;
};

inline std::uint64_t seed_of(std::string_view name) {
    std::uint64_t h = 7;
    for (const char c : name) h = h * 131 + static_cast<unsigned char>(c);
    return h;
}

// Normal values, ids below 3, codes under a scale of 1/2.
inline void fill(const TensorRef& t, std::string_view name) {
    const Dtype dtype = t.type.dtype;
    HostTensor h = is_float(dtype) ? random_tensor(dtype, t.type.shape, seed_of(name))
                                   : random_ids(t.type.shape, 3, seed_of(name));
    if (t.scale) h.scales = {0.5f};
    write_tensor(t, h);
}

inline Ran run_graph(const Graph& g) {
    verify(g);
    Program program(backend());
    program.add("test", g);
    program.allocate(std::int64_t{1} << 34);
    for (const Node& n : g.nodes()) {
        const auto* input = std::get_if<Input>(&n.op);
        if (input) fill(program.plan("test").input(input->name), input->name);
    }
    for (const State::Entry& e : program.state().entries()) fill(e.tensor, e.name);
    program.run("test");
    Ran ran{{}, {}, program.plan("test").arena_bytes()};
    for (const Output& o : g.outputs()) {
        ran.outputs[o.name] = read_tensor(program.plan("test").output(o.name));
    }
    for (const State::Entry& e : program.state().entries()) {
        if (state_role(e.name) == "scale.guess") continue;  // nothing follows from it
        ran.state[e.name] = read_tensor(e.tensor);
    }
    return ran;
}

inline void expect_same_bits(const std::map<std::string, HostTensor>& got,
                             const std::map<std::string, HostTensor>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (const auto& [name, w] : want) {
        ASSERT_TRUE(got.contains(name)) << name;
        const HostTensor& g = got.at(name);
        EXPECT_EQ(g.type, w.type) << name;
        EXPECT_TRUE(g.codes == w.codes) << name << " differs";
        EXPECT_TRUE(g.scales == w.scales) << name << " has another scale";
    }
}

inline void expect_same_bits(const Ran& got, const Ran& want) {
    expect_same_bits(got.outputs, want.outputs);
    expect_same_bits(got.state, want.state);
}

template <class T>
int count(const Graph& g) {
    int n = 0;
    for (const Node& node : g.nodes()) n += std::holds_alternative<T>(node.op);
    return n;
}

}  // namespace octavo::test
