#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <map>
#include <optional>

#include "base/file.h"
#include "base/process.h"
#include "base/version.h"
#include "config/load.h"
#include "models/weights.h"
#include "report/cast_warnings.h"
#include "report/console.h"
#include "report/events.h"
#include "report/report.h"
#include "runtime/gemm_rate.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/failure.h"
#include "train/layer_metrics.h"
#include "train/learning_rate.h"
#include "train/run_data.h"
#include "train/run_folder.h"
#include "train/run_tokenizer.h"
#include "train/setup.h"
#include "train/train_program.h"

namespace octavo {
namespace {

volatile std::sig_atomic_t g_stop = 0;

// While it lives, the first SIGINT or SIGTERM asks for a stop after the step; a second one kills.
class StopOnSignal {
  public:
    StopOnSignal() {
        g_stop = 0;
        struct sigaction action{};
        action.sa_handler = [](int) { g_stop = 1; };
        action.sa_flags = static_cast<int>(SA_RESETHAND);
        sigaction(SIGINT, &action, &interrupt_);
        sigaction(SIGTERM, &action, &terminate_);
    }
    ~StopOnSignal() {
        sigaction(SIGINT, &interrupt_, nullptr);
        sigaction(SIGTERM, &terminate_, nullptr);
    }
    StopOnSignal(const StopOnSignal&) = delete;
    StopOnSignal& operator=(const StopOnSignal&) = delete;

  private:
    struct sigaction interrupt_{}, terminate_{};
};

constexpr const char* kWeightBound = "weight_bound";  // in a checkpoint's manifest

class Trainer {
  public:
    Trainer(const RunConfig& config, Backend& backend, const TrainOutput& out)
        : config_(config),
          out_(out),
          folder_{config.run.dir},
          lock_(folder_),
          backend_(backend),
          program_(backend, step_options_of(config), config.train.grad_accum > 1),
          train_data_(training_data(config, architecture().vocab_size)),
          batches_(static_cast<std::size_t>(config.train.grad_accum),
                   Batch(config.train.batch, config.train.seq, config.data.document_mask)) {
        if (!config.data.held_out.empty()) {
            held_out_.emplace(held_out_data(config, architecture().vocab_size));
            check_targets(*held_out_, config.train.batch, config.eval.batches);
        }
        write_file_atomically(folder_.config(), to_toml(config));
    }

    TrainOutcome run(std::int64_t stop_after) {
        try {
            return train(stop_after);
        } catch (const DeviceFault& fault) {
            fail_fault(fault);
        }
    }

  private:
    TrainOutcome train(std::int64_t stop_after) {
        const StopOnSignal signals;
        allocate();
        peak_flops_ = measure_gemm_rate(backend_, Dtype::bf16, backend_.yardstick());
        start();
        MetricsLog metrics =
            MetricsLog::open(folder_.metrics(), step_ > 0 ? step_ : MetricsLog::kNewRun);
        if (program_.measures_casts() || std::filesystem::exists(folder_.scales())) {
            scales_.emplace(
                ScalesLog::open(folder_.scales(), step_ > 0 ? step_ : StepLog::kNewRun));
        }
        std::filesystem::create_directories(folder_.events());
        EventLog events(folder_.events(), unix_time_s(), step_);
        out_.print(header_line(config_.train.steps, style()));
        const std::int64_t first = step_;
        while (step_ < config_.train.steps) {
            if (g_stop || (stop_after > 0 && step_ - first >= stop_after)) return stop();
            const StepMetrics m = one_step();
            metrics.append(m);
            events.append(m);
            report_step(m);
            report_casts();
            if (due(config_.checkpoint.every) || step_ == config_.train.steps) save();
        }
        if (saved_ != step_) save();
        if (const std::string text = warnings_.summary(); !text.empty()) out_.print(text);
        out_.print(epochs_text(config_, train_data_, samples()));
        write_page();
        return TrainOutcome::finished;
    }

    const Architecture& architecture() const { return program_.options().architecture; }
    ConsoleStyle style() const { return {.color = out_.color, .live = false}; }
    bool due(std::int64_t every) const { return every > 0 && step_ % every == 0; }
    std::string_view weights_dtype() const {
        return program_.options().recipe.states.master == Dtype::bf16 ? "bfloat16" : "float32";
    }
    std::int64_t samples() const { return step_ * config_.train.batch * config_.train.grad_accum; }
    std::int64_t step_tokens() const {
        return config_.train.batch * config_.train.seq * config_.train.grad_accum;
    }

