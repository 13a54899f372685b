#include "models/convert_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "base/block_scale.h"
#include "base/convert.h"
#include "base/file.h"
#include "base/float16.h"
#include "base/layer_name.h"
#include "base/parallel.h"
#include "models/experts.h"
#include "models/llmc_checkpoint.h"
#include "models/model.h"
#include "models/stored_weights.h"
#include "text/json_reader.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kForms[] = {"f32", "bf16", "fp8", "fp8-tensor"};
constexpr std::string_view kWeight = ".weight";

// Where weights come from.
struct Source {
    struct Weight {
        std::string name;
        Shape shape;
        std::function<void(std::span<float>)> read;
    };
    Architecture architecture = {};
    std::string config;  // JSON
    std::vector<Weight> weights = {};
    std::vector<fs::path> beside = {};  // files to copy
};

// Files of a folder that stay what they are, whatever the form of the weights.
bool is_copied(const fs::path& file) {
    const std::string name = file.filename().string();
    for (const char* begin : {"tokenizer", "vocab", "merges", "special_tokens", "added_tokens",
                              "chat_template", "generation_config", "LICENSE", "LICENCE"}) {
        if (name.starts_with(begin)) return true;
    }
    return name.ends_with(".md");
}

Source open_folder(const fs::path& folder) {
    const fs::path config = folder / "config.json";
    Source source{.config = read_file(config, kLongestConfig)};
    source.architecture = parse_hf_config(source.config, config.string());
    const auto stored = std::make_shared<StoredWeights>(folder);
    std::vector<StoredWeights::Expected> expected;
    for (const Parameter& p : parameters(source.architecture)) {
        for (StoredParameter& s : stored_parameters(p.name, p.shape)) {
            expected.push_back({std::move(s.name), {Dtype::f32, s.shape}});
        }
    }
    for (StoredWeight& w : stored->match(expected)) {
        source.weights.push_back({w.tensor.name, w.tensor.shape,
                                  [stored, w](std::span<float> values) { w.read(values); }});
    }
    for (const fs::directory_entry& e : fs::directory_iterator(folder)) {
        if (e.is_regular_file() && is_copied(e.path())) source.beside.push_back(e.path());
    }
    return source;
}

Source open_llmc(const fs::path& file) {
    const auto checkpoint = std::make_shared<LlmcCheckpoint>(file);
    Source source{.architecture = checkpoint->architecture(),
                  .config = to_hf_config(checkpoint->architecture(), "float32")};
    for (const LlmcCheckpoint::Tensor& t : checkpoint->tensors()) {
        source.weights.push_back({t.name, t.shape, [checkpoint, t](std::span<float> values) {
                                      checkpoint->read(t, values);
                                  }});
    }
    return source;
}

// "model.layers.0.mlp.up_proj" of "model.layers.0.mlp.up_proj.weight".
std::string module_of(std::string_view weight) {
    return std::string(weight.substr(0, weight.size() - kWeight.size()));
}

bool is_linear(const Source::Weight& w) { return w.name.ends_with("_proj.weight"); }

// The weights, as folders have them, of layers by these names.
std::set<std::string> weights_of_layers(const Architecture& arch,
                                        const std::vector<std::string>& names) {
    std::set<std::string> weights;
    for (const Parameter& p : parameters(arch)) {
        const auto named = [&](const std::string& name) {
            return p.decays() && names_layer(name, module_of(p.name));
        };
        if (std::ranges::none_of(names, named)) continue;
        for (StoredParameter& s : stored_parameters(p.name, p.shape)) weights.insert(s.name);
    }
    return weights;
}

// Linear layers that stay in bf16.
std::set<std::string> left_out(const Source& source, const ConvertRequest& request) {
    const bool blocks = request.form == WeightForm::fp8;
    const auto named = weights_of_layers(source.architecture, request.in_bf16);
    std::vector<NamedShape> linear;
    for (const Source::Weight& w : source.weights) {
        if (is_linear(w)) linear.push_back({w.name, w.shape});
    }
    const auto stays = [&](const NamedShape& w) {
        return named.contains(w.name) || (blocks && !has_whole_blocks(w.shape));
    };
    std::set<std::string> modules;
    for (const std::string& weight : with_joined(linear, stays)) modules.insert(module_of(weight));
    return modules;
}

