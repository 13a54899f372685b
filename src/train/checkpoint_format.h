// What checkpoint folders are made of, for the code that writes and the code that reads them.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "train/checkpoint.h"

struct XXH64_state_s;

namespace octavo {

inline constexpr const char* kManifestName = "checkpoint.json";

std::string checkpoint_name(std::int64_t step);  // step_0001000

// A State tensor as safetensors: its codes, and scales and groups where it has them.
struct Part {
    enum Kind { codes, scales, groups, values } kind;
    std::string name;
    Type type;  // unscaled
    // Of a stack of experts: which of its matrices.
    std::int64_t matrix = 0;
};

std::vector<Part> parts_of(const State::Entry&);
// Null for `values`, which lie nowhere.
std::byte* part_data(const TensorRef&, Part::Kind);

// Codes have the tensor's name; those of a master weight under a scale are `master/<name>`, for the
// name belongs to its values in the model's files.
std::string saved_name(const State::Entry&);
bool has_values(const State::Entry&);  // such a master weight
// What the model's files hold of a master weight: itself, or its values in f32; of a stack of
// experts each matrix by itself (models/experts.h).
std::vector<Part> model_parts(const State::Entry&);

struct FileSum {
    std::int64_t bytes = 0;
    std::uint64_t xxh64 = 0;

    bool operator==(const FileSum&) const = default;
};

FileSum sum_of(std::span<const std::byte> contents);

// A FileWriter that knows what it wrote.
class SummedFile {
  public:
    explicit SummedFile(const std::filesystem::path& path);

    void write(std::span<const std::byte> bytes);
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
    FileSum close();  // syncs

  private:
    struct FreeHash {
        void operator()(XXH64_state_s* hash) const;
    };
    FileWriter file_;
    std::int64_t bytes_ = 0;
    std::unique_ptr<XXH64_state_s, FreeHash> hash_;
};

struct Manifest {
    CheckpointInfo info;
    std::map<std::string, FileSum> files;  // all but the manifest itself
};

std::string to_text(const Manifest&);
// Throws Error, too, if a file is missing or has another size.
Manifest read_manifest(const std::filesystem::path& checkpoint);
// Throws Error if the contents of a file are not what they were.
void verify_files(const std::filesystem::path& checkpoint, const Manifest&);

}  // namespace octavo
