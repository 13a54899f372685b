// octavo generate: texts from a run, a checkpoint or a Hugging Face folder.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "cli/device.h"
#include "cli/model_folder.h"
#include "cli/text_engine.h"
#include "cli/verbs.h"
#include "io/json_text.h"
#include "io/text_source.h"
#include "serve/text_stream.h"
#include "train/run_tokenizer.h"

namespace octavo {
namespace {

struct Prompt {
    std::string text;
    std::vector<std::int32_t> ids;
};

// A text as it comes. Without a tokenizer, its ids stand for it.
struct Output {
    const Prompt* prompt;
    std::int64_t sample;
    TextStream characters;
    std::string text = {};  // after the prompt
    std::vector<std::int32_t> ids = {};
    std::vector<float> logprobs = {};
    const char* finish = nullptr;
};

std::vector<std::int32_t> parse_ids(const std::vector<std::string>& words) {
    std::vector<std::int32_t> ids;
    for (const std::string& word : words) {
        std::int32_t id = 0;
        const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
        if (error != std::errc() || end != word.data() + word.size() || id < 0) {
            fail_usage("--ids: expected token ids separated by commas, got '{}'", word);
        }
        ids.push_back(id);
    }
    return ids;
}

// Ids can be continued without a tokenizer; where there is one, it says which ids are tokens.
std::shared_ptr<const Tokenizer> find_tokenizer(const ModelFolder& model, const Architecture& arch,
                                                bool needed) {
    std::shared_ptr<const Tokenizer> tokenizer;
    try {
        tokenizer = matching_tokenizer(model, arch);
    } catch (const Error&) {
        if (needed) throw;
    }
    if (needed && !tokenizer) {
        fail_usage(
            "{}: --prompt needs a tokenizer, and the folder has no tokenizer.json\n"
            "  Copy it there, or give the prompt as --ids 1,2,3 and get ids back.",
            model.path.string());
    }
    return tokenizer;
}

std::vector<Prompt> read_prompts(const Args& args, const Tokenizer* tokenizer, bool trained_here) {
    if (const auto& words = args.flag<std::vector<std::string>>("ids"); !words.empty()) {
        return {{"", parse_ids(words)}};
    }
    std::vector<Prompt> prompts;
    const auto& file = args.flag<std::string>("prompts");
    if (file.empty()) {
        prompts.push_back({args.flag<std::string>("prompt"), {}});
    } else {
        TextSource source(file, {.format = TextFormat::jsonl, .column = "prompt"});
        for (std::string text; source.next(text);) prompts.push_back({text, {}});
        if (prompts.empty()) fail("{}: expected prompts, got none", file);
    }
    for (Prompt& prompt : prompts) {
        prompt.ids = prompt_ids(*tokenizer, prompt.text, trained_here);
        if (prompt.ids.empty())
            fail_usage("--prompt: expected a text, this tokenizer gives an empty one no token");
    }
    return prompts;
}

TextRequest request_of(const Args& args, const Tokenizer* tokenizer, const Architecture& arch,
                       std::vector<std::int32_t> stops) {
    TextRequest request{.prompt = {},
                        .max_tokens = args.flag<std::int64_t>("tokens"),
                        .stop_tokens = std::move(stops)};
    request.sampling = {
        .temperature = args.flag<double>("temperature"),
        .top_k = args.flag<std::int64_t>("top-k"),
        .top_p = args.flag<double>("top-p"),
        .seed = static_cast<std::uint64_t>(args.flag<std::int64_t>("seed")),
        .vocabulary =
            tokenizer ? std::min<std::int64_t>(tokenizer->vocabulary(), arch.vocab_size) : 0};
    check_options(request.sampling);
    return request;
}

// Ids are continued as they are: no text goes in, and none comes out that a string could end.
void refuse_texts_beside_ids(const Args& args) {
    if (args.flag<std::vector<std::string>>("ids").empty()) return;
    const auto refuse = [](bool given, std::string_view flag) {
        if (given) {
            fail_usage("--ids and --{}: ids have no text\n  Leave out one of the two.", flag);
        }
    };
    refuse(!args.flag<std::string>("prompt").empty(), "prompt");
    refuse(!args.flag<std::string>("prompts").empty(), "prompts");
    refuse(!args.flag<std::vector<std::string>>("stop").empty(), "stop");
}

std::string joined(const auto& values) { return fmt::format("{}", fmt::join(values, ",")); }

std::string json_line(const Output& o) {
    return fmt::format(
        R"({{"prompt":{},"sample":{},"text":{},"prompt_tokens":{},"ids":[{}],"logprobs":[{}],"finish":"{}"}})",
        json_quote(o.prompt->text), o.sample, json_quote(o.text), o.prompt->ids.size(),
        joined(o.ids), joined(o.logprobs), o.finish);
}

// Adds a token; returns what of it can be shown.
std::string add(Output& o, const TokenEvent& event, const Tokenizer* tokenizer, bool as_ids) {
    std::string shown;
    const std::int32_t token = event.score.token;
    o.ids.push_back(token);
    o.logprobs.push_back(event.drawn_logprob);
    if (as_ids) {
        shown = fmt::format("{}{}", o.ids.size() > 1 ? "," : "", token);
    } else if (event.finish != Finish::stop) {
        shown = o.characters.push(tokenizer->bytes(token));
    }
    const bool stopped = o.characters.stopped();
    if (stopped || event.finish == Finish::stop) o.finish = "stop";
    if (!stopped && event.finish == Finish::length) o.finish = "length";
    if (o.finish && !as_ids && !stopped) shown += o.characters.finish();
    o.text += shown;
    return shown;
}

int run_generate(const Args& args) {
    refuse_texts_beside_ids(args);
    const ModelFolder model = find_model(args.operands()[0]);
    const Architecture arch = read_hf_config(model.path);
    const bool as_ids = !args.flag<std::vector<std::string>>("ids").empty();
    const bool json = args.flag<bool>("json") || !args.flag<std::string>("prompts").empty();
    const auto tokenizer = find_tokenizer(model, arch, !as_ids);
    const std::vector<Prompt> prompts =
        read_prompts(args, tokenizer.get(), model.recipe.has_value());
    const TextRequest common =
        request_of(args, tokenizer.get(), arch,
                   as_ids ? std::vector<std::int32_t>{} : stop_tokens(model, tokenizer.get()));
    const auto samples = args.flag<std::int64_t>("samples");

    std::int64_t longest = 0;
    for (const Prompt& prompt : prompts) longest = std::max(longest, std::ssize(prompt.ids));
    EngineOptions options = engine_options(args);
    options.context = longest + common.max_tokens;
    options.max_seqs = std::min(options.max_seqs, std::ssize(prompts) * samples);
    const auto backend = open_backend({.backend = args.flag<std::string>("backend")});
    const auto engine =
        make_text_engine(model, arch, *backend, args.flag<std::string>("recipe"), options);

    std::vector<Output> outputs;
    std::map<std::uint64_t, std::size_t> running;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
        for (std::int64_t i = 0; i < samples; ++i) {
            TextRequest request = common;
            request.prompt = prompts[p].ids;
            request.sequence = p;
            request.sample = static_cast<std::uint32_t>(i);
            running[engine->submit(std::move(request))] = outputs.size();
            outputs.push_back(
                {&prompts[p], i, TextStream(args.flag<std::vector<std::string>>("stop"))});
        }
    }
    // The first text that is not over is shown as it comes, the others when it is.
    std::size_t current = 0;
    const auto show = [&](const std::string& text) {
        fmt::print("{}", text);
        std::fflush(stdout);
    };
    if (!json && !as_ids) show(outputs[0].prompt->text);
    while (!running.empty()) {
        for (const TokenEvent& event : engine->step()) {
            const auto at = running.find(event.id);
            if (at == running.end()) continue;
            if (event.finish == Finish::failed) fail("{}", event.error);
            Output& o = outputs[at->second];
            const std::string shown = add(o, event, tokenizer.get(), as_ids);
            if (!json && at->second == current) show(shown);
            if (!o.finish) continue;
            if (event.finish == Finish::none) engine->cancel(event.id);
            running.erase(at);
            for (; current < outputs.size() && outputs[current].finish; ++current) {
                if (json) {
                    show(json_line(outputs[current]) + "\n");
                    continue;
                }
                show("\n");
                if (current + 1 == outputs.size()) continue;
                const Output& next = outputs[current + 1];
                show((as_ids ? "" : next.prompt->text) + next.text);
            }
        }
    }
    return 0;
}

}  // namespace

