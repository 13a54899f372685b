#include "io/tokenize.h"

#include <algorithm>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/rng.h"
#include "io/json_records.h"
#include "io/json_text.h"
#include "io/token_file_writer.h"
#include "io/whole_shards.h"
#include "text/each.h"
#include "text/tokenizer_folder.h"

namespace octavo {
namespace {

constexpr std::uint64_t kSplitStream = 0x73706c69'74000000;  // "split": nothing else draws from it
constexpr std::int64_t kProgressBytes = std::int64_t{4} << 20;
constexpr std::size_t kBatchBytes = std::size_t{1} << 20;  // for each thread

struct Document {
    std::vector<std::int32_t> ids;
    std::vector<std::uint8_t> learn;  // 0 or 1 for each; empty without a mask
};

void remove_token_file(const std::filesystem::path& path) {
    std::error_code ignored;
    auto index = path, mask = path;
    for (const auto& file : {path, index.replace_extension(".idx"), mask += ".loss"}) {
        std::filesystem::remove(file, ignored);
    }
}

// NAME_00000.bin and so on in a folder; -1: NAME.bin, with all.
std::filesystem::path shard_path(const std::filesystem::path& folder, const std::string& name,
                                 int shard) {
    return folder / (shard < 0 ? name + ".bin" : fmt::format("{}_{:05}.bin", name, shard));
}
// From the shard on, of an earlier call: they would be taken for this one's.
void remove_shards(const std::filesystem::path& folder, const std::string& name, int shard) {
    for (; std::filesystem::exists(shard_path(folder, name, shard)); ++shard) {
        remove_token_file(shard_path(folder, name, shard));
    }
}

// Whether an interrupted call with these options left these shards, and nobody took them away.
bool are_there(const TokenizeOptions& options, const WholeShards& shards) {
    const auto all = [&](const char* name, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            const auto path = shard_path(options.output, name, static_cast<int>(i));
            if (!std::filesystem::exists(path)) return false;
        }
        return true;
    };
    return shards.call == describe_call(options) && all("train", shards.train.size()) &&
           all("held_out", shards.held_out.size());
}

// One of the two outputs: NAME.bin, or shards NAME_00000.bin, NAME_00001.bin, ..., of which the
// first may be `whole` already.
class Split {
  public:
    Split(const TokenizeOptions& options, std::string name, std::vector<SplitCount> whole)
        : options_(options), name_(std::move(name)), whole_(std::move(whole)) {
        for (const SplitCount& s : whole_) {
            there_ += s.documents;
            count_.documents += s.documents;
            count_.tokens += s.tokens;
            count_.learned += s.learned;
        }
        foreseen_ = there_;
        open();
    }

    // Of the documents in the order of `add`: whether the next one is in a whole shard.
    bool foresee() { return foreseen_ > 0 && foreseen_-- > 0; }
    // Whether that made another shard whole. Documents of whole shards may be empty here.
    bool add(const Document& document) {
        if (there_ > 0) {
            --there_;
            return false;
        }
        const bool full = options_.shard_tokens > 0 && file_->size() >= options_.shard_tokens;
        if (full) {
            file_->close();
            whole_.push_back(shard_);
            shard_ = {};
            open();
        }
        file_->write(document.ids, document.learn);
        const SplitCount one{.documents = 1,
                             .tokens = std::ssize(document.ids),
                             .learned = document.learn.empty()
                                            ? std::ssize(document.ids)
                                            : std::ranges::count(document.learn, 1)};
        for (SplitCount* sum : {&count_, &shard_}) {
            sum->documents += one.documents;
            sum->tokens += one.tokens;
            sum->learned += one.learned;
        }
        return full;
    }
    void close() {
        file_->close();
        const bool sharded = options_.shard_tokens > 0;
        if (sharded) remove_token_file(shard_path(options_.output, name_, -1));
        remove_shards(options_.output, name_, sharded ? shard() + 1 : 0);
    }
    SplitCount count() const { return count_; }
    const std::vector<SplitCount>& whole() const { return whole_; }

