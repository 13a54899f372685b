#include "train/checkpoint_format.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "models/experts.h"

namespace octavo {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "octavo checkpoint";
constexpr int kFormatVersion = 1;
constexpr const char* kDamaged =
    "The checkpoint is damaged: move the folder away to go on from the one before it.";

std::uint64_t hash_of(std::string_view text) { return XXH64(text.data(), text.size(), 0); }

// The manifest starts with a line that vouches for all that follows it.
std::string first_line(std::string_view rest) {
    return fmt::format("{{\"xxh64\": \"{:016x}\",\n", hash_of(rest));
}

std::uint64_t parse_hex(const std::string& text) {
    std::uint64_t value = 0;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, value, 16);
    check(text.size() == 16 && result.ptr == end, "expected 16 hex digits, got '{}'", text);
    return value;
}

Manifest parse_manifest(const std::string& text) {
    const Json j = Json::parse(text);
    check(j.at("format") == kFormat, "expected format '{}', got {}", kFormat,
          j.at("format").dump());
    check(j.at("version") == kFormatVersion,
          "expected version {}, got {}\n  Use the version of octavo that wrote it ({}).",
          kFormatVersion, j.at("version").dump(), j.at("octavo").dump());
    Manifest m;
    m.info = {.step = j.at("step").get<std::int64_t>(),
              .tokens = j.at("tokens").get<std::int64_t>(),
              .cursor = j.at("cursor").get<std::int64_t>(),
              .recipe = j.at("recipe").get<std::string>(),
              .octavo = j.at("octavo").get<std::string>(),
              .extra = j.at("extra").get<std::map<std::string, std::string>>()};
    for (const auto& [name, file] : j.at("files").items()) {
        check(!name.empty() && name != "." && name != ".." && name.find('/') == name.npos,
              "expected the name of a file beside it, got '{}'", name);
        m.files[name] = {file.at("bytes").get<std::int64_t>(),
                         parse_hex(file.at("xxh64").get<std::string>())};
    }
    return m;
}

}  // namespace

std::string checkpoint_name(std::int64_t step) { return fmt::format("step_{:07}", step); }

bool has_values(const State::Entry& e) {
    return state_role(e.name) == "weight" && e.type.scaling != kUnscaled;
}

std::string saved_name(const State::Entry& e) {
    return has_values(e) ? "master/" + e.name : e.name;
}

std::vector<Part> parts_of(const State::Entry& e) {
    const Type& t = e.type;
    const std::string name = saved_name(e);
    std::vector<Part> parts{{Part::codes, name, {t.dtype, t.shape}}};
    if (const auto n = scale_count(t); n > 0) {
        parts.push_back({Part::scales, name + ".scale", {t.scaling.scale_dtype, {n}}});
    }
    if (const auto n = group_bytes(t); n > 0) {
        parts.push_back({Part::groups, name + ".groups", {Dtype::e8m0, {n}}});
    }
    return parts;
}

std::vector<Part> model_parts(const State::Entry& e) {
    check(!has_values(e) || e.type.scaling == kPerTensor,
          "'{}': a master weight has one scale or none, got {}", e.name, to_string(e.type));
    const auto kind = has_values(e) ? Part::values : Part::codes;
    const Dtype dtype = has_values(e) ? Dtype::f32 : e.type.dtype;
    std::vector<Part> parts;
    for (StoredParameter& p : stored_parameters(e.name, e.type.shape)) {
        parts.push_back({kind, std::move(p.name), {dtype, p.shape}, std::ssize(parts)});
    }
    return parts;
}

std::byte* part_data(const TensorRef& t, Part::Kind kind) {
    switch (kind) {
        case Part::codes:
            return t.as<std::byte>();
        case Part::scales:
            return static_cast<std::byte*>(t.scale);
        case Part::groups:
            return reinterpret_cast<std::byte*>(t.groups);
        case Part::values:
            break;
    }
    return nullptr;
}

FileSum sum_of(std::span<const std::byte> contents) {
    return {static_cast<std::int64_t>(contents.size()), XXH64(contents.data(), contents.size(), 0)};
}

SummedFile::SummedFile(const std::filesystem::path& path)
    : file_(path), hash_(XXH64_createState()) {
    XXH64_reset(hash_.get(), 0);
}

void SummedFile::FreeHash::operator()(XXH64_state_s* hash) const { XXH64_freeState(hash); }

void SummedFile::write(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    file_.write(bytes);
    bytes_ += static_cast<std::int64_t>(bytes.size());
    XXH64_update(hash_.get(), bytes.data(), bytes.size());
}

FileSum SummedFile::close() {
    file_.close();
    return {bytes_, XXH64_digest(hash_.get())};
}

std::string to_text(const Manifest& m) {
    Json files = Json::object();
    for (const auto& [name, sum] : m.files) {
        files[name] = {{"bytes", sum.bytes}, {"xxh64", fmt::format("{:016x}", sum.xxh64)}};
    }
    const Json j = {
        {"format", kFormat},       {"version", kFormatVersion}, {"octavo", m.info.octavo},
        {"step", m.info.step},     {"tokens", m.info.tokens},   {"cursor", m.info.cursor},
        {"recipe", m.info.recipe}, {"extra", m.info.extra},     {"files", std::move(files)}};
    const std::string rest = j.dump(1).substr(2) + "\n";  // without "{\n": the first line has it
    return first_line(rest) + rest;
}

Manifest read_manifest(const std::filesystem::path& checkpoint) {
    const auto path = checkpoint / kManifestName;
    const std::string text = read_file(path);
    const std::string_view rest =
        std::string_view(text).substr(std::min(text.size(), first_line("").size()));
    check(text == first_line(rest) + std::string(rest),
          "{}: expected a manifest as octavo wrote it, got a truncated or changed one\n  {}",
          path.string(), kDamaged);
    Manifest m;
    try {
        m = parse_manifest(text);
    } catch (const nlohmann::json::exception& e) {
        fail("{}: expected a manifest of version {}, got: {}\n  {}", path.string(), kFormatVersion,
             e.what(), kDamaged);
    } catch (const Error& e) {
        throw e.in(path.string());
    }
    for (const auto& [name, sum] : m.files) {
        const auto file = checkpoint / name;
        std::error_code error;
        const auto bytes = std::filesystem::file_size(file, error);
        check(!error, "{}: {}\n  {}", file.string(), error.message(), kDamaged);
        check(bytes == static_cast<std::uint64_t>(sum.bytes), "{}: expected {} bytes, got {}\n  {}",
              file.string(), sum.bytes, bytes, kDamaged);
    }
    return m;
}

void verify_files(const std::filesystem::path& checkpoint, const Manifest& m) {
    for (const auto& [name, sum] : m.files) {
        const MappedFile file(checkpoint / name);
        const FileSum got = sum_of(file.bytes());
        check(got == sum, "{}: expected {} bytes with xxh64 {:016x}, got {} with {:016x}\n  {}",
              file.path().string(), sum.bytes, sum.xxh64, got.bytes, got.xxh64, kDamaged);
    }
}

}  // namespace octavo