Verb generate_verb() {
    Verb verb{
        .name = "generate",
        .help = "Continues texts with a model: a run, a checkpoint, or a Hugging Face folder.",
        .run = run_generate,
        .operands = {.name = "MODEL", .min = 1, .max = 1},
        .flags = {{.name = "prompt", .initial = std::string(), .help = "text to continue"},
                  {.name = "prompts",
                   .initial = std::string(),
                   .help = "JSON lines with a \"prompt\" each, to be continued side by side"},
                  {.name = "ids",
                   .initial = std::vector<std::string>(),
                   .help = "token ids to continue, instead of a text; prints ids"},
                  {.name = "tokens",
                   .initial = std::int64_t{200},
                   .help = "tokens to generate",
                   .rule = between(1, 1 << 24)},
                  {.name = "samples",
                   .initial = std::int64_t{1},
                   .help = "texts to generate from each prompt",
                   .rule = between(1, 1 << 20)},
                  {.name = "temperature",
                   .initial = 0.8,
                   .help = "0: always the most likely token",
                   .rule = at_least(0)},
                  {.name = "top-k",
                   .initial = std::int64_t{0},
                   .help = "draw from the k most likely tokens; 0: from all",
                   .rule = at_least(0)},
                  {.name = "top-p",
                   .initial = 1.0,
                   .help = "draw from the most likely tokens with this probability together",
                   .rule = between(0, 1)},
                  {.name = "stop",
                   .initial = std::vector<std::string>(),
                   .help = "strings that end a text, beside the model's end of text"},
                  {.name = "seed",
                   .initial = std::int64_t{1},
                   .help = "of the draws",
                   .rule = at_least(0)},
                  {.name = "json",
                   .initial = false,
                   .help = "a JSON line for each text, with ids and log-probabilities"}}};
    for (Flag& flag : engine_flags()) verb.flags.push_back(std::move(flag));
    return verb;
}

}  // namespace octavo
