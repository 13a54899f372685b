// Runs a fuzz target without libFuzzer, which g++ lacks: replays a corpus, then mutates it.
//
// To add a target: write <name>_fuzz.cpp with LLVMFuzzerTestOneInput (fuzz.h) and a "Build with:"
// line of its sources and libraries; put a few inputs into corpus/<name>/ (and tokens of the format
// into <name>.dict, if it has any); add octavo_fuzz(<name> <libraries>) to tests/CMakeLists.txt.
//
// A target catches octavo::Error, the answer to bad input. Anything else that leaves it, a
// sanitizer's abort, a signal or an input that takes longer than kSlowest, is a finding: the input
// is written to finding-<name>-<seed> in the current folder, and given as an argument it replays.
//
//     octavo_fuzz_<name> [-dict=FILE] [corpus folder or input file]...
//     OCTAVO_FUZZ_SECONDS=2   how long to mutate after the replay
//     OCTAVO_FUZZ_SEED=1
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "fuzz.h"

// Only there in builds with AddressSanitizer. UndefinedBehaviorSanitizer has another way.
extern "C" void __sanitizer_set_death_callback(void (*)()) __attribute__((weak));
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

namespace {

constexpr unsigned kSlowest = 20;        // seconds an input
constexpr std::size_t kLongest = 16384;  // bytes of a mutated input

std::string finding;              // where to write an offending input
std::vector<std::uint8_t> input;  // the one being run

// Called from signal handlers: system calls only.
void save_input() {
    const int fd = open(finding.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    const bool saved = fd >= 0 && write(fd, input.data(), input.size()) >= 0;
    const char* text = saved ? "fuzz: the input is in " : "fuzz: cannot write ";
    for (const char* part : {text, finding.c_str(), "\n"}) {
        if (write(STDERR_FILENO, part, std::char_traits<char>::length(part)) < 0) return;
    }
}

void on_signal(int) {
    save_input();
    _exit(1);
}

void run_input() {
    const std::vector<std::uint8_t> exact(input);  // no spare capacity that would hide an overrun
    alarm(kSlowest);
    try {
        LLVMFuzzerTestOneInput(exact.data(), exact.size());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "fuzz: an exception left the target: %s\n", error.what());
        on_signal(0);
    } catch (...) {
        std::fprintf(stderr, "fuzz: an unknown exception left the target\n");
        on_signal(0);
    }
    alarm(0);
}

std::vector<std::uint8_t> read_bytes(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

// libFuzzer's dictionaries: lines of "token" or name="token", with \" \\ and \xAB escapes.
std::vector<std::string> read_dictionary(const std::string& path) {
    std::vector<std::string> tokens;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
        const auto open_quote = line.find('"'), close_quote = line.rfind('"');
        if (line.starts_with('#') || open_quote == close_quote) continue;
        std::string& token = tokens.emplace_back();
        for (std::size_t i = open_quote + 1; i < close_quote; ++i) {
            if (line[i] == '\\' && line[i + 1] == 'x') {
                token += static_cast<char>(std::stoi(line.substr(i + 2, 2), nullptr, 16));
                i += 3;
            } else {
                if (line[i] == '\\') ++i;
                token += line[i];
            }
        }
    }
    return tokens;
}

class Mutator {
  public:
    Mutator(std::vector<std::vector<std::uint8_t>> corpus, std::vector<std::string> tokens,
            std::uint64_t seed)
        : corpus_(std::move(corpus)), tokens_(std::move(tokens)), random_(seed) {
        if (corpus_.empty()) corpus_.emplace_back();
    }

    void next(std::vector<std::uint8_t>& bytes) {
        bytes = corpus_[below(corpus_.size())];
        for (std::size_t n = 1 + below(6); n > 0; --n) mutate(bytes);
        if (bytes.size() > kLongest) bytes.resize(kLongest);
    }

  private:
    std::size_t below(std::size_t n) { return random_() % n; }