std::string config_of(const Source& source, WeightForm form, const std::set<std::string>& kept) {
    Json j = read_json(source.config);
    j.erase("torch_dtype");
    j["dtype"] = form == WeightForm::f32 ? "float32" : "bfloat16";
    j.erase("quantization_config");
    if (is_fp8_form(form)) {
        Json modules = {"lm_head"};
        for (const std::string& module : kept) modules.push_back(module);
        Json q = {{"quant_method", "fp8"}, {"fmt", "e4m3"}, {"activation_scheme", "dynamic"}};
        if (form == WeightForm::fp8) q["weight_block_size"] = {kWeightBlock, kWeightBlock};
        q["modules_to_not_convert"] = modules;
        q["ignored_layers"] = modules;  // vLLM's name for them
        j["quantization_config"] = q;
    }
    return j.dump(2) + "\n";
}

// Codes of (rows, columns) values, and a scale for each block of `height` x `width`.
void quantise_blocks(std::span<const float> values, const Shape& shape, std::int64_t height,
                     std::int64_t width, std::span<std::byte> codes, std::span<float> scales) {
    const std::int64_t rows = shape[0], columns = shape[1];
    const std::int64_t down = (rows + height - 1) / height, across = (columns + width - 1) / width;
    parallel_for(down * across, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t block = begin; block < end; ++block) {
            const std::int64_t top = block / across * height, left = block % across * width;
            const std::int64_t bottom = std::min(rows, top + height);
            const std::int64_t n = std::min(width, columns - left);
            float amax = 0;
            for (std::int64_t row = top; row < bottom; ++row) {
                const float a = octavo::amax(&values[row * columns + left], Dtype::f32, n);
                amax = a > amax || a != a ? a : amax;
            }
            const float scale =
                block_scale(amax, max_value(Dtype::e4m3), kBlockFloor, ScaleRounding::exact);
            scales[block] = scale;
            for (std::int64_t row = top; row < bottom; ++row) {
                const std::int64_t at = row * columns + left;
                quantise(&values[at], Dtype::f32, 1.0f / scale, &codes[at], Dtype::e4m3, n);
            }
        }
    });
}

class Converter {
  public:
    Converter(const ConvertRequest& request, Source source)
        : request_(request), source_(std::move(source)) {
        if (!is_fp8_form(request_.form)) return;
        check(source_.architecture.family != Family::gpt2,
              "{}: gpt2's weights lie as (in, out), for which there is no form in FP8\n"
              "  Use bf16 or f32.",
              request_.model.string());
        kept_ = left_out(source_, request_);
    }

    ConvertedModel write() {
        for (Source::Weight& w : source_.weights) describe(w);
        const fs::path& out = request_.out;
        // First: what cannot be written should fail before gigabytes are.
        const std::string config = config_of(source_, request_.form, kept_);
        if (out.has_parent_path()) fs::create_directories(out.parent_path());
        check(fs::create_directory(out), "{}: expected a folder to be made, it is there already",
              out.string());
        try {
            write_safetensors_model(
                out, tensors_, [&](const TensorInfo& t) { return made_.at(t.name)(); },
                request_.shard_bytes);
            for (const fs::path& file : source_.beside) fs::copy_file(file, out / file.filename());
            // The last: a folder without it is none.
            write_file_atomically(out / "config.json", config);
        } catch (...) {
            std::error_code ignored;
            fs::remove_all(out, ignored);  // a full disk needs the space
            throw;
        }
        converted_.left_out.assign(kept_.begin(), kept_.end());
        return converted_;
    }

  private:
    using Bytes = std::span<const std::byte>;

    void add(const std::string& name, Dtype dtype, const Shape& shape,
             std::function<Bytes()> make) {
        tensors_.push_back({name, dtype, shape, {}});
        made_[name] = std::move(make);
        converted_.bytes += shape.elements() * static_cast<std::int64_t>(size_of(dtype));
    }

