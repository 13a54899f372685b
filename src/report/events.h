// TensorBoard event files, written without TensorFlow or protobuf.
//
// A file is a sequence of records: u64 length, u32 masked CRC32C of the length bytes, payload, u32
// masked CRC32C of the payload, all little-endian. The payload is the protobuf message Event.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "report/append_file.h"
#include "report/metrics.h"

namespace octavo {

std::uint32_t crc32c(std::string_view bytes);  // Castagnoli
// The mask of the record format: a CRC stored among the bytes it covers stays a good check.
std::uint32_t masked_crc32c(std::string_view bytes);

// Tags: loss/train, loss/held_out, grad_norm, lr, tokens_per_s, and every `extra` by its own name.
class EventLog {
  public:
    // Starts a new file events.out.tfevents.<seconds>.<host> in `folder`. TensorBoard reads all
    // files of a folder as one run and forgets steps after `resume_step` from the earlier ones.
    EventLog(const std::filesystem::path& folder, double now_s, std::int64_t resume_step);

    void append(const StepMetrics& metrics);
    const std::filesystem::path& path() const { return file_.path(); }

  private:
    AppendFile file_;
};

}  // namespace octavo