    void allocate() {
        const Architecture& a = architecture();
        out_.print(fmt::format("{}: {:.2f} M parameters, recipe {}", describe(a),
                               static_cast<double>(parameter_count(a)) * 1e-6,
                               describe(config_.recipe)));
        if (const std::filesystem::path folder = config_.model.path; !folder.empty()) {
            const std::string dropout = read_dropout(folder);
            if (!dropout.empty()) {
                out_.print(fmt::format("{}: trained without the dropout that it asks for ({})",
                                       (folder / "config.json").string(), dropout));
            }
        }
        for (const BatchSource& source : train_data_.sources()) {
            if (source.cut_documents() == 0) continue;
            out_.print(fmt::format("{}: {} documents are longer than {} tokens and were cut",
                                   source.first_shard().path().string(), source.cut_documents(),
                                   source.sequence_length() + 1));
        }
        out_.print(memory_text(program_));
        program_.allocate(memory_limit(config_, backend_));
    }

    // From a checkpoint, from a Hugging Face folder, or from random weights.
    void start() {
        const Log log = [&](const std::string& line) { out_.print(line); };
        clean_checkpoints(folder_.checkpoints(), log);
        const auto found = latest_checkpoint(folder_.checkpoints(), log);
        const std::string& resume = config_.checkpoint.resume;
        check(
            !found || resume != "never",
            "{} already has a checkpoint, {}, and checkpoint.resume = \"never\"\n  Choose another "
            "run.dir, or remove the folder.",
            folder_.path.string(), found ? found->filename().string() : "");
        if (found) {
            std::vector<std::string> converted;
            const auto extra = read_checkpoint_info(*found).extra;
            tokenizer_.check_trained(extra,
                                     "Name token files of the same tokenizer in data.train, or "
                                     "choose another run.dir.");
            program_.set_exponents(exponents_in(extra));
            const CheckpointInfo info =
                load_checkpoint(*found, program_.state(), Verify::contents, &converted);
            step_ = info.step;
            saved_ = step_;
            out_.print(fmt::format("resumed from {} at step {}", found->string(), step_));
            if (!converted.empty()) {
                out_.print(fmt::format("{} tensors converted to this run's formats, first {}",
                                       converted.size(), converted.front()));
            }
            const bool stale = has_other_bound(info);
            if (stale) {
                out_.print(
                    "scales of weights are measured anew: they were predicted with another bound");
            }
            if (!converted.empty() || stale) program_.refresh();
        } else {
            check(resume != "must",
                  "{} has no checkpoint to resume from\n  Set checkpoint.resume = \"auto\" to "
                  "start anew.",
                  folder_.path.string());
            program_.initialise(static_cast<std::uint64_t>(config_.train.seed));
            if (!config_.model.path.empty()) {
                load_weights(config_.model.path, program_.state());
                program_.refresh();
            }
        }
        write_run_info(folder_.path, run_info());
    }

    bool predicts() const { return predicts_scales(program_.options().recipe); }
    // Of a step of AdamW, in learning rates: follows from recipe.bound and the betas.
    std::string weight_bound() const {
        return fmt::format("{}", program_.options().recipe.prediction.bound);
    }
    std::map<std::string, std::string> manifest_extra() const {
        std::map<std::string, std::string> extra = tokenizer_.extra();
        if (predicts()) extra[kWeightBound] = weight_bound();
        const Exponents exponents = program_.exponents();
        if (!exponents.empty()) extra[kExponents] = to_text(exponents);
        return extra;
    }
    // A predicted scale is right only for steps within the bound it was predicted with.
    bool has_other_bound(const CheckpointInfo& info) const {
        const auto bound = info.extra.find(kWeightBound);
        return predicts() && (bound == info.extra.end() || bound->second != weight_bound());
    }

    RunInfo run_info() const {
        std::int64_t state_bytes = 0;
        for (const State::Entry& e : program_.program().state().entries()) {
            if (is_saved(e.name)) {
                state_bytes += data_bytes(e.type) + scale_bytes(e.type) + group_bytes(e.type);
            }
        }
        RunInfo info{.name = folder_.path.filename().string(),
                     .recipe = describe(config_.recipe),
                     .model = describe(architecture()),
                     .parameters = parameter_count(architecture()),
                     .state_bytes = state_bytes};
        for (const MemoryRow& row : program_.program().memory()) {
            info.memory.emplace_back(row.what, row.bytes);
        }
        return info;
    }

