// Files: read whole, mapped, or written so that a crash leaves either the old file or the new one.
#pragma once

#include <cstddef>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>

namespace octavo {

// A file mapped read-only. Empty files map to an empty span. Throws Error naming the path.
class MappedFile {
  public:
    explicit MappedFile(const std::filesystem::path& path);
    ~MappedFile();
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;

    std::span<const std::byte> bytes() const { return bytes_; }
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
    std::span<const std::byte> bytes_;
};

// Bytes of a mapped file that will be read soon: asks the disk for them and does not wait. A copy
// out of a mapping that nobody announced waits for every few pages.
void announce(std::span<const std::byte> bytes);

// A file of more than `at_most` bytes is an Error.
std::string read_file(const std::filesystem::path& path,
                      std::size_t at_most = std::numeric_limits<std::size_t>::max());

// Sequential writer. Every call checks what the system said: a full disk is an Error that names the
// file and the bytes written so far, never a short file. `close` syncs to the disk; a destructor
// without close leaves an incomplete file, which readers must be able to tell.
class FileWriter {
  public:
    explicit FileWriter(const std::filesystem::path& path);  // creates or truncates
    ~FileWriter();
    FileWriter(const FileWriter&) = delete;
    FileWriter& operator=(const FileWriter&) = delete;

    void write(std::span<const std::byte> bytes);
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
    void close();

  private:
    std::filesystem::path path_;
    int fd_ = -1;
    std::size_t written_ = 0;
};

// Writes `path`.tmp, syncs it, renames it over `path` and syncs the directory.
void write_file_atomically(const std::filesystem::path& path, std::string_view contents);

// Makes renames and creations in `directory` durable.
void sync_directory(const std::filesystem::path& directory);

}  // namespace octavo
