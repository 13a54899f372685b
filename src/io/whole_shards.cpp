#include "io/whole_shards.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

fs::path part(const fs::path& folder) { return folder / "tokens.part.json"; }

Json to_json(const std::vector<SplitCount>& shards) {
    Json list = Json::array();
    for (const SplitCount& s : shards) list.push_back({s.documents, s.tokens, s.learned});
    return list;
}

std::vector<SplitCount> counts(const Json& list) {
    std::vector<SplitCount> shards;
    for (const Json& s : list) {
        const auto at = [&](int i) {
            return s.at(static_cast<std::size_t>(i)).get<std::int64_t>();
        };
        shards.push_back({.documents = at(0), .tokens = at(1), .learned = at(2)});
    }
    return shards;
}

}  // namespace

std::string describe_call(const TokenizeOptions& o) {
    Json call = {o.tokenizer->fingerprint(),
                 o.tokenizer->end_of_text().value_or(-1),
                 static_cast<int>(o.records),
                 static_cast<int>(o.format),
                 o.shard_tokens,
                 fmt::format("{}", o.held_out),
                 o.seed,
                 static_cast<int>(o.text.format),
                 o.text.column,
                 o.text.separator,
                 o.prompt,
                 o.completion,
                 o.messages};
    if (o.chat) {
        const std::vector<Message> chat{{"user", "u"}, {"assistant", "a"}};
        call.push_back(o.chat->text(chat, false));
    }
    for (const fs::path& path : o.inputs) {
        std::error_code none;  // a pipe has no size, and no second reading either
        const auto time = fs::last_write_time(path, none).time_since_epoch().count();
        call.push_back({path.string(), fs::file_size(path, none), time});
    }
    return call.dump(-1, ' ', false, Json::error_handler_t::replace);  // paths are any bytes
}

std::optional<WholeShards> read_whole_shards(const fs::path& folder) {
    if (!fs::exists(part(folder))) return {};
    try {
        const Json j = Json::parse(read_file(part(folder)));
        return WholeShards{.call = j.at("call").get<std::string>(),
                           .train = counts(j.at("train")),
                           .held_out = counts(j.at("held_out"))};
    } catch (const std::exception&) {
        return {};
    }
}

void write_whole_shards(const fs::path& folder, const WholeShards& shards) {
    const Json j = {{"call", shards.call},
                    {"train", to_json(shards.train)},
                    {"held_out", to_json(shards.held_out)}};
    write_file_atomically(part(folder), j.dump(1) + "\n");
}

void remove_whole_shards(const fs::path& folder) {
    std::error_code ignored;
    fs::remove(part(folder), ignored);
}

}  // namespace octavo
