// Runs the program itself, as a user does.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "test_backend.h"

extern char** environ;

namespace octavo::test {

struct Finished {
    int exit_code = -1;  // 128 + signal if killed
    std::string text;    // stdout and stderr
};

inline std::string slurp(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// The program where it was built, or where OCTAVO_PROGRAM says it is now.
inline const char* program_path() {
    const char* moved = std::getenv("OCTAVO_PROGRAM");
    return moved ? moved : OCTAVO_BINARY;
}

// The program as a child process; its output goes to a file.
class Process {
  public:
    Process(const std::vector<std::string>& args, std::filesystem::path log)
        : log_(std::move(log)) {
        std::vector<std::string> words{program_path()};
        words.insert(words.end(), args.begin(), args.end());
        std::vector<char*> argv;
        for (std::string& word : words) argv.push_back(word.data());
        argv.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, log_.c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                         0644);
        posix_spawn_file_actions_adddup2(&actions, 1, 2);
        const int error = posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        // Without a child there must be nothing to signal or wait for: -1 would mean everybody.
        if (error != 0) throw std::system_error(error, std::generic_category(), words[0]);
    }

    void send(int signal) const { kill(pid_, signal); }
    std::string log() const { return slurp(log_); }
    // Half a minute at most.
    bool wait_for_text(const std::string& text, unsigned poll_us = 10000) const {
        for (unsigned us = 0; us < 30'000'000; us += poll_us) {
            if (log().find(text) != std::string::npos) return true;
            usleep(poll_us);
        }
        return false;
    }
    Finished wait() const {
        int status = 0;
        waitpid(pid_, &status, 0);
        return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), log()};
    }

  private:
    std::filesystem::path log_;
    pid_t pid_ = -1;
};

inline Finished octavo(const std::filesystem::path& folder, const std::vector<std::string>& args) {
    return Process(args, folder / "log").wait();
}

// A folder with a small data set and a run file for a tiny model, which trains on the backend under
// test. A GPU adds up in one order only where it is told to.
class Workspace : public testing::Test {
  protected:
    void SetUp() override {
        skip_without_backend();
        std::string pattern = (std::filesystem::temp_directory_path() / "octavo-XXXXXX").string();
        folder_ = mkdtemp(pattern.data());
        std::ofstream text(folder_ / "text.txt");
        for (int i = 0; i < 3000; ++i) {
            text << "line " << i << ": the quick brown fox jumps over " << i % 7 << " lazy dogs\n";
            if (i % 20 == 0) text << "\n";
        }
        text.close();
        const Finished made =
            run({"tokenize", path("text.txt"), "--out", path("data"), "--held-out", "0.1"});
        ASSERT_EQ(made.exit_code, 0) << made.text;
        write("run.toml", run_file());
    }
    void TearDown() override {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }

    std::string run_file() const {
        return "[model]\nfamily = \"llama\"\nvocab_size = 320\nhidden_size = 32\nlayers = 2\n"
               "heads = 2\nkv_heads = 1\nintermediate_size = 64\nmax_positions = 64\n"
               "[data]\ntrain = [\"" +
               path("data/train.bin") + "\"]\nheld_out = [\"" + path("data/held_out.bin") +
               "\"]\n"
               "[train]\nsteps = 24\nbatch = 2\nseq = 32\ngrad_accum = 2\nlr = 3e-3\n"
               "warmup_steps = 4\n[eval]\nevery = 8\nbatches = 2\n"
               "[diag]\ninterval = 3\n"
               "[checkpoint]\nevery = 5\nkeep_last = 2\n[runtime]\nbackend = " +
               (on_cuda() ? "\"cuda\"\ndeterministic = true\n" : "\"cpu\"\n");
    }
    std::string path(const std::string& name) const { return (folder_ / name).string(); }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(folder_ / name, std::ios::binary) << text;
    }
    Finished run(const std::vector<std::string>& args) const { return octavo(folder_, args); }
    std::vector<std::string> train(const std::string& dir, const std::string& recipe,
                                   std::vector<std::string> more = {}) const {
        std::vector<std::string> args{"train",   path("run.toml"), "--run.dir",
                                      path(dir), "--recipe",       recipe};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }

    std::filesystem::path folder_;
};

}  // namespace octavo::test
