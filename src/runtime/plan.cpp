#include "runtime/plan.h"

#include <fmt/format.h>

#include <utility>

#include "graph/rules.h"

namespace octavo {
namespace {

std::string signature(const Graph& g, const Node& n) {
    std::string s = std::string(op_name(n.op)) + "(";
    for (std::size_t i = 0; i < n.in.size(); ++i) s += (i ? ", " : "") + to_string(g.type(n.in[i]));
    return s + ")";
}

bool has_kernel(const Node& n) {
    return !std::holds_alternative<Input>(n.op) && !std::holds_alternative<Load>(n.op) &&
           !std::holds_alternative<Store>(n.op) && !rules_of(n.op).view;
}

std::string place(const Node& n) { return fmt::format("{} '{}'", op_name(n.op), n.label); }

std::string_view phase_name(Phase phase) {
    static constexpr std::string_view kNames[] = {"forward", "backward", "update"};
    return kNames[static_cast<int>(phase)];
}

}  // namespace

Plan::Plan(Graph graph, const Backend& backend, std::string name)
    : graph_(std::move(graph)), name_(std::move(name)) {
    choices_.resize(graph_.nodes().size());
    prepared_.resize(graph_.nodes().size());
    std::vector<bool> in_place(graph_.nodes().size(), true);
    for (std::int32_t i = 0; i < std::ssize(graph_.nodes()); ++i) {
        if (has_kernel(graph_.node(i))) in_place[i] = choose_kernel(i, backend).in_place;
    }
    memory_ = plan_memory(graph_, in_place);
}

const Kernel& Plan::choose_kernel(std::int32_t i, const Backend& backend) {
    const Node& n = graph_.node(i);
    std::vector<Type> in, out;
    for (Value v : n.in) in.push_back(graph_.type(v));
    for (Value v : n.out) out.push_back(graph_.type(v));
    const NodeView view{n.op, in, out, n.label};
    Choice& choice = choices_[i];
    for (const Kernel& kernel : backend.kernels().kernels(n.op)) {
        if (Refusal why = kernel.reject(view)) {
            choice.refusals.push_back(fmt::format("{}: {}", kernel.name, *why));
            continue;
        }
        choice.kernel = kernel.name;
        try {
            prepared_[i] = kernel.prepare(view);
        } catch (const DeviceFault&) {
            throw;
        } catch (const Error& e) {
            throw e.in(place(n));
        }
        scratch_bytes_ = std::max(scratch_bytes_, prepared_[i].scratch_bytes);
        return kernel;
    }
    fail("{}: no kernel of backend {} takes {}.\n  {}", place(n), backend.name(),
         signature(graph_, n),
         choice.refusals.empty() ? "None is registered."
                                 : fmt::format("{}", fmt::join(choice.refusals, "; ")));
}

void Plan::bind(Backend& backend, const State& state, std::byte* arena, std::byte* scratch,
                std::byte* inputs) {
    scratch_ = scratch;
    backend_ = &backend;
    launched_ = false;
    replay_ = nullptr;
    trail_ = nullptr;
    tensors_.clear();
    for (std::int32_t v = 0; v < graph_.value_count(); ++v) {
        const Placement& p = memory_.placements[v];
        const Type& type = graph_.type({v});
        switch (p.storage) {
            case Storage::arena:
                tensors_.push_back(tensor_at(type, arena + p.offset));
                break;
            case Storage::input:
                tensors_.push_back(tensor_at(type, inputs + p.offset));
                break;
            case Storage::state: {
                const TensorRef& whole = state.tensor(p.state);
                tensors_.push_back(tensor_at(type, static_cast<std::byte*>(whole.data)));
                break;
            }
        }
    }
    steps_.clear();
    for (std::int32_t i = 0; i < std::ssize(graph_.nodes()); ++i) {
        const Node& n = graph_.node(i);
        if (const auto* store = std::get_if<Store>(&n.op); store && memory_.store_copies[i]) {
            const TensorRef to = state.tensor(store->name), from = tensors_[n.in[0].id];
            steps_.push_back({i,
                              [&backend, to, from](const KernelCall&) {
                                  backend.copy(static_cast<std::byte*>(to.data),
                                               static_cast<const std::byte*>(from.data),
                                               total_bytes(to.type));
                              },
                              {},
                              {}});
        } else if (prepared_[i].run) {
            Step step{i, prepared_[i].run, {}, {}};
            for (Value v : n.in) step.in.push_back(tensors_[v.id]);
            for (Value v : n.out) step.out.push_back(tensors_[v.id]);
            steps_.push_back(std::move(step));
        }
    }
    std::vector<std::string> names;
    for (const Step& step : steps_) names.push_back(describe(step.node));
    trail_ = backend.make_trail(name_, names);
}

std::string Plan::describe(std::int32_t i) const {
    const Node& n = graph_.node(i);
    const auto* store = std::get_if<Store>(&n.op);
    const std::string_view kernel = store ? "copy" : choices_[i].kernel;
    return fmt::format("{} '{}' ({}, {})", op_name(n.op), store ? store->name : n.label,
                       phase_name(n.phase), kernel);
}

void Plan::launch(const NodeObserver& after_node) const {
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        const Step& step = steps_[i];
        try {
            step.run({step.in, step.out, scratch_});
        } catch (const DeviceFault&) {
            throw;  // of an earlier step
        } catch (const Error& e) {
            throw e.in(describe(step.node));
        }
        if (trail_) trail_->passed(i);
        if (after_node) after_node(step.node);
    }
}

void Plan::run(const NodeObserver& after_node) {
    if (trail_) trail_->begin();
    if (after_node) {
        launch(after_node);
    } else if (!std::exchange(launched_, true)) {
        launch();  // a plan that runs only once is not worth recording
    } else {
        if (!replay_) replay_ = backend_->record([this] { launch(); });
        replay_();
    }
}

const TensorRef& Plan::input(std::string_view name) const {
    for (const Node& n : graph_.nodes()) {
        const auto* input = std::get_if<Input>(&n.op);
        if (input && input->name == name) return tensors_[n.out[0].id];
    }
    fail("the plan has no input '{}'", name);
}

const TensorRef& Plan::output(std::string_view name) const {
    for (const Output& o : graph_.outputs()) {
        if (o.name == name) return tensors_[o.value.id];
    }
    fail("the plan has no output '{}'", name);
}

std::string to_text(const Plan& plan) {
    const Graph& g = plan.graph();
    std::string s;
    for (std::int32_t i = 0; i < std::ssize(g.nodes()); ++i) {
        const Node& n = g.node(i);
        if (!has_kernel(n)) continue;
        std::int64_t bytes = 0;
        for (Value v : n.out) bytes += total_bytes(g.type(v));
        s += fmt::format("{:<22} {:<18} {:>12}  {}{}", op_name(n.op), plan.choice(i).kernel, bytes,
                         signature(g, n), attributes(n.op));
        for (std::size_t k = 0; k < n.out.size(); ++k) {
            s += fmt::format("{} {}", k ? "," : " ->", to_string(g.type(n.out[k])));
        }
        if (!n.label.empty()) s += "  # " + n.label;
        s += '\n';
        for (const std::string& r : plan.choice(i).refusals) s += "    not " + r + "\n";
    }
    return s;
}

}  // namespace octavo