    // All that a step learns from, and the weight of each of its targets: the loss is the mean over
    // those that count, whichever micro-batch they are in. A step without any changes nothing but
    // what momentum and decay do.
    void load_step(std::int64_t step) {
        if (loaded_ == step) return;
        std::int64_t learned = 0;
        for (std::size_t i = 0; i < batches_.size(); ++i) {
            train_data_.batch(number_of(step, i), batches_[i].spans());
            learned += batches_[i].learned();
        }
        token_weight_ = learned > 0 ? 1.0f / static_cast<float>(learned) : 0.0f;
        loaded_ = step;
    }
    static DocumentSpans documents_of(const Batch& b) { return {b.starts, b.positions}; }
    // The number of a step's micro-batch `i` in the run.
    std::int64_t number_of(std::int64_t step, std::size_t i) const {
        return (step - 1) * config_.train.grad_accum + static_cast<std::int64_t>(i);
    }
    void run_micro(const Batch& b, bool first, std::int64_t number) {
        program_.micro(b.ids, b.targets, token_weight_, first, documents_of(b), number);
    }

    bool diagnoses(std::int64_t step) const {
        const std::int64_t interval = config_.diag.interval;
        return interval > 0 && (step == 1 || step % interval == 0);
    }

    // Starts all micro-batches of a step; the last is measured where it is the step's turn. The
    // batches of the next step are read while a GPU works on these.
    void start_micros(std::int64_t step) {
        casts_ = {.step = step, .tensors = {}};
        measured_ = {};
        load_step(step);
        const std::size_t last = batches_.size() - 1;
        for (std::size_t i = 0; i < last; ++i) run_micro(batches_[i], i == 0, number_of(step, i));
        const Batch& b = batches_[last];
        const std::int64_t number = number_of(step, last);
        if (program_.measures() && diagnoses(step)) {
            measured_ =
                program_.measured_micro(b.ids, b.targets, token_weight_, documents_of(b), number);
            casts_.tensors = measured_.casts;
        } else {
            run_micro(b, last == 0, number);
        }
        if (step < config_.train.steps) load_step(step + 1);
    }

    StepMetrics one_step() {
        const double begin = unix_time_s();
        const std::int64_t step = step_ + 1;
        start_micros(step);
        std::vector<FlushedMoment> flushed;
        if (diagnoses(step)) flushed = program_.flushed_moments();
        const double lr = learning_rate(config_.train, step);
        const double norm = program_.update(lr, step), loss = program_.loss();
        if (!std::isfinite(loss)) fail_non_finite("loss", loss, step);
        if (!std::isfinite(norm)) fail_non_finite("gradient norm or an amax", norm, step);
        step_ = step;

        StepMetrics m{.step = step,
                      .time_s = unix_time_s(),
                      .tokens = step * step_tokens(),
                      .loss = loss,
                      .grad_norm = norm,
                      .lr = lr};
        m.tokens_per_s = static_cast<double>(step_tokens()) / (m.time_s - begin);
        m.share_of_peak = m.tokens_per_s * flops_ / peak_flops_;
        m.memory_gb = static_cast<double>(peak_resident_bytes()) * 1e-9;
        if (held_out_ && (due(config_.eval.every) || step == config_.train.steps)) {
            m.held_out_loss = evaluate(*held_out_);
        }
        m.extra = worst_of(casts_);
        if (diagnoses(step)) {
            add(m, swiglu_metrics(program_.state(), measured_));
            add(m, moment_metrics(flushed));
            add_expert_metrics(m);
        }
        return m;
    }

    static void add(StepMetrics& m, const NamedNumbers& numbers) {
        m.extra.insert(m.extra.end(), numbers.begin(), numbers.end());
    }
    void add_expert_metrics(StepMetrics& m) const {
        if (const auto load = program_.expert_load()) m.extra.emplace_back("expert_load", *load);
        if (const auto loss = program_.router_loss()) m.extra.emplace_back("router_loss", *loss);
    }

    double evaluate(const BatchSource& held_out) {
        return mean_loss(
                   held_out, config_.train.batch, config_.eval.batches,
                   [&](const Batch& b) {
                       return double{program_.evaluate(b.ids, b.targets, 1.0f, documents_of(b))};
                   },
                   [&](std::int64_t done, std::int64_t all) {
                       if (out_.progress) out_.progress("evaluating", done, all);
                   })
            .loss;
    }

    void report_step(const StepMetrics& m) {
        eta_.add(m.step, m.time_s);
        const bool wanted = m.step % config_.run.log_every == 0 || m.held_out_loss ||
                            m.step == config_.train.steps || m.step == 1;
        if (wanted) {
            out_.print(step_line(m, config_.train.steps, eta_.seconds_until(config_.train.steps),
                                 style()));
        } else if (out_.progress) {
            out_.progress("training", m.step, config_.train.steps);
        }
    }

