#include "train/train_program.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/dtype_traits.h"
#include "base/process.h"

namespace octavo {
namespace {

template <class T>
std::int64_t count_non_finite(const TensorRef& t, const std::vector<std::byte>& bytes) {
    std::int64_t count = 0;
    const auto* x = reinterpret_cast<const T*>(bytes.data());
    for (std::int64_t i = 0; i < t.type.shape.elements(); ++i) {
        if (!std::isfinite(to_f32(x[i]))) ++count;
    }
    return count;
}

std::int64_t count_non_finite(Backend& backend, const TensorRef& t) {
    if (!is_float(t.type.dtype)) return 0;
    std::vector<std::byte> bytes(static_cast<std::size_t>(data_bytes(t.type)));
    backend.copy_out(bytes.data(), t.as<std::byte>(), data_bytes(t.type));
    return dispatch_float(t.type.dtype, [&](auto tag) {
        return count_non_finite<typename decltype(tag)::type>(t, bytes);
    });
}

bool is_cast(const Output& o) {
    return !o.name.starts_with(kSwiGluAmax) && !o.name.starts_with(kSwiGluFactors);
}

}  // namespace

TrainProgram::TrainProgram(Backend& backend, const StepOptions& options, bool accumulates)
    : options_(options), program_(backend) {
    check(options.seq <= options.architecture.max_positions,
          "train.seq = {} is longer than the model's {} positions\n  Lower train.seq or raise "
          "model.max_positions.",
          options.seq, options.architecture.max_positions);
    options_.target = backend.target();
    options_.accumulates = accumulates;
    compile();
}

void TrainProgram::compile() {
    const Graph micro = micro_graph(options_, false);
    draws_ = std::ranges::any_of(micro.nodes(), [](const Node& n) {
        const auto* input = std::get_if<Input>(&n.op);
        return input && input->name == kDrawInput;
    });
    program_.add("micro", micro);
    if (options_.accumulates) program_.add("micro_next", micro_graph(options_, true));
    program_.add("update", update_graph(options_, micro));
    if (predicts_scales(options_.recipe)) {
        program_.add("update_measured", update_graph(options_, micro, /*measure=*/true));
    }
    program_.add("refresh", refresh_graph(options_.recipe, micro));
    program_.add("eval", eval_graph(options_));
    if (options_.recipe.smooth && options_.recipe.smooth->export_window > 0) {
        Graph windows;
        Builder b(windows);
        turn_windows(b, micro);
        program_.add("turn_windows", windows);
    }
    if (!options_.measure) return;
    const Graph measured = micro_graph(options_, options_.accumulates, /*measure=*/true);
    if (!measured.outputs().empty()) program_.add("micro_measured", measured);
    measures_casts_ = std::ranges::any_of(measured.outputs(), is_cast);
    const Graph moments = moments_graph(options_);
    if (!moments.outputs().empty()) program_.add("moments", moments);
}

void TrainProgram::initialise(std::uint64_t seed) {
    initialise_scales(state());
    for (const Parameter& p : parameters(options_.architecture)) {
        write_values(state(), p.name, initial_values(p, seed));
    }
    refresh();
}

void TrainProgram::run(std::string_view plan, std::span<const std::int32_t> ids,
                       std::span<const std::int32_t> targets, float weight,
                       const DocumentSpans& documents) {
    const auto tokens = options_.batch * options_.seq;
    check(std::ssize(ids) == tokens && std::ssize(targets) == tokens,
          "a micro-batch has {} tokens, got {} ids and {} targets", tokens, ids.size(),
          targets.size());
    const auto separate = options_.documents ? tokens : 0;
    check(std::ssize(documents.starts) == separate && std::ssize(documents.positions) == separate,
          "a micro-batch has starts and positions of {} tokens, got {} and {}", separate,
          documents.starts.size(), documents.positions.size());
    if (options_.documents) {
        program_.write_input(plan, "starts", documents.starts.data());
        program_.write_input(plan, "positions", documents.positions.data());
    }
    program_.write_input(plan, "ids", ids.data());
    program_.write_input(plan, "targets", targets.data());
    program_.write_input(plan, "weight", &weight);
    program_.run(plan);
}

void TrainProgram::write_draw(std::int64_t number) {
    const auto draw = static_cast<std::int32_t>(number);
    if (draws_) program_.write_input(last_micro_, kDrawInput, &draw);
}

void TrainProgram::micro(std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
                         float weight, bool first, const DocumentSpans& documents,
                         std::int64_t number) {
    last_micro_ = first ? "micro" : "micro_next";
    write_draw(number);
    run(last_micro_, ids, targets, weight, documents);
}

Measured TrainProgram::measured_micro(std::span<const std::int32_t> ids,
                                      std::span<const std::int32_t> targets, float weight,
                                      const DocumentSpans& documents, std::int64_t number) {
    last_micro_ = "micro_measured";
    write_draw(number);
    run(last_micro_, ids, targets, weight, documents);
    Measured measured;
    const Graph& g = program_.plan(last_micro_).graph();
    for (const Output& o : g.outputs()) {
        const auto read = [&](void* host) { program_.read_output(last_micro_, o.name, host); };
        if (is_cast(o)) {
            read(&measured.casts.emplace_back(TensorCast{o.name, {}}).stats);
        } else if (o.name.starts_with(kSwiGluAmax)) {
            measured.swiglus.push_back({.label = o.name.substr(kSwiGluAmax.size())});
            read(&measured.swiglus.back().amax);
        } else {  // follows the amax
            auto& factors = measured.swiglus.back().factors;
            factors.resize(static_cast<std::size_t>(g.type(o.value).shape.elements()));
            read(factors.data());
        }
    }
    return measured;
}

std::vector<FlushedMoment> TrainProgram::flushed_moments() {
    std::vector<FlushedMoment> moments;
    if (!program_.has("moments")) return moments;
    program_.run("moments");
    for (const Output& o : program_.plan("moments").graph().outputs()) {
        CastStats stats;
        program_.read_output("moments", o.name, &stats);
        moments.push_back({o.name, stats.flushed});
    }
    return moments;
}

float TrainProgram::loss() const {
    float loss = 0;
    program_.state().read(kLossName, &loss);
    return loss;
}

std::optional<double> TrainProgram::expert_load() const {
    std::optional<double> largest;
    std::vector<std::int32_t> counts;
    for (const State::Entry& e : program_.state().entries()) {
        if (!e.name.starts_with(kExpertCounts)) continue;
        counts.resize(static_cast<std::size_t>(e.type.shape.elements()));
        program_.state().read(e.name, counts.data());
        const double sum = std::accumulate(counts.begin(), counts.end(), 0.0);
        const double mean = sum / static_cast<double>(counts.size());
        largest = std::max(largest.value_or(0), std::ranges::max(counts) / mean);
    }
    return largest;
}

std::optional<double> TrainProgram::router_loss() const {
    if (!program_.state().contains(kRouterLossName)) return std::nullopt;
    float loss = 0;
    program_.state().read(kRouterLossName, &loss);
    return loss;
}

float TrainProgram::evaluate(std::span<const std::int32_t> ids,
                             std::span<const std::int32_t> targets, float weight,
                             const DocumentSpans& documents) {
    run("eval", ids, targets, weight, documents);
    float loss = 0;
    program_.read_output("eval", "loss", &loss);
    return loss;
}

float TrainProgram::update(double lr, std::int64_t t) {
    const auto step = static_cast<double>(t);
    const float schedule[3] = {
        static_cast<float>(lr),
        static_cast<float>(1.0 - std::pow(double{options_.adamw.beta1}, step)),
        static_cast<float>(1.0 - std::pow(double{options_.adamw.beta2}, step))};
    const auto count = static_cast<std::int32_t>(t);
    const Recipe& recipe = options_.recipe;
    const bool measures = predicts_scales(recipe) && t % recipe.prediction.interval == 0;
    const std::string_view plan = measures ? "update_measured" : "update";
    program_.write_input(plan, "schedule", schedule);
    program_.write_input(plan, "step", &count);
    program_.run(plan);
    float norm = 0;
    program_.read_output(plan, "norm", &norm);
    if (recipe.smooth && recipe.smooth->export_window > 0) {
        if (t % recipe.smooth->export_window == 0) program_.run("turn_windows");
    }
    const std::int64_t rescale = recipe.propagation ? recipe.propagation->state_rescale : 0;
    if (rescale > 0 && t % rescale == 0 && std::isfinite(norm)) rescale_states();
    return norm;
}

Exponents TrainProgram::exponents() const {
    const auto& propagation = options_.recipe.propagation;
    return propagation ? propagation->exponents : Exponents{};
}

void TrainProgram::set_exponents(const Exponents& exponents) {
    auto& propagation = options_.recipe.propagation;
    if (!propagation || propagation->exponents == exponents) return;
    propagation->exponents = exponents;
    program_.remove_plans();
    compile();
    program_.allocate(limit_);
}

void TrainProgram::rescale_states() {
    rescale_moments(state(), options_);
    const Exponents found = rescale_weights(state(), options_);
    if (found == exponents()) return;
    set_exponents(found);
    refresh();
}

std::optional<NonFinite> TrainProgram::find_non_finite() {
    Plan& plan = program_.plan(last_micro_);
    std::optional<NonFinite> found;
    // Weights first: what reads a broken one is not to blame.
    for (const Node& node : plan.graph().nodes()) {
        const auto* load = std::get_if<Load>(&node.op);
        const bool weight =
            load && (load->name.find('/') == std::string::npos || load->name.starts_with("work."));
        if (!weight) continue;
        const std::int64_t count = count_non_finite(program_.backend(), plan.tensor(node.out[0]));
        if (count > 0) return NonFinite{load->name, "load", count};
    }
    plan.run([&](std::int32_t i) {
        if (found) return;
        const Node& node = plan.graph().node(i);
        for (Value v : node.out) {
            const std::int64_t count = count_non_finite(program_.backend(), plan.tensor(v));
            if (count == 0 || found) continue;
            found = {plan.graph().value_name(v), std::string(op_name(node.op)), count};
        }
    });
    return found;
}

std::map<std::string, double> linear_state_bytes(const TrainProgram& program) {
    std::map<std::string, double> bytes;
    double weights = 0;
    std::set<std::string, std::less<>> linear;
    for (const Parameter& p : parameters(program.options().architecture)) {
        if (!p.decays() || p.table || p.router) continue;
        linear.insert(p.name);
        weights += static_cast<double>(p.shape.elements());
    }
    for (const State::Entry& e : program.program().state().entries()) {
        if (!linear.contains(parameter_of(e.name))) continue;
        bytes[std::string(state_role(e.name))] += static_cast<double>(total_bytes(e.type));
    }
    for (auto& [role, sum] : bytes) sum /= weights;
    return bytes;
}

std::string memory_text(const TrainProgram& program) {
    std::string parts;
    double sum = 0;
    for (const auto& [role, bytes] : linear_state_bytes(program)) {
        parts += fmt::format("{}{} {:.2f}", parts.empty() ? "" : ", ", role, bytes);
        sum += bytes;
    }
    return to_text(program.program().memory()) +
           fmt::format("  {:<24} {:>12.2f} bytes of state: {}\n", "per Linear weight", sum, parts) +
           fmt::format("  {:<24} {:>12.3f} MB  code, libraries, graphs and plans\n",
                       "beside it, on the host", static_cast<double>(resident_bytes()) * 1e-6);
}

double flops_per_token(const Architecture& a, std::int64_t seq) {
    double weights = static_cast<double>(a.vocab_size * a.hidden_size);
    for (const Parameter& p : parameters(a)) {
        if (p.shape.rank() < 2 || p.table) continue;
        // A token meets a few of the experts.
        const bool experts = p.shape.rank() == 3;
        const double met = experts ? static_cast<double>(a.experts.per_token) /
                                         static_cast<double>(a.experts.count)
                                   : 1.0;
        weights += met * static_cast<double>(p.shape.elements());
    }
    return 6.0 * weights + 6.0 * static_cast<double>(a.layers * a.heads * a.head_dim * seq);
}

}  // namespace octavo
