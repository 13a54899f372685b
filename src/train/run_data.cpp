#include "train/run_data.h"

#include <glob.h>

#include <set>

#include "base/error.h"
#include "io/tokens_info.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

BatchSource source_of(const RunConfig& config, const std::vector<std::string>& entries, Order order,
                      std::int64_t vocabulary) {
    std::vector<TokenFile> shards;
    for (const std::string& entry : entries) {
        for (const fs::path& path : data_files(entry)) shards.emplace_back(path, vocabulary);
    }
    std::int64_t end_of_text = config.data.end_of_text;
    if (end_of_text < 0 && !shards.empty()) {
        end_of_text = tokens_info(shards.front().path()).end_of_text_id;
    }
    return {std::move(shards),
            {.sequence_length = config.train.seq,
             .vocabulary = vocabulary,
             .seed = static_cast<std::uint64_t>(config.train.seed),
             .order = order,
             .windows = windows_named(config.data.windows),
             .documents = config.data.document_mask,
             .end_of_text = end_of_text}};
}

// data.weights by rows. Stages begin at steps, and so at samples.
std::vector<MixtureStage> stages_of(const RunConfig& config) {
    const RunConfig::Data& data = config.data;
    const std::int64_t per_step = config.train.batch * config.train.grad_accum;
    std::vector<MixtureStage> stages;
    for (auto row = data.weights.begin(); row != data.weights.end();
         row += std::ssize(data.train)) {
        const std::size_t stage = stages.size();
        const auto step = stage == 0 ? 0 : static_cast<std::int64_t>(data.stages[stage - 1]);
        stages.push_back({step * per_step, {row, row + std::ssize(data.train)}});
    }
    return stages;
}

}  // namespace

std::vector<fs::path> data_files(const std::string& entry) {
    const fs::path path(entry);
    if (path.filename().string().find_first_of("*?") == std::string::npos) return {path};
    glob_t found{};
    const int status = glob(entry.c_str(), 0, nullptr, &found);
    std::vector<fs::path> files(found.gl_pathv,
                                found.gl_pathv + (status == 0 ? found.gl_pathc : 0));
    globfree(&found);
    check(!files.empty(), "{}: no file fits the pattern\n  Check the folder and the spelling.",
          entry);
    return files;
}

// A pattern may catch what is held out.
static void check_held_out(const RunConfig::Data& data) {
    std::set<fs::path> held_out;
    for (const std::string& entry : data.held_out) {
        for (const fs::path& path : data_files(entry)) held_out.insert(fs::weakly_canonical(path));
    }
    for (const std::string& entry : data.train) {
        for (const fs::path& path : data_files(entry)) {
            check(!held_out.contains(fs::weakly_canonical(path)),
                  "data.train: {} has {}, which data.held_out has, too\n"
                  "  What is held out must not be trained on: name it apart, as in train*.bin.",
                  entry, path.string());
        }
    }
}

Mixture training_data(const RunConfig& config, std::int64_t vocabulary) {
    const RunConfig::Data& data = config.data;
    check_held_out(data);
    std::vector<BatchSource> sources;
    if (data.weights.empty()) {
        sources.push_back(source_of(config, data.train, Order::shuffled, vocabulary));
        return Mixture(std::move(sources), {1});
    }
    for (const std::string& entry : data.train) {
        sources.push_back(source_of(config, {entry}, Order::shuffled, vocabulary));
    }
    return Mixture(std::move(sources), stages_of(config));
}

BatchSource held_out_data(const RunConfig& config, std::int64_t vocabulary) {
    return source_of(config, config.data.held_out, Order::sequential, vocabulary);
}

std::string epochs_text(const RunConfig& config, const Mixture& mixture, std::int64_t samples) {
    const std::vector<std::int64_t> counts = mixture.counts(samples);
    std::string text = "data:";
    for (std::size_t i = 0; i < counts.size(); ++i) {
        const std::string& name = config.data.train[i];
        const double epochs =
            static_cast<double>(counts[i]) / static_cast<double>(mixture.sources()[i].windows());
        const bool all = config.data.weights.empty() && config.data.train.size() > 1;
        text += fmt::format("{} {}{} {:.2f} epochs", i > 0 ? "," : "", name,
                            all ? fmt::format(" and {} more", config.data.train.size() - 1) : "",
                            epochs);
    }
    return text;
}

}  // namespace octavo
