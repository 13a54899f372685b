#include "io/text_source.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "io/json_text.h"

namespace octavo {
namespace {

constexpr std::size_t kMinBlock = std::size_t{4} << 10, kMaxBlock = std::size_t{64} << 10;

TextFormat format_by_name(std::filesystem::path path) {
    if (path.extension() == ".zst") path.replace_extension();
    const std::string extension = path.extension().string();
    const bool json = extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
    return json ? TextFormat::jsonl : TextFormat::text;
}

std::string_view without_line_break(std::string_view line) {
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

bool is_blank(std::string_view line) {
    return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace

TextSource::TextSource(const std::filesystem::path& path, const TextOptions& options)
    : options_(options), lines_(path) {
    if (options_.format == TextFormat::automatic) options_.format = format_by_name(path);
    block_ = std::clamp(static_cast<std::size_t>(file().bytes_total()) / 256, kMinBlock, kMaxBlock);
}

bool TextSource::next(std::string& document) {
    for (Raw raw; next_raw(raw);) {
        try {
            extract(raw, options_);
        } catch (const Error& error) {
            throw error.in(fmt::format("{}: line {}", file().path().string(), raw.line));
        }
        document.swap(raw.text);
        if (!document.empty()) return true;
        ++empty_documents_;
    }
    return false;
}

bool TextSource::next_raw(Raw& raw) {
    const bool found =
        options_.format == TextFormat::jsonl ? next_line(raw.text) : next_block(raw.text);
    raw.line = lines_.line();
    return found;
}

void TextSource::extract(Raw& raw, const TextOptions& options) {
    if (options.format == TextFormat::jsonl) raw.text = json_text_field(raw.text, options.column);
}

bool TextSource::next_line(std::string& line) {
    std::string_view next;
    do {
        next = lines_.next(options_.max_bytes + 1);
        if (next.empty()) return false;
        check(next.size() <= options_.max_bytes,
              "{}: line {} is longer than {} bytes\n  Is this a JSONL file, one object a line?",
              file().path().c_str(), lines_.line(), options_.max_bytes);
    } while (is_blank(next));
    line = next;
    return true;
}

bool TextSource::next_block(std::string& document) {
    document.clear();
    const std::size_t longest = 4 * block_;
    while (true) {
        const std::string_view line = lines_.next(separated_ ? options_.max_bytes + 1 : longest);
        if (line.empty()) return !document.empty();
        const bool whole_line = std::exchange(at_line_begin_, line.ends_with('\n'));
        if (whole_line && !options_.separator.empty() &&
            without_line_break(line) == options_.separator) {
            separated_ = true;
            return true;
        }
        check(document.size() + line.size() <= options_.max_bytes,
              "{}: the document that ends in line {} is longer than {} bytes\n"
              "  Put a line '{}' between documents.",
              file().path().c_str(), lines_.line(), options_.max_bytes, options_.separator);
        document += line;
        if (separated_) continue;
        if (document.size() >= longest || (document.size() >= block_ && is_blank(line)))
            return true;
    }
}

}  // namespace octavo