  private:
    int shard() const { return static_cast<int>(whole_.size()); }
    void open() {
        file_.emplace(
            shard_path(options_.output, name_, options_.shard_tokens > 0 ? shard() : -1),
            options_.tokenizer->vocabulary(),
            TokenFileForm{.format = options_.format, .mask = options_.records != Records::texts});
    }

    const TokenizeOptions& options_;
    std::string name_;
    std::optional<TokenFileWriter> file_;
    std::vector<SplitCount> whole_;
    std::int64_t there_ = 0, foreseen_ = 0;  // documents of whole shards that are still to come
    SplitCount shard_, count_;               // of the open one; of all
};

// Deals documents out to the two outputs, one behind, so that the last one can still go to a side
// that has none.
class Splitter {
  public:
    // What is whole already, and what becomes so, is noted in `shards`.
    Splitter(const TokenizeOptions& options, WholeShards& shards)
        : shards_(shards),
          output_(options.output),
          rng_(options.seed, kSplitStream),
          fraction_(options.held_out),
          first_input_(options.inputs.front().string()),
          inputs_(options.inputs.size()),
          train_(options, "train", shards.train) {
        if (fraction_ > 0) held_out_.emplace(options, "held_out", shards.held_out);
    }

    // Of the documents in the order of `add`: whether the next one is in a whole shard, so that
    // `add` needs only to be told of it. The last one, which can change sides, never is: a shard is
    // whole when its successor's first document has come.
    bool foresee() { return chosen(foreseen_++).foresee(); }

    // Takes the contents of `document`.
    void add(Document& document) {
        if (documents_ > 0 && chosen(documents_ - 1).add(last_)) note();
        std::swap(last_, document);
        ++documents_;
    }

    // Completes both files, or throws and leaves neither.
    void finish() {
        check(documents_ > 0,
              "tokenize: there is no text in {}{}\n  Check that they are not empty.", first_input_,
              inputs_ > 1 ? fmt::format(" and {} more files", inputs_ - 1) : "");
        check(documents_ > 1 || !held_out_,
              "tokenize: one document cannot be split into training and held-out text\n"
              "  Separate documents by lines '<|endoftext|>', add text, or hold nothing out (0).");
        const bool starved = held_out_ && held_out_->count().documents == 0;
        const bool all_held_out = held_out_ && train_.count().documents == 0;
        (starved ? *held_out_ : all_held_out ? train_ : chosen(documents_ - 1)).add(last_);
        train_.close();
        if (held_out_) held_out_->close();
    }

    std::int64_t documents() const { return documents_; }
    SplitCount train() const { return train_.count(); }
    SplitCount held_out() const { return held_out_ ? held_out_->count() : SplitCount{}; }

  private:
    Split& chosen(std::int64_t document) {
        const bool out =
            held_out_ && rng_.uniform(static_cast<std::uint64_t>(document)) < fraction_;
        return out ? *held_out_ : train_;
    }
    void note() {
        shards_.train = train_.whole();
        if (held_out_) shards_.held_out = held_out_->whole();
        write_whole_shards(output_, shards_);
    }

    WholeShards& shards_;
    std::filesystem::path output_;
    Rng rng_;
    double fraction_;
    std::string first_input_;  // for messages
    std::size_t inputs_;
    Split train_;
    std::optional<Split> held_out_;
    Document last_;
    std::int64_t documents_ = 0, foreseen_ = 0;
};

struct Source {
    std::filesystem::path path;
    TextOptions options;
    std::int64_t documents = 0;  // not empty
};

// Collects documents, takes them apart and encodes them on all threads, and deals them out in their
// order.
class Pipeline {
  public:
    Pipeline(const TokenizeOptions& options, std::int32_t end_of_text, WholeShards& shards)
        : options_(options),
          tokenizer_(*options.tokenizer),
          end_of_text_(end_of_text),
          splitter_(options, shards),
          encoders_(tokenizer_.encoders()) {
        for (const auto* split : {&shards.train, &shards.held_out}) {
            for (const SplitCount& shard : *split) there_ += shard.documents;
        }
        taken_over_ = there_;
    }