    void describe(const Source::Weight& w) {
        ++converted_.tensors;
        if (is_fp8_form(request_.form) && is_linear(w) && !kept_.contains(module_of(w.name))) {
            ++converted_.quantised;
            describe_codes(w);
            return;
        }
        const Dtype to = request_.form == WeightForm::f32 ? Dtype::f32 : Dtype::bf16;
        add(w.name, to, w.shape, [this, &w, to]() -> Bytes {
            read(w);
            if (to == Dtype::f32) return std::as_bytes(std::span<const float>(values_));
            bytes_.resize(values_.size() * size_of(to));
            parallel_convert(std::as_bytes(std::span<const float>(values_)), Dtype::f32, bytes_,
                             to);
            return bytes_;
        });
    }

    void describe_codes(const Source::Weight& w) {
        const bool blocks = request_.form == WeightForm::fp8;
        const std::int64_t height = blocks ? kWeightBlock : w.shape[0];
        const std::int64_t width = blocks ? kWeightBlock : w.shape[1];
        const Shape shape = blocks ? weight_blocks(w.shape) : Shape{1};
        // Twice: scales stand in a file before the codes, since they are wider.
        const auto quantise_it = [this, &w, height, width, shape, blocks] {
            read(w);
            // As training and generation do with blocks, so that the codes are theirs.
            if (blocks) {
                for (float& x : values_) x = static_cast<float>(bf16(x));
            }
            codes_.resize(values_.size());
            scales_.resize(static_cast<std::size_t>(shape.elements()));
            quantise_blocks(values_, w.shape, height, width, codes_, scales_);
            for (const float s : scales_) {
                check(s == s, "'{}': expected finite weights, got an infinity or NaN", w.name);
            }
        };
        add(w.name, Dtype::e4m3, w.shape, [this, quantise_it]() -> Bytes {
            quantise_it();
            return codes_;
        });
        add(module_of(w.name) + (blocks ? ".weight_scale_inv" : ".weight_scale"), Dtype::f32, shape,
            [this, quantise_it]() -> Bytes {
                quantise_it();
                return std::as_bytes(std::span<const float>(scales_));
            });
    }

    void read(const Source::Weight& w) {
        values_.resize(static_cast<std::size_t>(w.shape.elements()));
        w.read(values_);
        if (request_.edit) request_.edit(w.name, values_);
    }

    const ConvertRequest& request_;
    Source source_;
    std::set<std::string> kept_;  // modules in bf16
    std::vector<TensorInfo> tensors_;
    std::map<std::string, std::function<Bytes()>> made_;
    ConvertedModel converted_;
    // Of the tensor at hand.
    std::vector<float> values_, scales_;
    std::vector<std::byte> bytes_, codes_;
};

}  // namespace

bool is_fp8_form(WeightForm form) {
    return form == WeightForm::fp8 || form == WeightForm::fp8_tensor;
}

std::string_view name(WeightForm form) { return kForms[static_cast<int>(form)]; }

WeightForm weight_form_named(std::string_view text) {
    const auto* found = std::ranges::find(kForms, text);
    check(found != std::end(kForms), "expected one of {}, got '{}'", fmt::join(kForms, ", "), text);
    return static_cast<WeightForm>(found - kForms);
}

void check_makeable(const ConvertRequest& request) {
    check(!fs::exists(request.out), "{}: expected a folder to be made, it is there already",
          request.out.string());
    check(fs::is_directory(request.model) || LlmcCheckpoint::is_one(request.model),
          "{}: expected a folder with config.json and safetensors, or a checkpoint of llm.c",
          request.model.string());
}

ConvertedModel convert_model(const ConvertRequest& request) {
    check_makeable(request);
    const bool llmc = LlmcCheckpoint::is_one(request.model);
    return Converter(request, llmc ? open_llmc(request.model) : open_folder(request.model)).write();
}

}  // namespace octavo