    void report_casts() {
        if (casts_.tensors.empty()) return;
        scales_->append(casts_);
        for (const std::string& line : warnings_.look_at(casts_)) out_.print(line);
    }

    void save() {
        const CheckpointInfo info{.step = step_,
                                  .tokens = step_ * step_tokens(),
                                  .cursor = samples(),
                                  .recipe = describe(config_.recipe),
                                  .octavo = std::string(kVersion),
                                  .extra = manifest_extra()};
        std::map<std::string, std::string> texts = tokenizer_.files;
        texts["config.json"] = to_hf_config(architecture(), weights_dtype());
        texts["config.toml"] = to_toml(config_);
        save_checkpoint(folder_.checkpoints(), program_.program().state(), info, texts);
        prune_checkpoints(folder_.checkpoints(), config_.checkpoint.keep_last,
                          config_.checkpoint.keep_every);
        saved_ = step_;
    }

    TrainOutcome stop() {
        if (saved_ != step_ && step_ > 0) save();
        out_.print(fmt::format(
            "stopped after step {}, checkpoint written; the same command resumes", step_));
        out_.print(epochs_text(config_, train_data_, samples()));
        write_page();
        return TrainOutcome::interrupted;
    }

    void write_page() {
        if (step_ == 0) return;
        const RunData data = load_run(folder_.path);
        write_report(folder_.report(), {&data, 1});
    }

    // Runs the micro-batches of the step again, each by itself, up to the first that goes wrong.
    struct Culprit {
        const Batch& batch;
        std::optional<NonFinite> tensor;
    };
    Culprit find_culprit(std::int64_t step) {
        load_step(step);
        for (std::size_t i = 0; i < batches_.size(); ++i) {
            run_micro(batches_[i], /*first=*/true, number_of(step, i));
            if (auto found = program_.find_non_finite()) return {batches_[i], found};
        }
        return {batches_.back(), std::nullopt};
    }

    [[noreturn]] void fail_non_finite(std::string_view what, double value, std::int64_t step) {
        const auto& [batch, found] = find_culprit(step);
        const auto path = folder_.path / "failure";
        write_failure(path, {std::string(what), value, step, found}, batch.ids, batch.targets,
                      config_.train.batch);
        fail(
            "step {}: the {} is {}; the first tensor with such values is {}\n  The batch and what "
            "was found are in {}. Lower train.lr or raise train.warmup_steps, and go on from the "
            "last checkpoint.",
            step, what, value, found ? found->tensor : "in the sum over the micro-batches",
            path.string());
    }

    // Nothing on the device can be read any more: the newest checkpoint is what there is.
    [[noreturn]] void fail_fault(const DeviceFault& fault) const {
        const std::string kept =
            saved_ < 0 ? "There is no checkpoint yet."
                       : fmt::format(
                             "The checkpoint of step {} is whole: the same command goes on "
                             "from it.",
                             saved_);
        throw DeviceFault(fmt::format("after step {}: {}", step_, fault.message()),
                          fault.hint().empty() ? kept : fault.hint() + "\n  " + kept);
    }

    const RunConfig& config_;
    const TrainOutput& out_;
    RunFolder folder_;
    RunLock lock_;
    Backend& backend_;
    TrainProgram program_;
    Mixture train_data_;
    std::optional<BatchSource> held_out_;
    std::vector<Batch> batches_;       // of the step loaded_
    float token_weight_ = 0;           // of each of its targets
    std::int64_t loaded_ = 0;          // none
    Measured measured_;                // of the running step's last micro-batch
    CastStep casts_;                   // of the running step; no tensors: it is not measured
    std::optional<ScalesLog> scales_;  // none: no casts are measured
    CastWarnings warnings_;
    Eta eta_;
    RunTokenizer tokenizer_ = tokenizer_of(config_);
    double flops_ = flops_per_token(architecture(), config_.train.seq);
    double peak_flops_ = 1;
    std::int64_t step_ = 0;    // optimizer steps done
    std::int64_t saved_ = -1;  // step of the newest checkpoint
};

}  // namespace

TrainOutcome train(const RunConfig& config, Backend& backend, const TrainOutput& out,
                   std::int64_t stop_after) {
    if (config.data.train.empty()) {
        fail_usage(
            "data.train: a run needs token files to train on\n  Make some with octavo tokenize.");
    }
    return Trainer(config, backend, out).run(stop_after);
}

TrainOutcome train(const RunConfig& config, Backend& backend, const TrainOutput& out) {
    return train(config, backend, out, 0);
}

}  // namespace octavo
