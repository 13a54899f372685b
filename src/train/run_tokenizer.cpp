#include "train/run_tokenizer.h"

#include "base/error.h"
#include "text/byte_tokenizer.h"
#include "text/tokenizer_folder.h"
#include "text/tokenizer_json.h"

namespace octavo {
namespace {

constexpr const char* kKind = "tokenizer";
constexpr const char* kFingerprint = "tokenizer_fingerprint";
constexpr const char* kEndOfText = "end_of_text";

std::string entry(const std::map<std::string, std::string>& extra, const char* key) {
    const auto at = extra.find(key);
    return at == extra.end() ? "" : at->second;
}

}  // namespace

std::map<std::string, std::string> RunTokenizer::extra() const {
    return {
        {kKind, info.tokenizer}, {kFingerprint, info.fingerprint}, {kEndOfText, info.end_of_text}};
}

void RunTokenizer::check_trained(const std::map<std::string, std::string>& extra,
                                 std::string_view remedy) const {
    const std::string kind = entry(extra, kKind);
    // Checkpoints from before there were other tokenizers have no fingerprint.
    const std::string trained =
        entry(extra, kFingerprint).empty() ? kind : entry(extra, kFingerprint);
    check(trained.empty() || info.fingerprint.empty() || trained == info.fingerprint,
          "the run was trained on tokens of the tokenizer {} ({}), the token files are of {} ({})\n"
          "  {}",
          kind, trained, info.tokenizer, info.fingerprint, remedy);
}

RunTokenizer tokenizer_of(const RunConfig& config) {
    RunTokenizer found;
    std::string first;
    for (const auto* paths : {&config.data.train, &config.data.held_out}) {
        for (const std::string& path : *paths) {
            const TokensInfo info = tokens_info(path);
            if (info.tokenizer.empty()) continue;
            if (first.empty()) {
                first = path;
                found.info = info;
                found.files = read_tokenizer_files(std::filesystem::path(path).parent_path());
            } else if (info.fingerprint != found.info.fingerprint) {
                fail_usage(
                    "data: {} was made with the tokenizer {} ({}), {} with {} ({})\n"
                    "  Make all token files of a run with one tokenizer.",
                    first, found.info.tokenizer, found.info.fingerprint, path, info.tokenizer,
                    info.fingerprint);
            }
        }
    }
    if (found.info.tokenizer == ByteTokenizer().kind()) found.files.clear();  // another's, then
    if (found.info.tokenizer.empty() && !config.model.path.empty()) {
        found.files = read_tokenizer_files(config.model.path);
    }
    return found;
}

std::shared_ptr<const Tokenizer> tokenizer_of_model(
    const std::filesystem::path& folder, const std::map<std::string, std::string>& extra) {
    if (entry(extra, kKind) == ByteTokenizer().kind()) return std::make_shared<ByteTokenizer>();
    if (!std::filesystem::exists(folder / "tokenizer.json")) return nullptr;
    return load_tokenizer(folder, entry(extra, kEndOfText));
}

}  // namespace octavo
