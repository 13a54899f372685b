#include "runtime/program.h"

#include <algorithm>

namespace octavo {
namespace {

std::int64_t aligned(std::int64_t bytes) { return (bytes + 255) / 256 * 256; }

std::string_view role_note(std::string_view role) {
    if (role == "weight") return "master weights";
    if (role == "work.scale") return "scales of weights that are cast in every pass";
    if (role.starts_with("work")) return "weights as the matrix products read them";
    if (role == "grad.scale") return "what gradients are multiplied by";
    if (role == "grad") return "gradients, not saved in checkpoints";
    if (role.starts_with("adam")) return "optimizer moment";
    if (role.starts_with("scale")) return "scale state of the recipe";
    if (role.starts_with("smooth")) return "factors of SwiGLU channels";
    if (role == "step") return "what a step adds up";
    if (role == "kv") return "key-value cache";
    return "";
}

}  // namespace

void Program::add(const std::string& name, Graph graph) {
#ifndef NDEBUG
    verify(graph);
#endif
    for (const Node& n : graph.nodes()) {
        if (const auto* load = std::get_if<Load>(&n.op)) {
            state_.declare(load->name, load->type, load->exponent);
        }
        if (const auto* store = std::get_if<Store>(&n.op)) {
            state_.declare(store->name, graph.type(n.in[0]));
        }
    }
    check(!has(name), "there is a plan '{}' already", name);
    plans_[name] = std::make_unique<Plan>(std::move(graph), backend_, name);
}

std::vector<MemoryRow> Program::memory() const {
    std::vector<MemoryRow> rows;
    for (const auto& [role, bytes] : state_.bytes_by_role()) {
        rows.push_back({"state: " + role, bytes, std::string(role_note(role))});
    }
    MemoryRow activations{"activations", 0, ""}, scratch{"scratch", 0, ""}, inputs{"inputs", 0, ""};
    for (const auto& [name, plan] : plans_) {
        if (plan->arena_bytes() > activations.bytes) {
            activations = {"activations", aligned(plan->arena_bytes()), "largest plan: " + name};
        }
        scratch.bytes = std::max(scratch.bytes, aligned(plan->scratch_bytes()));
        inputs.bytes += aligned(plan->input_bytes());
    }
    scratch.note = "largest kernel";
    rows.insert(rows.end(), {activations, scratch, inputs});
    return rows;
}

std::int64_t Program::total_bytes() const {
    std::int64_t sum = 0;
    for (const MemoryRow& row : memory()) sum += row.bytes;
    return sum;
}

void Program::allocate(std::int64_t limit) {
    const std::int64_t need = total_bytes();
    // What was allocated for earlier plans stays.
    const std::int64_t more = state_.has_memory() ? need - memory_.bytes() : 0;
    check(need + (more > 0 ? work_bytes_ : 0) <= limit,
          "the plan needs {:.2f} GB of memory, {:.2f} GB are available{}\n{}"
          "  Lower train.batch or train.seq, choose runtime.recompute = \"block\", or a smaller "
          "model.",
          static_cast<double>(need) * 1e-9, static_cast<double>(limit) * 1e-9,
          backend_.memory_note(), to_text(memory()));
    std::int64_t arena = 0, scratch = 0, inputs = 0;
    for (const auto& [name, plan] : plans_) {
        arena = std::max(arena, aligned(plan->arena_bytes()));
        scratch = std::max(scratch, aligned(plan->scratch_bytes()));
        inputs += aligned(plan->input_bytes());
    }
    const std::int64_t state = aligned(state_.bytes()), work = arena + scratch + inputs;
    if (!state_.has_memory()) {
        memory_ = Buffer(backend_, state + work);
        work_bytes_ = work;
        state_.place(backend_, memory_.data());
    }
    larger_work_ = {};
    if (work > work_bytes_) larger_work_ = Buffer(backend_, work);
    std::byte* const activations =
        work > work_bytes_ ? larger_work_.data() : memory_.data() + state;
    std::byte* next_inputs = activations + arena + scratch;
    for (const auto& [name, plan] : plans_) {
        plan->bind(backend_, state_, activations, activations + arena, next_inputs);
        next_inputs += aligned(plan->input_bytes());
    }
}

void Program::remove_plans() {
    backend_.synchronize();
    plans_.clear();
}

Plan& Program::plan(std::string_view name) {
    return const_cast<Plan&>(std::as_const(*this).plan(name));
}

const Plan& Program::plan(std::string_view name) const {
    const auto it = plans_.find(name);
    check(it != plans_.end(), "there is no plan '{}'", name);
    return *it->second;
}

void Program::write_input(std::string_view plan_name, std::string_view input, const void* host) {
    const TensorRef& t = plan(plan_name).input(input);
    backend_.copy_in(t.as<std::byte>(), static_cast<const std::byte*>(host), data_bytes(t.type));
}

void Program::read_output(std::string_view plan_name, std::string_view output, void* host) {
    const TensorRef& t = plan(plan_name).output(output);
    backend_.copy_out(static_cast<std::byte*>(host), t.as<std::byte>(), data_bytes(t.type));
}

std::string to_text(const std::vector<MemoryRow>& rows) {
    std::string s;
    std::int64_t sum = 0;
    for (const MemoryRow& row : rows) {
        s += fmt::format("  {:<24} {:>12.3f} MB  {}\n", row.what,
                         static_cast<double>(row.bytes) * 1e-6, row.note);
        sum += row.bytes;
    }
    return s + fmt::format("  {:<24} {:>12.3f} MB\n", "total", static_cast<double>(sum) * 1e-6);
}

}  // namespace octavo
