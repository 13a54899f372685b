// octavo serve: a model behind OpenAI's HTTP protocol.
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "base/file.h"
#include "base/process.h"
#include "cli/device.h"
#include "cli/model_folder.h"
#include "cli/text_engine.h"
#include "cli/verbs.h"
#include "serve/api.h"

namespace octavo {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kInterrupted = 130;

// SIGINT and SIGTERM as something to wait for. Threads made while it lives do not see them.
class Signals {
  public:
    Signals() {
        sigemptyset(&set_);
        sigaddset(&set_, SIGINT);
        sigaddset(&set_, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &set_, &before_);
    }
    ~Signals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

    bool came_within(milliseconds time) const {
        const timespec limit{.tv_sec = time.count() / 1000,
                             .tv_nsec = time.count() % 1000 * 1000000};
        return sigtimedwait(&set_, nullptr, &limit) > 0;
    }

  private:
    sigset_t set_{}, before_{};
};

std::string name_of(const Args& args) {
    if (const auto& name = args.flag<std::string>("name"); !name.empty()) return name;
    const auto whole =
        std::filesystem::absolute(args.flag<std::string>("model")).lexically_normal();
    return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

ServedModel served_model(const Args& args, const ModelFolder& folder, const Architecture& arch) {
    ServedModel model{.name = name_of(args),
                      .tokenizer = matching_tokenizer(folder, arch),
                      .chat = read_chat_template(folder.path),
                      .after_end_of_text = folder.recipe.has_value(),
                      .created = static_cast<std::int64_t>(unix_time_s())};
    if (!model.tokenizer) {
        fail_usage(
            "{}: a server needs a tokenizer, and the folder has no tokenizer.json\n  Copy it "
            "there.",
            folder.path.string());
    }
    model.stop_tokens = stop_tokens(folder, model.tokenizer.get());
    return model;
}

// That clients must send; empty: none. Lists of processes show flags, but no files or environments.
std::string api_key(const Args& args) {
    const auto& flag = args.flag<std::string>("api-key");
    const auto& file = args.flag<std::string>("api-key-file");
    const char* variable = std::getenv("OCTAVO_API_KEY");
    if (!flag.empty() && !file.empty()) {
        fail_usage("serve: expected --api-key or --api-key-file, got both");
    }
    std::string source = "--api-key", key = flag;
    if (!file.empty()) {
        source = file;
        key = read_file(file);
        key.resize(key.find_last_not_of("\r\n") + 1);
    } else if (flag.empty() && variable) {
        source = "OCTAVO_API_KEY";
        key = variable;
    } else if (flag.empty()) {
        return {};
    }
    // An empty key must not open the server to all.
    const bool fits = std::ranges::all_of(key, [](char c) { return c > ' ' && c <= '~'; });
    check(!key.empty() && fits, "{}: expected a key of printable ASCII characters without spaces{}",
          source, key.empty() ? ", got none" : "");
    return key;
}

// Waits for a signal, ends as the requests under way allow, and returns the exit code.
int serve_until_told(HttpServer& server, const EngineLoop& engine, const Signals& signals,
                     seconds grace) {
    while (!signals.came_within(milliseconds(200))) {
        if (const auto why = engine.failure()) fail("{}", *why);
    }
    server.drain();
    fmt::print("stopping: requests under way have {} s; a second signal cancels them\n",
               grace.count());
    std::fflush(stdout);
    const auto end = std::chrono::steady_clock::now() + grace;
    while (!server.wait_for_end(milliseconds(50))) {
        if (signals.came_within(milliseconds(50)) || std::chrono::steady_clock::now() > end) {
            server.cut();
            fmt::print("stopped; requests were cancelled\n");
            return kInterrupted;
        }
    }
    fmt::print("stopped\n");
    return 0;
}

int run_serve(const Args& args) {
    const Signals signals;
    const std::string key = api_key(args);
    const ModelFolder folder = find_model(args.flag<std::string>("model"));
    const Architecture arch = read_hf_config(folder.path);
    ServedModel model = served_model(args, folder, arch);
    const auto backend = open_backend({.backend = args.flag<std::string>("backend")});
    EngineOptions options = engine_options(args);
    options.context = std::min(args.flag<std::int64_t>("context"), arch.max_positions);
    EngineLoop engine(
        make_text_engine(folder, arch, *backend, args.flag<std::string>("recipe"), options),
        args.flag<std::int64_t>("queue"));
    const std::string name = model.name, chat(model.chat ? model.chat->name() : "none");
    Api api(std::move(model), engine,
            {.key = key,
             .time_limit = seconds(args.flag<std::int64_t>("time-limit")),
             .max_reply = args.flag<std::int64_t>("max-reply"),
             .seed = std::random_device{}() * (std::uint64_t{1} << 32) + std::random_device{}()});
    const auto io_limit = seconds(args.flag<std::int64_t>("io-limit"));
    HttpServer server(
        {.host = args.flag<std::string>("host"),
         .port = static_cast<int>(args.flag<std::int64_t>("port")),
         .max_connections = static_cast<std::size_t>(args.flag<std::int64_t>("connections")),
         .max_body_bytes = static_cast<std::size_t>(args.flag<std::int64_t>("max-body")),
         .read_limit = io_limit,
         .write_limit = io_limit,
         .error_body = http_error_body},
        api.routes());
    fmt::print("serving {} at http://{}:{}/v1 (context {}, chat template: {})\n", name,
               args.flag<std::string>("host"), server.port(), engine.limits().context, chat);
    std::fflush(stdout);
    return serve_until_told(server, engine, signals, seconds(args.flag<std::int64_t>("grace")));
}

}  // namespace

Verb serve_verb() {
    Verb verb{
        .name = "serve",
        .help = "Serves a model over HTTP as OpenAI's API does: completions, chats, streams.",
        .run = run_serve,
        .flags = {
            {.name = "model",
             .initial = std::string(),
             .help = "a run, a checkpoint, or a Hugging Face folder",
             .required = true},
            {.name = "host", .initial = std::string("127.0.0.1"), .help = "address to listen at"},
            {.name = "port",
             .initial = std::int64_t{8080},
             .help = "0: any free one",
             .rule = between(0, 65535)},
            {.name = "name",
             .initial = std::string(),
             .help = "of the model in requests; by default its folder's"},
            {.name = "api-key",
             .initial = std::string(),
             .help = "that clients must send; by default $OCTAVO_API_KEY, else none"},
            {.name = "api-key-file",
             .initial = std::string(),
             .help = "file with the key, which --api-key would show in lists of processes"},
            {.name = "context",
             .initial = std::int64_t{0},
             .help = "tokens of a text at most, prompt included; 0: all the model's positions",
             .rule = at_least(0)},
            {.name = "queue",
             .initial = std::int64_t{256},
             .help = "texts under way and waiting; beyond it: status 429",
             .rule = between(1, 1 << 20)},
            {.name = "connections",
             .initial = std::int64_t{512},
             .help = "open at once; beyond it: status 503",
             .rule = between(1, 900)},
            {.name = "max-body",
             .initial = std::int64_t{4 << 20},
             .help = "bytes of a request's body; beyond it: status 413",
             .rule = between(1 << 10, 1 << 30)},
            {.name = "max-reply",
             .initial = std::int64_t{1 << 21},
             .help = "tokens of a reply, and likely ones listed beside them; beyond it: status 400",
             .rule = between(1, std::int64_t{1} << 32)},
            {.name = "io-limit",
             .initial = std::int64_t{30},
             .help = "seconds for a client to send its request, or to take a piece of its reply",
             .rule = between(1, 3600)},
            {.name = "time-limit",
             .initial = std::int64_t{600},
             .help = "seconds for a request, waiting included",
             .rule = between(1, 1 << 20)},
            {.name = "grace",
             .initial = std::int64_t{30},
             .help = "seconds that requests under way have after SIGTERM or Ctrl-C",
             .rule = between(0, 3600)}}};
    for (Flag& flag : engine_flags()) verb.flags.push_back(std::move(flag));
    return verb;
}

}  // namespace octavo