    // The documents that are added from now on are of this file.
    void begin(const std::filesystem::path& path, const TextOptions& options) {
        check(options.format == TextFormat::jsonl || options_.records == Records::texts,
              "{}: expected JSON lines with {}, got a file that is read as text\n"
              "  If it has JSON lines, say so with --format jsonl.",
              path.string(), options_.records == Records::chats ? "messages" : "prompts");
        sources_.push_back({path, options});
    }
    // Takes the contents of `raw`.
    void add(TextSource::Raw& raw) {
        bytes_ += raw.text.size();
        Item& item = batch_.emplace_back();
        item.raw = std::exchange(raw, {});
        item.source = sources_.size() - 1;
        if (bytes_ >= kBatchBytes * encoders_.size()) flush();
    }
    void flush() {
        if (there_ > 0) leave_out();
        for_each_item(batch_.size(), [&](std::size_t thread, std::size_t i) {
            if (!batch_[i].there) encode(batch_[i], thread);
        });
        for (Item& item : batch_) {
            if (item.document.ids.empty() && !item.there) {
                ++empty_documents_;
            } else {
                splitter_.add(item.document);
                ++sources_[item.source].documents;
            }
        }
        batch_.clear();
        bytes_ = 0;
    }
    Splitter& splitter() { return splitter_; }
    const std::vector<Source>& sources() const { return sources_; }
    std::int64_t empty_documents() const { return empty_documents_; }
    std::int64_t taken_over() const { return taken_over_; }

  private:
    struct Item {
        TextSource::Raw raw;
        std::size_t source = 0;
        Document document = {};
        bool extracted = false;  // raw has the text alone
        bool there = false;      // in a whole shard
    };

    // Errors about an item with its place.
    auto in_place(const Item& item, const auto& work) const {
        try {
            return work();
        } catch (const Error& error) {
            throw error.in(
                fmt::format("{}: line {}", sources_[item.source].path.string(), item.raw.line));
        }
    }
    // Finds the documents of whole shards, for which it only takes to know which have no text.
    void leave_out() {
        std::vector<char> empty(batch_.size());
        for_each_item(batch_.size(), [&](std::size_t, std::size_t i) {
            empty[i] = in_place(batch_[i], [&] { return is_empty(batch_[i]); });
        });
        for (std::size_t i = 0; i < batch_.size(); ++i) {
            batch_[i].there = !empty[i] && splitter_.foresee();
            there_ -= batch_[i].there;
        }
    }
    bool is_empty(Item& item) const {
        const std::string& line = item.raw.text;
        switch (options_.records) {
            case Records::texts:
                TextSource::extract(item.raw, sources_[item.source].options);
                item.extracted = true;
                return item.raw.text.empty();
            case Records::pairs:
                return json_text_field(line, options_.prompt).empty() &&
                       json_text_field(line, options_.completion).empty();
            case Records::chats:
                return json_chat(line, options_.messages).empty();
        }
        return true;
    }
    void encode(Item& item, std::size_t thread) const {
        const Source& source = sources_[item.source];
        Encoder& encoder = *encoders_[thread];
        in_place(item, [&] {
            switch (options_.records) {
                case Records::texts: {
                    if (!item.extracted) TextSource::extract(item.raw, source.options);
                    if (!item.raw.text.empty()) item.document.ids = whole(item.raw.text, encoder);
                    break;
                }
                case Records::pairs:
                    item.document = pair(item.raw.text, encoder);
                    break;
                case Records::chats:
                    item.document = chat(item.raw.text, encoder);
                    break;
            }
        });
        item.raw.text = {};
    }

