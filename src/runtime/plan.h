// A graph made ready to run on a backend: kernels chosen, memory planned, and, once bound, every
// address fixed. Running it is a loop over prepared calls.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "runtime/backend.h"
#include "runtime/memory_plan.h"
#include "runtime/state.h"

namespace octavo {

// The kernel of a node, and why the kernels before it in the list refused.
struct Choice {
    std::string_view kernel;  // empty: the executor itself handles the node
    std::vector<std::string> refusals;
};

// Called after each node with the results in place; used for checks and profiles.
using NodeObserver = std::function<void(std::int32_t node)>;

class Plan {
  public:
    // Chooses kernels and plans memory. Throws Error, naming node and operands, if no kernel takes
    // a node. The name is for messages.
    Plan(Graph graph, const Backend& backend, std::string name = "");
    Plan(const Plan&) = delete;  // a recording holds the address
    Plan& operator=(const Plan&) = delete;

    const Graph& graph() const { return graph_; }
    const MemoryPlan& memory() const { return memory_; }
    const Choice& choice(std::int32_t node) const { return choices_[node]; }
    std::int64_t arena_bytes() const { return memory_.arena_bytes; }
    std::int64_t scratch_bytes() const { return scratch_bytes_; }
    std::int64_t input_bytes() const { return memory_.input_bytes; }

    // Fixes all addresses. The memory must outlive the plan; arena and scratch may be shared with
    // other plans, since only one runs at a time.
    void bind(Backend&, const State&, std::byte* arena, std::byte* scratch, std::byte* inputs);
    void run(const NodeObserver& after_node = {});

    const TensorRef& tensor(Value v) const { return tensors_[v.id]; }
    const TensorRef& input(std::string_view name) const;
    // Valid until a plan that shares the arena runs.
    const TensorRef& output(std::string_view name) const;

  private:
    struct Step {
        std::int32_t node;
        std::function<void(const KernelCall&)> run;
        std::vector<TensorRef> in, out;
    };

    const Kernel& choose_kernel(std::int32_t node, const Backend&);
    std::string describe(std::int32_t node) const;
    void launch(const NodeObserver& after_node = {}) const;

    Graph graph_;
    std::string name_;
    MemoryPlan memory_;
    std::vector<Choice> choices_;
    std::vector<Prepared> prepared_;  // by node; empty for nodes without a kernel
    std::int64_t scratch_bytes_ = 0;
    std::vector<TensorRef> tensors_;  // by value
    std::vector<Step> steps_;
    std::byte* scratch_ = nullptr;
    Backend* backend_ = nullptr;
    std::unique_ptr<Trail> trail_;
    bool launched_ = false;
    std::function<void()> replay_;  // of launch, from the second run on
};

// One line per node: kernel, results, bytes, refusals. For `octavo inspect plan`.
std::string to_text(const Plan&);

}  // namespace octavo
