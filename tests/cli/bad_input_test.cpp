// What a user can get wrong: the message says what, where and what to do, and nothing is lost.
#include <optional>

#include "cli/program.h"

namespace octavo::test {
namespace {

class BadInput : public Workspace {
  protected:
    void expect_refusal(const std::vector<std::string>& args, int exit_code,
                        const std::vector<std::string>& texts) const {
        const Finished done = run(args);
        EXPECT_EQ(done.exit_code, exit_code) << done.text;
        for (const std::string& text : texts) {
            EXPECT_NE(done.text.find(text), std::string::npos) << "'" << text << "' in\n"
                                                               << done.text;
        }
    }
};

TEST_F(BadInput, RunFiles) {
    write("run.toml", run_file() + "[train]\nlr = 1\n");
    expect_refusal(train("run", "bf16"), 2, {"run.toml:"});
    write("run.toml", "[train]\nlearn_rate = 1e-3\n");
    expect_refusal(train("run", "bf16"), 2, {"run.toml:2", "train.learn_rate"});
    write("run.toml", "[train]\nsteps = \"many\"\n");
    expect_refusal(train("run", "bf16"), 2, {"run.toml:2", "integer", "many"});
    write("run.toml", "[train]\nsteps = 0\n");
    expect_refusal(train("run", "bf16"), 2, {"run.toml:2", "train.steps"});
    expect_refusal({"train", path("none.toml")}, 2, {"none.toml"});
    expect_refusal({"train", "--train.stps", "3"}, 2, {"train.stps", "train.steps"});
}

TEST_F(BadInput, TokenFiles) {
    const auto with = [&](const std::string& file) {
        return train("run", "bf16", {"--data.train", path(file)});
    };
    expect_refusal(with("none.bin"), 1, {"none.bin", "No such file"});
    std::string tokens = slurp(folder_ / "data" / "train.bin");
    write("empty.bin", "");
    expect_refusal(with("empty.bin"), 1, {"empty.bin"});
    write("odd.bin", tokens.substr(0, tokens.size() - 1));
    expect_refusal(with("odd.bin"), 1, {"odd.bin", "bytes a token"});
    std::string magic = tokens;
    magic[0] ^= 1;
    write("magic.bin", magic);
    expect_refusal(with("magic.bin"), 1, {"magic.bin", "magic"});
    std::string version = tokens;
    version[4] = 9;
    write("version.bin", version);
    expect_refusal(with("version.bin"), 1, {"version.bin", "version"});
    std::string id = tokens;
    id[1024 + 2 * 100 + 1] = 2;  // token 100 becomes 512 or more
    write("id.bin", id);
    expect_refusal(with("id.bin"), 1, {"id.bin", "100", "320"});
}

TEST_F(BadInput, SequenceLongerThanTheData) {
    write("short.txt", "a few words");
    ASSERT_EQ(
        run({"tokenize", path("short.txt"), "--out", path("short"), "--held-out", "0"}).exit_code,
        0);
    expect_refusal(train("run", "bf16", {"--data.train", path("short/train.bin")}), 1,
                   {"33", "12"});
}

TEST_F(BadInput, Text) {
    write("empty.txt", "");
    expect_refusal({"tokenize", path("empty.txt"), "--out", path("x")}, 1, {"empty.txt"});
    expect_refusal({"tokenize", path("none.txt"), "--out", path("x")}, 1, {"none.txt"});
    write("bad.jsonl", "{\"text\": \"fine\"}\n{\"text\": 7}\n");
    expect_refusal({"tokenize", path("bad.jsonl"), "--out", path("x")}, 1, {"bad.jsonl", "2"});
    expect_refusal({"tokenize", path("text.txt")}, 2, {"--out"});
    // Bytes that are no UTF-8 are text like any other.
    write("latin1.txt", std::string("caf\xe9 \xff\xfe\n", 8));
    EXPECT_EQ(
        run({"tokenize", path("latin1.txt"), "--out", path("x"), "--held-out", "0"}).exit_code, 0);
}

TEST_F(BadInput, PlansLargerThanMemory) {
    expect_refusal(train("run", "bf16", {"--runtime.memory_limit_gb", "0.0001"}), 1,
                   {"activations", "state: weight", "Lower train.batch"});
    EXPECT_FALSE(std::filesystem::exists(folder_ / "run" / "checkpoints"));
}

TEST_F(BadInput, Models) {
    std::filesystem::copy(std::filesystem::path(OCTAVO_FIXTURES) / "llama", folder_ / "m");
    const auto inspect = [&] {
        return std::vector<std::string>{"inspect", "run",      "--model",
                                        path("m"), "--batch",  path("m/golden.safetensors"),
                                        "--out",   path("out")};
    };
    EXPECT_EQ(run(inspect()).exit_code, 0);
    const std::string weights = slurp(folder_ / "m" / "model.safetensors");
    write("m/model.safetensors", weights.substr(0, weights.size() / 2));
    expect_refusal(inspect(), 1, {"model.safetensors"});
    std::string lying = weights;
    lying[0] = lying[7] = '\x7f';
    write("m/model.safetensors", lying);
    expect_refusal(inspect(), 1, {"model.safetensors", "header"});
    write("m/model.safetensors", weights);
    std::string config = slurp(folder_ / "m" / "config.json");
    const auto at = config.find("\"silu\"");
    ASSERT_NE(at, std::string::npos);
    write("m/config.json", config.substr(0, at) + "\"relu\"" + config.substr(at + 6));
    expect_refusal(inspect(), 1, {"hidden_act", "relu"});
    expect_refusal({"generate", path("nowhere")}, 1, {"nowhere"});
}

// Where there is one, the program is kept from seeing it.
TEST_F(BadInput, NoGpu) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    const std::optional<std::string> before =
        visible ? std::optional<std::string>(visible) : std::nullopt;
    setenv("CUDA_VISIBLE_DEVICES", "", 1);
    const Finished doctor = run({"doctor"});
    ASSERT_EQ(doctor.exit_code, 0) << doctor.text;
    ASSERT_NE(doctor.text.find("none: "), std::string::npos) << doctor.text;
    const auto on = [&](const std::string& backend) {
        return train("run", "bf16", {"--stop-after", "3", "--runtime.backend", backend});
    };
    EXPECT_EQ(run(on("cpu")).exit_code, 130);
    const std::string latest = slurp(folder_ / "run" / "checkpoints" / "latest");
    expect_refusal(on("cuda"), 1, {"octavo: backend cuda: ", "\n  "});
    EXPECT_EQ(slurp(folder_ / "run" / "checkpoints" / "latest"), latest);
    const Finished automatic = run(on("auto"));
    EXPECT_EQ(automatic.exit_code, 130) << automatic.text;
    EXPECT_NE(automatic.text.find("at step 3"), std::string::npos) << automatic.text;
    // A build without CUDA has nothing to explain.
    EXPECT_EQ(automatic.text.find("octavo: computing on the CPU: ") != std::string::npos,
              doctor.text.find("this build has only the CPU") == std::string::npos)
        << automatic.text;
    // Every verb that computes.
    const std::string llama = std::string(OCTAVO_FIXTURES) + "/llama";
    const std::vector<std::string> verbs[] = {
        {"generate", llama, "--ids", "1,2"},
        {"bench", "step", "--model", "demo", "--batch", "1", "--seq", "32"},
        {"bench", "gemm", "--m", "16", "--n", "16", "--k", "16"},
        {"bench", "gemm", "--experts", "2"},
        {"bench", "op"},
        {"inspect", "run", "--model", llama, "--batch", llama + "/golden.safetensors", "--out",
         path("out")},
        {"inspect", "plan", path("run.toml")}};
    for (std::vector<std::string> args : verbs) {
        SCOPED_TRACE(args[0] + " " + args[1]);
        const bool plan = args[1] == "plan";
        args.insert(args.end(), {plan ? "--runtime.backend" : "--backend", "cuda"});
        expect_refusal(args, 1, {"octavo: backend cuda: ", "\n  "});
    }
    if (before) {
        setenv("CUDA_VISIBLE_DEVICES", before->c_str(), 1);
    } else {
        unsetenv("CUDA_VISIBLE_DEVICES");
    }
}

TEST_F(BadInput, LossThatIsNotFinite) {
    ASSERT_EQ(run(train("run", "bf16", {"--stop-after", "5"})).exit_code, 130);
    const std::string latest = slurp(folder_ / "run" / "checkpoints" / "latest");
    const Finished done = run(train("run", "bf16", {"--train.lr", "1e38", "--train.clip", "0"}));
    EXPECT_EQ(done.exit_code, 1) << done.text;
    EXPECT_NE(done.text.find("the first tensor with such values is"), std::string::npos)
        << done.text;
    EXPECT_TRUE(std::filesystem::exists(folder_ / "run" / "failure" / "batch.safetensors"));
    EXPECT_NE(slurp(folder_ / "run" / "failure" / "failure.json").find("\"tensor\""),
              std::string::npos);
    EXPECT_TRUE(std::filesystem::exists(folder_ / "run" / "checkpoints" /
                                        latest.substr(0, latest.find('\n'))));
}

}  // namespace
}  // namespace octavo::test
