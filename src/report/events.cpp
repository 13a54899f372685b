#include "report/events.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cmath>
#include <string>

#include "base/error.h"

namespace octavo {
namespace {

// Of protobuf, just the wire types that Event needs.

template <class T>
void append_little_endian(std::string& out, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
        out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
    }
}

void append_varint(std::string& out, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>((value & 0x7f) | 0x80));
    out.push_back(static_cast<char>(value));
}

enum class Wire : std::uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

void append_key(std::string& out, std::uint32_t field, Wire wire) {
    append_varint(out, field << 3 | static_cast<std::uint32_t>(wire));
}

void append_double(std::string& out, std::uint32_t field, double value) {
    append_key(out, field, Wire::fixed64);
    append_little_endian(out, std::bit_cast<std::uint64_t>(value));
}

void append_float(std::string& out, std::uint32_t field, float value) {
    append_key(out, field, Wire::fixed32);
    append_little_endian(out, std::bit_cast<std::uint32_t>(value));
}

void append_int(std::string& out, std::uint32_t field, std::int64_t value) {
    append_key(out, field, Wire::varint);
    append_varint(out, static_cast<std::uint64_t>(value));
}

void append_bytes(std::string& out, std::uint32_t field, std::string_view bytes) {
    append_key(out, field, Wire::bytes);
    append_varint(out, bytes.size());
    out.append(bytes);
}

// Field numbers: tensorflow/core/util/event.proto and tensorflow/core/framework/summary.proto.

std::string event(double time_s, std::int64_t step) {
    std::string out;
    append_double(out, 1, time_s);
    append_int(out, 2, step);
    return out;
}

std::string version_event(double time_s) {
    std::string out = event(time_s, 0);
    append_bytes(out, 3, "brain.Event:2");
    return out;
}

// SessionLog{status: START}: readers drop what earlier files hold from this step on.
std::string restart_event(double time_s, std::int64_t step) {
    std::string session;
    append_int(session, 1, 1);
    std::string out = event(time_s, step);
    append_bytes(out, 7, session);
    return out;
}

void append_value(std::string& summary, std::string_view tag, double number) {
    std::string value;
    append_bytes(value, 1, tag);
    append_float(value, 2, static_cast<float>(number));
    append_bytes(summary, 1, value);
}

std::string record(std::string_view payload) {
    std::string out;
    append_little_endian(out, static_cast<std::uint64_t>(payload.size()));
    append_little_endian(out, masked_crc32c(out));
    out.append(payload);
    append_little_endian(out, masked_crc32c(payload));
    return out;
}

// A run that restarts within a second must not write into the file of its predecessor.
std::filesystem::path new_file(const std::filesystem::path& folder, double now_s) {
    std::array<char, 256> host{};
    if (gethostname(host.data(), host.size() - 1) != 0) host = {"localhost"};
    for (auto seconds = static_cast<std::int64_t>(now_s);; ++seconds) {
        auto path = folder / fmt::format("events.out.tfevents.{:010}.{}", seconds, host.data());
        if (!std::filesystem::exists(path)) return path;
    }
}

constexpr auto kCrcTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t crc = i;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0u);
        table[i] = crc;
    }
    return table;
}();

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
    std::uint32_t crc = ~0u;
    for (const char byte : bytes) {
        crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xff];
    }
    return ~crc;
}

std::uint32_t masked_crc32c(std::string_view bytes) {
    return std::rotr(crc32c(bytes), 15) + 0xa282ead8u;
}

EventLog::EventLog(const std::filesystem::path& folder, double now_s, std::int64_t resume_step)
    : file_(new_file(folder, now_s)) {
    file_.append(record(version_event(now_s)));
    file_.append(record(restart_event(now_s, resume_step + 1)));
}

void EventLog::append(const StepMetrics& metrics) {
    std::string summary;
    append_value(summary, "loss/train", metrics.loss);
    if (metrics.held_out_loss) append_value(summary, "loss/held_out", *metrics.held_out_loss);
    append_value(summary, "grad_norm", metrics.grad_norm);
    append_value(summary, "lr", metrics.lr);
    append_value(summary, "tokens_per_s", metrics.tokens_per_s);
    for (const auto& [tag, value] : metrics.extra) append_value(summary, tag, value);
    std::string payload = event(metrics.time_s, metrics.step);
    append_bytes(payload, 5, summary);
    file_.append(record(payload));
}

}  // namespace octavo