    // The text's, behind the beginning and before the end of text.
    std::vector<std::int32_t> whole(std::string_view text, Encoder& encoder) const {
        const auto begin = tokenizer_.begin();
        std::vector<std::int32_t> ids(begin.begin(), begin.end());
        encoder.encode(text, ids);
        ids.push_back(end_of_text_);
        return ids;
    }
    // Prompt and completion are encoded apart, as a prompt is when the model is asked.
    Document pair(std::string_view line, Encoder& encoder) const {
        const std::string prompt = json_text_field(line, options_.prompt);
        const std::string completion = json_text_field(line, options_.completion);
        if (prompt.empty() && completion.empty()) return {};
        const auto begin = tokenizer_.begin();
        Document d{.ids = {begin.begin(), begin.end()}, .learn = {}};
        encoder.encode(prompt, d.ids);
        d.learn.resize(d.ids.size(), 0);
        encoder.encode(completion, d.ids);
        d.ids.push_back(end_of_text_);
        d.learn.resize(d.ids.size(), 1);
        return d;
    }
    Document chat(std::string_view line, Encoder& encoder) const {
        const auto messages = json_chat(line, options_.messages);
        if (messages.empty()) return {};
        ChatTokens tokens = options_.chat->encode(messages, false, tokenizer_, encoder);
        return {.ids = std::move(tokens.ids), .learn = {tokens.learn.begin(), tokens.learn.end()}};
    }

    const TokenizeOptions& options_;
    const Tokenizer& tokenizer_;
    std::int32_t end_of_text_;
    Splitter splitter_;
    std::vector<std::unique_ptr<Encoder>> encoders_;
    std::vector<Source> sources_;
    std::vector<Item> batch_;
    std::size_t bytes_ = 0;  // of the batch
    std::int64_t empty_documents_ = 0;
    std::int64_t there_ = 0, taken_over_ = 0;  // documents of whole shards: still to come; in all
};

std::string to_json(const SplitCount& count, std::string_view file) {
    return fmt::format(R"({{"file": {}, "documents": {}, "tokens": {}, "learned": {}}})",
                       json_quote(file), count.documents, count.tokens, count.learned);
}

std::string describe(const TokenizeOptions& options, std::int32_t end_of_text,
                     const TokenizeReport& report, const std::vector<Source>& sources) {
    std::string list;
    for (const Source& source : sources) {
        list += fmt::format(R"({}{{"path": {}, "format": "{}", "documents": {}}})",
                            list.empty() ? "\n    " : ",\n    ", json_quote(source.path.string()),
                            source.options.format == TextFormat::jsonl ? "jsonl" : "text",
                            source.documents);
    }
    std::string text = "{\n";
    const Tokenizer& tokenizer = *options.tokenizer;
    text += fmt::format("  \"tokenizer\": {},\n", json_quote(tokenizer.kind()));
    text += fmt::format("  \"fingerprint\": {},\n", json_quote(tokenizer.fingerprint()));
    text += fmt::format("  \"vocabulary\": {},\n", report.vocabulary);
    text += fmt::format("  \"end_of_text\": {},\n", end_of_text);
    text += fmt::format("  \"end_of_text_token\": {},\n", json_quote(tokenizer.bytes(end_of_text)));
    text += fmt::format("  \"format\": {},\n", json_quote(name(options.format)));
    text +=
        fmt::format("  \"train\": {},\n", to_json(report.train, token_file_name(options, "train")));
    if (options.held_out > 0) {
        text += fmt::format("  \"held_out\": {},\n",
                            to_json(report.held_out, token_file_name(options, "held_out")));
    }
    text += fmt::format("  \"held_out_share\": {},\n", options.held_out);
    text += fmt::format("  \"seed\": {},\n", options.seed);
    text += fmt::format("  \"empty_documents_skipped\": {},\n", report.empty_documents);
    text += fmt::format("  \"sources\": [{}\n  ]\n}}\n", list);
    return text;
}

void make_directory(const std::filesystem::path& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    check(!error && std::filesystem::is_directory(path), "{}: cannot make the directory: {}",
          path.string(), error ? error.message() : "a file has that name");
}

// A model without its tokenizer is lost, and so is a tokenizer that nothing else has: only those of
// earlier token files are replaced.
void check_tokenizer_may_go_to(const std::filesystem::path& folder,
                               const std::map<std::string, std::string>& files) {
    if (files.empty()) return;
    check(!std::filesystem::exists(folder / "config.json"),
          "{}: expected a folder for token files, got a model's (it has a config.json)\n"
          "  Name another --out: the tokenizer is copied there, and would replace the model's.",
          folder.string());
    if (std::filesystem::exists(folder / "tokens.json")) return;
    const auto replaced = first_replaced(folder, files);
    check(replaced.empty(),
          "{}: would be replaced by the tokenizer of the token files, and is not from earlier ones "
          "(the folder has no tokens.json)\n"
          "  Name another --out, or move the file away.",
          replaced.string());
}

}  // namespace