    template <class Range>
    void insert(std::vector<std::uint8_t>& bytes, const Range& what) {
        const std::vector<std::uint8_t> copy(what.begin(), what.end());  // may be part of `bytes`
        const std::size_t at = below(bytes.size() + 1);
        if (below(2)) {  // over what is there
            bytes.resize(std::max(bytes.size(), at + copy.size()));
            std::ranges::copy(copy, bytes.begin() + static_cast<std::ptrdiff_t>(at));
        } else {
            bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), copy.begin(), copy.end());
        }
    }

    std::span<const std::uint8_t> block(const std::vector<std::uint8_t>& bytes) {
        const std::size_t at = below(bytes.size());
        return std::span(bytes).subspan(at,
                                        1 + below(std::min<std::size_t>(bytes.size() - at, 64)));
    }

    void mutate(std::vector<std::uint8_t>& bytes) {
        static constexpr std::int64_t kEdges[] = {
            0,     1,     -1,        127,       128,        255,       256,       32767,
            65535, 65536, INT32_MAX, INT32_MIN, UINT32_MAX, 100000000, INT64_MAX, INT64_MIN};
        if (bytes.empty()) bytes.push_back(static_cast<std::uint8_t>(random_()));
        switch (below(tokens_.empty() ? 7 : 9)) {
            case 0:
                bytes[below(bytes.size())] ^= static_cast<std::uint8_t>(1u << below(8));
                break;
            case 1:
                bytes[below(bytes.size())] = static_cast<std::uint8_t>(random_());
                break;
            case 2: {  // an edge value, binary or as text
                const std::int64_t value = kEdges[below(std::size(kEdges))];
                const auto* raw = reinterpret_cast<const std::uint8_t*>(&value);
                if (below(2)) {
                    insert(bytes, std::span(raw, std::size_t{1} << below(4)));
                } else {
                    insert(bytes, std::to_string(value));
                }
                break;
            }
            case 3:
                bytes.resize(below(bytes.size() + 1));
                break;
            case 4: {
                const auto erased = block(bytes);
                const auto at = bytes.begin() + (erased.data() - bytes.data());
                bytes.erase(at, at + static_cast<std::ptrdiff_t>(erased.size()));
                break;
            }
            case 5:
                insert(bytes, block(bytes));
                break;
            case 6: {  // the end of another input
                const auto& other = corpus_[below(corpus_.size())];
                bytes.resize(below(bytes.size() + 1));
                const std::size_t from = below(other.size() + 1);
                bytes.insert(bytes.end(), other.begin() + static_cast<std::ptrdiff_t>(from),
                             other.end());
                break;
            }
            default:
                insert(bytes, tokens_[below(tokens_.size())]);
        }
    }

    std::vector<std::vector<std::uint8_t>> corpus_;
    std::vector<std::string> tokens_;
    std::mt19937_64 random_;
};

std::string setting(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value ? value : otherwise;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string seed = setting("OCTAVO_FUZZ_SEED", "1");
    const std::string target = std::filesystem::path(argv[0]).filename().string();
    finding = "finding-" + target + "-" + seed;
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(save_input);
    for (int s : {SIGABRT, SIGALRM, SIGFPE}) signal(s, on_signal);
    // Sanitizers report these better than a handler could.
    if (!__sanitizer_set_death_callback) {
        for (int s : {SIGSEGV, SIGBUS, SIGILL}) signal(s, on_signal);
    }

    std::vector<std::filesystem::path> paths;
    std::vector<std::string> tokens;
    for (const std::string argument : std::span(argv + 1, static_cast<std::size_t>(argc - 1))) {
        if (argument.starts_with("-dict=")) {
            tokens = read_dictionary(argument.substr(6));
        } else if (std::filesystem::is_directory(argument)) {
            for (const auto& file : std::filesystem::directory_iterator(argument)) {
                paths.push_back(file.path());
            }
        } else if (std::filesystem::is_regular_file(argument)) {
            paths.emplace_back(argument);
        } else {
            std::fprintf(stderr, "fuzz: expected a folder or a file, got %s\n", argument.c_str());
            return 2;
        }
    }
    std::ranges::sort(paths);  // a directory's order is not the same everywhere

    std::vector<std::vector<std::uint8_t>> corpus;
    for (const auto& path : paths) {
        input = corpus.emplace_back(read_bytes(path));
        run_input();
    }

    using Clock = std::chrono::steady_clock;
    const std::chrono::duration<double> budget(std::stod(setting("OCTAVO_FUZZ_SECONDS", "2")));
    const auto start = Clock::now();
    Mutator mutator(std::move(corpus), std::move(tokens), std::stoull(seed));
    std::uint64_t runs = 0;
    for (; Clock::now() - start < budget; ++runs) {
        mutator.next(input);
        run_input();
    }
    std::printf("%s: replayed %zu inputs, ran %llu mutations, seed %s: nothing found\n",
                target.c_str(), paths.size(), static_cast<unsigned long long>(runs), seed.c_str());
    return 0;
}
