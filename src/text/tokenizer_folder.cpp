#include "text/tokenizer_folder.h"

#include <string_view>
#include <system_error>

#include "base/file.h"

namespace octavo {
namespace {

constexpr std::string_view kFiles[] = {"tokenizer.json", "tokenizer_config.json",
                                       "special_tokens_map.json", "chat_template.jinja"};

}  // namespace

std::map<std::string, std::string> read_tokenizer_files(const std::filesystem::path& folder) {
    std::map<std::string, std::string> files;
    if (!std::filesystem::exists(folder / kFiles[0])) return files;
    for (const std::string_view name : kFiles) {
        if (std::filesystem::is_regular_file(folder / name)) {
            files.emplace(name, read_file(folder / name));
        }
    }
    return files;
}

std::filesystem::path first_replaced(const std::filesystem::path& folder,
                                     const std::map<std::string, std::string>& files) {
    if (files.empty()) return {};
    for (const std::string_view name : kFiles) {
        const auto path = folder / name;
        if (!std::filesystem::exists(path)) continue;
        const auto file = files.find(std::string(name));
        if (file == files.end() || read_file(path) != file->second) return path;
    }
    return {};
}

void write_tokenizer_files(const std::filesystem::path& folder,
                           const std::map<std::string, std::string>& files) {
    if (files.empty()) return;
    for (const std::string_view name : kFiles) {
        const auto file = files.find(std::string(name));
        std::error_code ignored;
        if (file == files.end()) {
            std::filesystem::remove(folder / name, ignored);
        } else {
            write_file_atomically(folder / name, file->second);
        }
    }
}

}  // namespace octavo
