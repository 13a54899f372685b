#include "text/tokenizer_json.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <unordered_map>

#include "base/error.h"
#include "base/file.h"
#include "text/byte_level.h"
#include "text/json_reader.h"
#include "text/split_pattern.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLargestFile = std::size_t{256} << 20;
constexpr std::int64_t kLargestVocabulary = std::int64_t{1} << 22;

// Of at most about 60 bytes, for messages.
std::string shown(std::string_view text) {
    std::string part(text.substr(0, 60));
    if (text.size() > 60) part += "...";
    return part;
}

// Entries of the vocabulary under their spelling in the file.
class Spellings {
  public:
    void add(std::string&& spelling, std::int64_t id) {
        check(id >= 0 && id < kLargestVocabulary,
              "model/vocab: '{}' has the id {}, expected [0, {})", shown(spelling), id,
              kLargestVocabulary);
        const auto [at, fresh] = ids_.emplace(std::move(spelling), static_cast<std::int32_t>(id));
        check(fresh, "model/vocab: '{}' appears twice", shown(at->first));
        largest_ = std::max(largest_, at->second);
    }
    std::int32_t id_of(const std::string& spelling, std::string_view whose) const {
        const auto at = ids_.find(spelling);
        check(at != ids_.end(), "{}: '{}' is not in the vocabulary", whose, shown(spelling));
        return at->second;
    }
    const std::int32_t* find(const std::string& spelling) const {
        const auto at = ids_.find(spelling);
        return at == ids_.end() ? nullptr : &at->second;
    }
    std::int32_t largest() const { return largest_; }
    const auto& all() const { return ids_; }

  private:
    std::unordered_map<std::string, std::int32_t> ids_;
    std::int32_t largest_ = -1;
};

// The member `name` of `object`, null if it is not there.
const Json& member(const Json& object, const char* name) {
    static const Json kNull;
    const auto at = object.find(name);
    return at == object.end() ? kNull : *at;
}

std::string text_of(const Json& object, const char* name, std::string_view where) {
    const Json& value = member(object, name);
    check(value.is_string(), "{}: expected a string in '{}', got {}", where, name,
          value.type_name());
    return value.get<std::string>();
}

bool flag_of(const Json& object, const char* name, std::string_view where) {
    const Json& value = member(object, name);
    if (value.is_null()) return false;
    check(value.is_boolean(), "{}: expected true or false in '{}', got {}", where, name,
          value.type_name());
    return value.get<bool>();
}

std::string type_of(const Json& object, std::string_view where) {
    check(object.is_object(), "{}: expected an object, got {}", where, object.type_name());
    return text_of(object, "type", where);
}

const Json& list_of(const Json& object, const char* name, std::string_view where) {
    const Json& value = member(object, name);
    check(value.is_array(), "{}: expected a list in '{}', got {}", where, name, value.type_name());
    return value;
}

[[noreturn]] void refuse(std::string_view where, std::string_view what) {
    fail(
        "{}: {} is not supported\n"
        "  Octavo reads byte-level BPE as Qwen, Llama 3 and GPT-2 have it. Make the token ids with "
        "another program.",
        where, what);
}

// A flag that would change ids.
void expect_off(const Json& object, const char* name, std::string_view where) {
    if (flag_of(object, name, where)) refuse(where, fmt::format("'{}'", name));
}

class Interpreter {
  public:
    Interpreter(const Json& root, const Spellings& spellings) : root_(root), vocab_(spellings) {}

    BpeSpec interpret() {
        for (const char* name : {"truncation", "padding"}) {
            if (!member(root_, name).is_null()) refuse(name, "a setting other than null");
        }
        model();
        tokens();
        added_tokens();
        normalizer(member(root_, "normalizer"));
        const Json& pre = member(root_, "pre_tokenizer");
        pre_tokenizer(pre);
        if (!byte_level_) {
            refuse("pre_tokenizer", pre.is_null() ? "none" : "one that does not end in ByteLevel");
        }
        post_processor(member(root_, "post_processor"));
        decoder(member(root_, "decoder"));
        return std::move(spec_);
    }