std::string token_file_name(const TokenizeOptions& options, std::string_view split) {
    return fmt::format("{}{}.bin", split, options.shard_tokens > 0 ? "_*" : "");
}

TokenizeReport tokenize(const TokenizeOptions& options,
                        const std::function<void(const TokenizeProgress&)>& progress) {
    if (options.inputs.empty()) fail_usage("tokenize: expected at least one input file, got none");
    if (!(options.held_out >= 0 && options.held_out < 1)) {
        fail_usage("tokenize: expected a held-out share in [0, 1), got {}", options.held_out);
    }
    const auto end_of_text = options.tokenizer->end_of_text();
    if (!end_of_text) {
        fail(
            "tokenize: the tokenizer has no token that ends a text\n"
            "  Name one of its added tokens with --end-of-text.");
    }
    if (options.records == Records::chats) {
        check(options.chat.has_value(), "tokenize: chats need a chat template");
        if (options.format == TokenFormat::llmc) {
            fail_usage(
                "tokenize: chats have no token that ends them, so that llm.c's form would hold one "
                "document\n  Write Megatron's, which knows where documents end.");
        }
        options.chat->check_tokenizer(*options.tokenizer);
    }
    // Opening all inputs first finds a misspelt name before minutes of work.
    TokenizeProgress done;
    for (const auto& path : options.inputs) done.bytes_total += InputFile(path).bytes_total();
    check_tokenizer_may_go_to(options.output, options.tokenizer_files);
    make_directory(options.output);

    WholeShards shards;
    if (options.shard_tokens > 0) {
        if (auto left = read_whole_shards(options.output); left && are_there(options, *left)) {
            shards = *std::move(left);
        } else {
            shards.call = describe_call(options);
        }
    }
    if (shards.train.empty() && shards.held_out.empty()) remove_whole_shards(options.output);
    Pipeline pipeline(options, *end_of_text, shards);
    Splitter& splitter = pipeline.splitter();
    std::int64_t bytes_before = 0, bytes_told = 0;
    const auto tell = [&] {
        bytes_told = done.bytes;
        done.documents = splitter.documents();
        done.tokens = splitter.train().tokens + splitter.held_out().tokens;
        if (progress) progress(done);
    };
    TextSource::Raw raw;
    for (const auto& path : options.inputs) {
        TextSource source(path, options.text);
        pipeline.begin(path, source.options());
        while (source.next_raw(raw)) {
            pipeline.add(raw);
            done.bytes = bytes_before + source.file().bytes_read();
            if (done.bytes - bytes_told >= kProgressBytes) tell();
        }
        done.bytes = bytes_before += source.file().bytes_read();
        tell();
    }
    pipeline.flush();
    tell();

    splitter.finish();
    const TokenizeReport report{.train = splitter.train(),
                                .held_out = splitter.held_out(),
                                .empty_documents = pipeline.empty_documents(),
                                .taken_over = pipeline.taken_over(),
                                .vocabulary = options.tokenizer->vocabulary()};
    if (options.held_out == 0) {
        // An earlier call's would be taken for this one's.
        remove_token_file(options.output / "held_out.bin");
        remove_shards(options.output, "held_out", 0);
    }
    write_tokenizer_files(options.output, options.tokenizer_files);
    write_file_atomically(options.output / "tokens.json",
                          describe(options, *end_of_text, report, pipeline.sources()));
    remove_whole_shards(options.output);
    return report;
}

}  // namespace octavo
