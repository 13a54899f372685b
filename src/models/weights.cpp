#include "models/weights.h"

#include <algorithm>
#include <set>

#include "base/convert.h"
#include "io/safetensors.h"

namespace octavo {
namespace {

constexpr std::string_view kGpt2Prefix = "transformer.", kHead = "lm_head.weight";

// The first few, for an error that must not list thousands.
std::string some_of(const std::vector<std::string>& texts) {
    constexpr std::size_t kShown = 4;
    std::string text;
    for (std::size_t i = 0; i < std::min(kShown, texts.size()); ++i) {
        text += (i ? ", " : "") + printable(texts[i]);
    }
    if (texts.size() > kShown) text += fmt::format(" and {} more", texts.size() - kShown);
    return text;
}

// Stored by some exporters, computed by every implementation.
bool is_buffer(std::string_view name) {
    return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".attn.bias") ||
           name.ends_with(".attn.masked_bias");
}

bool repeats_embedding(const SafetensorsModel& file, const TensorInfo& head) {
    for (const char* name : {"model.embed_tokens.weight", "transformer.wte.weight", "wte.weight"}) {
        const auto table = file.find(name);
        if (table) {
            return table->dtype == head.dtype && table->shape == head.shape &&
                   std::ranges::equal(table->bytes, head.bytes);
        }
    }
    return false;
}

class Loader {
  public:
    Loader(const std::filesystem::path& folder, State& state)
        : folder_(folder), file_(folder), state_(state) {}

    void load() {
        for (const State::Entry& e : state_.entries()) {
            if (state_role(e.name) == "weight") match(e);
        }
        for (const std::string& name : file_.names()) {
            if (!used_.contains(name)) judge_unknown(name);
        }
        refuse_misfits();
        for (const auto& [entry, tensor] : matches_) copy(*entry, tensor);
    }

  private:
    struct Match {
        const State::Entry* entry;
        TensorInfo tensor;
    };

    void match(const State::Entry& e) {
        auto tensor = file_.find(e.name);
        if (!tensor && e.name.starts_with(kGpt2Prefix)) {
            tensor = file_.find(e.name.substr(kGpt2Prefix.size()));
        }
        if (!tensor) {
            missing_.push_back(fmt::format("'{}'", e.name));
            return;
        }
        used_.insert(tensor->name);
        const bool converts = is_float(tensor->dtype) && !is_fp8(tensor->dtype);
        if (tensor->shape != e.type.shape || !converts) {
            misfits_.push_back(fmt::format("'{}': expected {}{}, got {}", tensor->name,
                                           to_string(e.type), converts ? "" : " or f64, bf16, f16",
                                           to_string(Type{tensor->dtype, tensor->shape})));
        }
        matches_.push_back({&e, *std::move(tensor)});
    }

    void judge_unknown(const std::string& name) {
        if (is_buffer(name)) return;
        if (name == kHead) {
            // A tied model that was stored as if it were not.
            check(repeats_embedding(file_, file_.at(name)),
                  "{}: the model ties its head to the embedding, but '{}' differs from it\n  Set "
                  "tie_word_embeddings to false in config.json.",
                  folder_.string(), name);
            return;
        }
        unknown_.push_back(fmt::format("'{}'", name));
    }

    void refuse_misfits() const {
        std::string text;
        const auto add = [&](const char* what, const std::vector<std::string>& list) {
            if (list.empty()) return;
            text += fmt::format("{}{} {}: {}", text.empty() ? "" : "; ", list.size(), what,
                                some_of(list));
        };
        add("missing", missing_);
        add("unknown", unknown_);
        add("of another type", misfits_);
        check(text.empty(),
              "{}: expected the {} tensors of the model, got others. {}\n  Check that config.json "
              "and the weights belong together.",
              folder_.string(), matches_.size() + missing_.size(), text);
    }

    void copy(const State::Entry& e, const TensorInfo& tensor) {
        if (e.type.scaling != kUnscaled) {
            values_.resize(static_cast<std::size_t>(e.type.shape.elements()));
            convert(tensor.bytes, tensor.dtype, std::as_writable_bytes(std::span(values_)),
                    Dtype::f32);
            write_values(state_, e.name, values_);
            return;
        }
        if (tensor.dtype == e.type.dtype) {
            state_.write(e.name, tensor.bytes.data());
            return;
        }
        host_.resize(static_cast<std::size_t>(data_bytes(e.type)));
        convert(tensor.bytes, tensor.dtype, host_, e.type.dtype);
        state_.write(e.name, host_.data());
    }

    const std::filesystem::path& folder_;
    SafetensorsModel file_;
    State& state_;
    std::set<std::string> used_;
    std::vector<Match> matches_;
    std::vector<std::string> missing_, unknown_, misfits_;
    std::vector<std::byte> host_;
    std::vector<float> values_;
};

}  // namespace

void load_weights(const std::filesystem::path& folder, State& state) {
    Loader(folder, state).load();
}

}  // namespace octavo
