// The plans of a run over one State: compiled first, weighed as a table, then given memory.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plan.h"

namespace octavo {

struct MemoryRow {
    std::string what;
    std::int64_t bytes = 0;
    std::string note;
};

class Program {
  public:
    explicit Program(Backend& backend) : backend_(backend) {}

    // Compiles a graph and declares the State it uses. In debug builds the graph is verified.
    void add(const std::string& name, Graph graph);

    // State by role, inputs, activations (the largest plan), scratch: what `allocate` will take.
    std::vector<MemoryRow> memory() const;
    std::int64_t total_bytes() const;
    // Refuses, with the table and what to lower, when the plan needs more than `limit` bytes.
    void allocate(std::int64_t limit);
    // Takes the plans away. Others can be added then, over State as it stands, which knows no
    // further tensors; `allocate` gives them the memory of the first, if they need no more.
    void remove_plans();

    Backend& backend() { return backend_; }
    State& state() { return state_; }
    const State& state() const { return state_; }
    bool has(std::string_view name) const { return plans_.find(name) != plans_.end(); }
    Plan& plan(std::string_view name);
    const Plan& plan(std::string_view name) const;
    void run(std::string_view name) { plan(name).run(); }

    // Host values of an input or output: element count and dtype are the caller's to get right.
    void write_input(std::string_view plan, std::string_view input, const void* host);
    void read_output(std::string_view plan, std::string_view output, void* host);

  private:
    Backend& backend_;
    State state_;
    std::map<std::string, std::unique_ptr<Plan>, std::less<>> plans_;
    Buffer memory_;  // state, then the work of plans (activations, scratch, inputs)
    std::int64_t work_bytes_ = 0;
    Buffer larger_work_;  // of plans that took the place of smaller ones
};

std::string to_text(const std::vector<MemoryRow>&);

}  // namespace octavo
