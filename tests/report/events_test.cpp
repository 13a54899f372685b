#include "report/events.h"

#include <bit>
#include <cstring>
#include <map>

#include "base/file.h"
#include "sample.h"

namespace octavo {
namespace {

// An independent reader: CRC bit by bit, and a generic protobuf walk.
std::uint32_t slow_crc32c(const std::string& bytes) {
    std::uint32_t crc = 0xffffffff;
    for (const char byte : bytes) {
        crc ^= static_cast<unsigned char>(byte);
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) * 0x82f63b78u);
    }
    return ~crc;
}

std::uint32_t unmask(std::uint32_t masked) { return std::rotl(masked - 0xa282ead8u, 15); }

template <class T>
T take(std::string& bytes) {
    T value;
    if (bytes.size() < sizeof(T)) throw std::runtime_error("truncated");
    std::memcpy(&value, bytes.data(), sizeof(T));
    bytes.erase(0, sizeof(T));
    return value;
}

std::string take_bytes(std::string& bytes, std::uint64_t size) {
    if (bytes.size() < size) throw std::runtime_error("truncated");
    std::string out = bytes.substr(0, size);
    bytes.erase(0, size);
    return out;
}

std::uint64_t take_varint(std::string& bytes) {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        const auto byte = take<unsigned char>(bytes);
        value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
    }
}

// Field number to the raw bytes of its values; varints as 8 bytes.
using Message = std::multimap<std::uint64_t, std::string>;

Message parse_message(std::string bytes) {
    Message message;
    while (!bytes.empty()) {
        const std::uint64_t key = take_varint(bytes);
        std::string value;
        switch (key & 7) {
            case 0: {
                const std::uint64_t number = take_varint(bytes);
                value.assign(reinterpret_cast<const char*>(&number), 8);
                break;
            }
            case 1:
                value = take_bytes(bytes, 8);
                break;
            case 2:
                value = take_bytes(bytes, take_varint(bytes));
                break;
            case 5:
                value = take_bytes(bytes, 4);
                break;
            default:
                throw std::runtime_error("unknown wire type");
        }
        message.emplace(key >> 3, value);
    }
    return message;
}

std::string field(const Message& message, std::uint64_t number) {
    EXPECT_EQ(message.count(number), 1u) << "field " << number;
    const auto found = message.find(number);
    return found == message.end() ? std::string(8, '\0') : found->second;
}

template <class T>
T number(std::string bytes) {
    return take<T>(bytes);
}

std::vector<Message> read_events(const std::filesystem::path& path) {
    std::vector<Message> events;
    std::string bytes = read_file(path);
    while (!bytes.empty()) {
        const std::string head = bytes.substr(0, 8);
        const auto size = take<std::uint64_t>(bytes);
        EXPECT_EQ(unmask(take<std::uint32_t>(bytes)), slow_crc32c(head));
        const std::string payload = take_bytes(bytes, size);
        EXPECT_EQ(unmask(take<std::uint32_t>(bytes)), slow_crc32c(payload));
        events.push_back(parse_message(payload));
    }
    return events;
}

std::map<std::string, float> scalars(const Message& event) {
    std::map<std::string, float> out;
    const Message summary = parse_message(field(event, 5));
    for (const auto& [number_, bytes] : summary) {
        EXPECT_EQ(number_, 1u);
        const Message value = parse_message(bytes);
        out[field(value, 1)] = number<float>(field(value, 2));
    }
    return out;
}

TEST(Crc32c, KnownAnswers) {
    EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
    EXPECT_EQ(masked_crc32c("123456789"), 0xc78ab0e5u);
    EXPECT_EQ(crc32c(""), 0u);
    EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);    // RFC 3720, B.4
    EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);  // RFC 3720, B.4
}

TEST(EventLog, ADecoderReadsBackWhatWasWritten) {
    const TempFolder folder;
    EventLog log(folder.path(), 1760000000.25, 49);
    StepMetrics plain = sample_step(51), evaluated = sample_step(50);
    evaluated.extra = {{"amax/x", 0.5}};
    log.append(evaluated);
    plain.loss = std::nan("");
    log.append(plain);

    EXPECT_TRUE(log.path().filename().string().starts_with("events.out.tfevents.1760000000."));
    const std::vector<Message> events = read_events(log.path());
    ASSERT_EQ(events.size(), 4u);
    EXPECT_EQ(number<double>(field(events[0], 1)), 1760000000.25);
    EXPECT_EQ(field(events[0], 3), "brain.Event:2");

    // A start of step 50: readers forget what an earlier file says from there on.
    EXPECT_EQ(number<std::int64_t>(field(events[1], 2)), 50);
    EXPECT_EQ(number<std::int64_t>(field(parse_message(field(events[1], 7)), 1)), 1);

    EXPECT_EQ(number<double>(field(events[2], 1)), evaluated.time_s);
    EXPECT_EQ(number<std::int64_t>(field(events[2], 2)), 50);
    EXPECT_EQ(events[2].count(3), 0u);
    const std::map<std::string, float> expected = {
        {"loss/train", static_cast<float>(evaluated.loss)},
        {"loss/held_out", static_cast<float>(*evaluated.held_out_loss)},
        {"grad_norm", static_cast<float>(evaluated.grad_norm)},
        {"lr", static_cast<float>(evaluated.lr)},
        {"tokens_per_s", static_cast<float>(evaluated.tokens_per_s)},
        {"amax/x", 0.5f},
    };
    EXPECT_EQ(scalars(events[2]), expected);

    const auto last = scalars(events[3]);
    EXPECT_EQ(last.count("loss/held_out"), 0u);
    EXPECT_TRUE(std::isnan(last.at("loss/train")));
}

TEST(EventLog, ARestartWithinASecondGetsItsOwnFile) {
    const TempFolder folder;
    const EventLog first(folder.path(), 1760000000, -1), second(folder.path(), 1760000000, -1);
    EXPECT_LT(first.path(), second.path());
    EXPECT_EQ(read_events(first.path()).size(), 2u);
    EXPECT_EQ(number<std::int64_t>(field(read_events(first.path())[1], 2)), 0);
}

TEST(EventLog, AMissingFolderIsAnError) {
    EXPECT_NE(error_of([] { EventLog("/nowhere", 0, -1); }).find("cannot open for appending"),
              std::string::npos);
}

}  // namespace
}  // namespace octavo