  private:
    void model() {
        const Json& model = member(root_, "model");
        // Files of old versions do not name the type.
        if (!model.is_object() || model.contains("type")) {
            const std::string type = type_of(model, "model");
            if (type != "BPE") refuse("model", fmt::format("the type '{}'", shown(type)));
        }
        if (const Json& dropout = member(model, "dropout"); !dropout.is_null() && dropout != 0.0) {
            refuse("model", "'dropout'");
        }
        for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
            const Json& affix = member(model, name);
            if (!affix.is_null() && affix != "") refuse("model", fmt::format("'{}'", name));
        }
        for (const char* streamed : {"vocab", "merges"}) {  // which are null in the tree
            check(model.contains(streamed) && member(model, streamed).is_null(),
                  "model/{}: expected {}, it is missing or a scalar", streamed,
                  streamed[0] == 'v' ? "an object of ids" : "a list of merges");
        }
        expect_off(model, "byte_fallback", "model");
        spec_.ignore_merges = flag_of(model, "ignore_merges", "model");
    }

    void tokens() {
        check(vocab_.largest() >= 0,
              "model/vocab: expected an object of ids, it is missing or empty");
        spec_.tokens.resize(static_cast<std::size_t>(vocab_.largest()) + 1);
        for (const auto& [spelling, id] : vocab_.all()) {
            check(!spelling.empty(), "model/vocab: the token {} is empty", id);
            std::string& token = spec_.tokens[static_cast<std::size_t>(id)];
            check(token.empty(), "model/vocab: two tokens have the id {}, '{}' is one of them", id,
                  shown(spelling));
            token = bytes_of_spelling(spelling).value_or(spelling);
        }
        for (unsigned byte = 0; byte < 256; ++byte) {
            const char c = static_cast<char>(byte);
            const std::string spelling = spelling_of_bytes({&c, 1});
            const std::int32_t* id = vocab_.find(spelling);
            check(id != nullptr,
                  "model/vocab: expected a token for every byte, there is none for 0x{:02X} ('{}')",
                  byte, spelling);
            spec_.byte_ids[byte] = *id;
        }
    }

    void added_tokens() {
        const Json& list = member(root_, "added_tokens");
        if (list.is_null()) return;
        check(list.is_array(), "added_tokens: expected a list, got {}", list.type_name());
        for (const Json& entry : list) {
            check(entry.is_object(), "added_tokens: expected objects, got {}", entry.type_name());
            add(entry);
        }
    }
    void add(const Json& entry) {
        AddedToken token{.content = text_of(entry, "content", "added_tokens"),
                         .special = flag_of(entry, "special", "added_tokens"),
                         .single_word = flag_of(entry, "single_word", "added_tokens"),
                         .lstrip = flag_of(entry, "lstrip", "added_tokens"),
                         .rstrip = flag_of(entry, "rstrip", "added_tokens"),
                         .normalized = flag_of(entry, "normalized", "added_tokens")};
        const std::string name = shown(token.content);
        check(!token.content.empty(), "added_tokens: one has no content");
        const Json& id = member(entry, "id");
        check(id.is_number_integer() && id >= 0 && id < kLargestVocabulary,
              "added_tokens: '{}' has the id {}, expected [0, {})", name, shown(id.dump()),
              kLargestVocabulary);
        token.id = id.get<std::int32_t>();
        const std::int32_t* in_vocab = vocab_.find(token.content);
        check(!in_vocab || *in_vocab == token.id,
              "added_tokens: '{}' has the id {}, and {} in the vocabulary", name, token.id,
              in_vocab ? *in_vocab : 0);
        const auto place = static_cast<std::size_t>(token.id);
        if (place >= spec_.tokens.size()) spec_.tokens.resize(place + 1);
        check(in_vocab || spec_.tokens[place].empty(),
              "added_tokens: '{}' has the id {}, which another token has", name, token.id);
        spec_.tokens[place] = token.content;
        spec_.added.push_back(std::move(token));
    }

    void normalizer(const Json& n) {
        if (n.is_null()) return;
        const std::string type = type_of(n, "normalizer");
        if (type == "Sequence") {
            for (const Json& part : list_of(n, "normalizers", "normalizer")) normalizer(part);
        } else if (type == "NFC") {
            spec_.nfc = true;
        } else {
            refuse("normalizer", fmt::format("'{}'", shown(type)));
        }
    }

    void pre_tokenizer(const Json& p) {
        if (p.is_null()) return;
        constexpr std::string_view kWhere = "pre_tokenizer";
        const std::string type = type_of(p, kWhere);
        if (byte_level_) refuse(kWhere, fmt::format("'{}' after ByteLevel", shown(type)));
        if (type == "Sequence") {
            for (const Json& part : list_of(p, "pretokenizers", kWhere)) pre_tokenizer(part);
        } else if (type == "Split") {
            split(p);
        } else if (type == "Digits") {
            spec_.patterns.emplace_back(flag_of(p, "individual_digits", kWhere) ? R"(\p{N})"
                                                                                : R"(\p{N}+)");
        } else if (type == "ByteLevel") {
            expect_off(p, "add_prefix_space", kWhere);
            const Json& use_regex = member(p, "use_regex");  // true where it is not said
            if (use_regex.is_null() || flag_of(p, "use_regex", kWhere)) {
                spec_.patterns.emplace_back(kGpt2Pattern);
            }
            byte_level_ = true;
        } else {
            refuse(kWhere, fmt::format("'{}'", shown(type)));
        }
        check(spec_.patterns.size() <= 16, "pre_tokenizer: expected at most 16 splits");
    }
    void split(const Json& p) {
        constexpr std::string_view kWhere = "pre_tokenizer";
        const std::string behavior = text_of(p, "behavior", kWhere);
        if (behavior != "Isolated") {
            refuse(kWhere, fmt::format("Split with the behavior '{}'", shown(behavior)));
        }
        const Json& pattern = member(p, "pattern");
        check(pattern.is_object(), "pre_tokenizer: expected an object in 'pattern', got {}",
              pattern.type_name());
        if (pattern.contains("Regex")) {
            spec_.patterns.push_back(text_of(pattern, "Regex", kWhere));
        } else {
            spec_.patterns.push_back(literal(text_of(pattern, "String", kWhere)));
        }
    }
    static std::string literal(const std::string& text) {
        std::string pattern;
        for (const char c : text) {
            if (std::string_view(R"(\^$.|?*+()[]{})").find(c) != std::string_view::npos) {
                pattern += '\\';
            }
            pattern += c;
        }
        return pattern;
    }

    void post_processor(const Json& p) {
        if (p.is_null()) return;
        const std::string type = type_of(p, "post_processor");
        if (type == "Sequence") {
            for (const Json& part : list_of(p, "processors", "post_processor"))
                post_processor(part);
        } else if (type == "TemplateProcessing") {
            read_template(p);
        } else if (type != "ByteLevel") {  // which only moves offsets
            refuse("post_processor", fmt::format("'{}'", shown(type)));
        }
    }
    // What comes before the text is kept; a document's end is the caller's to write.
    void read_template(const Json& p) {
        constexpr std::string_view kWhere = "post_processor";
        for (const Json& piece : list_of(p, "single", kWhere)) {
            check(piece.is_object(), "{}: expected objects in 'single', got {}", kWhere,
                  piece.type_name());
            if (piece.contains("Sequence")) return;
            const Json& special = member(piece, "SpecialToken");
            check(special.is_object(), "{}: expected Sequence or SpecialToken in 'single'", kWhere);
            const std::string name = text_of(special, "id", kWhere);
            const auto token = std::ranges::find(spec_.added, name, &AddedToken::content);
            check(token != spec_.added.end(), "{}: '{}' is not among the added tokens", kWhere,
                  shown(name));
            spec_.begin.push_back(token->id);
        }
        check(false, "{}: the template has no text in it", kWhere);
    }

    void decoder(const Json& d) {
        const std::string type = d.is_null() ? "none" : type_of(d, "decoder");
        if (type == "Sequence") {
            const Json& parts = list_of(d, "decoders", "decoder");
            if (parts.size() == 1) return decoder(parts[0]);
        }
        if (type != "ByteLevel") refuse("decoder", fmt::format("'{}'", shown(type)));
    }

    const Json& root_;
    const Spellings& vocab_;
    BpeSpec spec_;
    bool byte_level_ = false;
};

// The spellings of all merges, two for each, until the vocabulary is known: it may come later.
class MergeSpellings {
  public:
    void add(std::string& text, int depth) {
        if (depth == 1) {  // "a b"
            const auto space = text.find(' ');
            check(space != text.npos && text.find(' ', space + 1) == text.npos,
                  "model/merges: expected two tokens with a space between them, got '{}'",
                  shown(text));
            check(pending_ == 0, "model/merges: expected strings or pairs, got both");
            halves_.push_back(text.substr(0, space));
            halves_.push_back(text.substr(space + 1));
        } else {
            ++pending_;
            halves_.push_back(std::move(text));
        }
    }
    void end_pair() {
        check(pending_ == 2, "model/merges: expected pairs, got a list of {}", pending_);
        pending_ = 0;
    }
    std::vector<Merge> resolve(const Spellings& vocab) const {
        std::vector<Merge> merges;
        merges.reserve(halves_.size() / 2);
        for (std::size_t i = 0; i + 1 < halves_.size(); i += 2) {
            merges.push_back({vocab.id_of(halves_[i], "model/merges"),
                              vocab.id_of(halves_[i + 1], "model/merges"),
                              vocab.id_of(halves_[i] + halves_[i + 1], "model/merges")});
        }
        return merges;
    }

  private:
    std::vector<std::string> halves_;
    int pending_ = 0;
};

}  // namespace

BpeSpec parse_tokenizer_json(std::string_view json) {
    check(json.size() <= kLargestFile, "expected at most {} bytes, got {}", kLargestFile,
          json.size());
    Spellings vocab;
    MergeSpellings merges;
    const Json root = read_json(
        json,
        {{.path = "model/vocab",
          .on_number = [&](std::string& key, std::int64_t id) { vocab.add(std::move(key), id); }},
         {.path = "model/merges",
          .on_string = [&](std::string& text, int depth) { merges.add(text, depth); },
          .on_list_end = [&] { merges.end_pair(); }}});
    BpeSpec spec = Interpreter(root, vocab).interpret();
    spec.merges = merges.resolve(vocab);
    return spec;
}

std::shared_ptr<const BpeTokenizer> load_tokenizer(const std::filesystem::path& path,
                                                   std::string_view end_of_text) {
    const auto file = std::filesystem::is_directory(path) ? path / "tokenizer.json" : path;
    const MappedFile mapped(file);
    const std::string_view json(reinterpret_cast<const char*>(mapped.bytes().data()),
                                mapped.bytes().size());
    try {
        return std::make_shared<BpeTokenizer>(
            parse_tokenizer_json(json),
            fmt::format("xxh64:{:016x}", XXH64(json.data(), json.size(), 0)), end_of_text);
    } catch (const Error& error) {
        throw error.in(file.string());
    }
}

}  // namespace octavo
