// A tokenizer's way through the program: trained on text, over token files, into a run, its
// checkpoints and what is generated from them.
#include "cli/program.h"

namespace octavo::test {
namespace {

class Tokenizers : public Workspace {
  protected:
    void SetUp() override {
        Workspace::SetUp();
        const Finished trained =
            run({"tokenize", path("text.txt"), "--train-bpe", "300", "--out", path("bpe")});
        ASSERT_EQ(trained.exit_code, 0) << trained.text;
        ASSERT_NE(trained.text.find("tokenizer.json  300 tokens"), std::string::npos)
            << trained.text;
    }
    // Token files of the BPE in `folder`, and a run file that trains on them.
    void tokenize_into(const std::string& folder) const {
        const Finished made = run({"tokenize", path("text.txt"), "--tokenizer", path("bpe"),
                                   "--out", path(folder), "--held-out", "0.1"});
        ASSERT_EQ(made.exit_code, 0) << made.text;
    }
    std::vector<std::string> train_on(const std::string& data, const std::string& run_dir) const {
        return train(run_dir, "bf16",
                     {"--data.train", path(data + "/train.bin"), "--data.held_out",
                      path(data + "/held_out.bin")});
    }
};

TEST_F(Tokenizers, EncodeAndDecodeLines) {
    write("texts.jsonl", "{\"text\": \"the quick <|endoftext|> é\\n\"}\n{\"text\": \"\"}\n");
    const Finished ids = run(
        {"tokenize", path("texts.jsonl"), "--tokenizer", path("bpe/tokenizer.json"), "--encode"});
    ASSERT_EQ(ids.exit_code, 0) << ids.text;
    EXPECT_NE(ids.text.find("299"), std::string::npos) << ids.text;
    write("ids.jsonl", ids.text);
    const Finished texts =
        run({"tokenize", path("ids.jsonl"), "--tokenizer", path("bpe"), "--decode"});
    EXPECT_EQ(texts.text, "{\"text\": \"the quick <|endoftext|> é\\n\"}\n{\"text\": \"\"}\n");
}

TEST_F(Tokenizers, EncodesChats) {
    write("chats.jsonl", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"12\"}]}\n");
    std::vector<std::string> args{"tokenize",  path("chats.jsonl"), "--tokenizer",
                                  path("bpe"), "--encode",          "--chat"};
    EXPECT_NE(run(args).text.find("expected a chat template"), std::string::npos);
    const std::string config = "{\"chat_template\": \"<|im_start|> <|im_end|>\"}";
    write("bpe/tokenizer_config.json", config);
    EXPECT_NE(run(args).text.find("expected '<|im_start|>', which the chatml chat template writes"),
              std::string::npos);
    ASSERT_EQ(run({"tokenize", path("text.txt"), "--train-bpe", "300", "--special",
                   "<|im_start|>,<|im_end|>", "--out", path("chatml")})
                  .exit_code,
              0);
    write("chatml/tokenizer_config.json", config);
    args[3] = path("chatml");
    const Finished ids = run(args);
    EXPECT_EQ(ids.exit_code, 0);
    EXPECT_TRUE(ids.text.starts_with("{\"ids\": [")) << ids.text;
    EXPECT_NE(ids.text.find("], \"learn\": [0, 0,"), std::string::npos) << ids.text;
    EXPECT_NE(ids.text.find(", 1, 0]}"), std::string::npos) << ids.text;
}

TEST_F(Tokenizers, TravelsFromTokensToGeneratedText) {
    tokenize_into("data2");
    const std::string json = slurp(path("bpe/tokenizer.json"));
    EXPECT_EQ(slurp(path("data2/tokenizer.json")), json);
    const Finished trained = run(train_on("data2", "run"));
    ASSERT_EQ(trained.exit_code, 0) << trained.text;
    EXPECT_EQ(slurp(path("run/checkpoints/step_0000024/tokenizer.json")), json);

    const Finished text =
        run({"generate", path("run"), "--prompt", "line 1", "--tokens", "20", "--backend", "cpu"});
    EXPECT_EQ(text.exit_code, 0) << text.text;
    EXPECT_TRUE(text.text.starts_with("line 1")) << text.text;
    const Finished begin = run({"generate", path("run"), "--tokens", "5"});
    EXPECT_EQ(begin.exit_code, 0) << begin.text;

    // With bytes, which the run was not trained on, it does not go on.
    const Finished other = run(train_on("data", "run"));
    EXPECT_EQ(other.exit_code, 1) << other.text;
    EXPECT_NE(other.text.find("the run was trained on tokens of the tokenizer bpe"),
              std::string::npos)
        << other.text;
    // Nor is it judged by them.
    const auto judged = [&](const std::string& data) {
        return run({"eval", path("run"), "--data", path(data + "/train.bin"), "--seq", "16",
                    "--batches", "2"});
    };
    EXPECT_EQ(judged("data2").exit_code, 0);
    const Finished refused = judged("data");
    EXPECT_EQ(refused.exit_code, 1) << refused.text;
    EXPECT_NE(refused.text.find("in --data"), std::string::npos) << refused.text;
}

TEST_F(Tokenizers, AModelsTokenizerGoesWithIt) {
    tokenize_into("data2");
    ASSERT_EQ(run(train_on("data2", "run")).exit_code, 0);
    const std::string model = path("run/checkpoints/step_0000024");
    // Token files from elsewhere.
    std::filesystem::remove(path("data2/tokens.json"));
    std::filesystem::remove(path("data2/tokenizer.json"));
    const Finished tuned = run(
        {"train", "--model.path", model, "--data.train", path("data2/train.bin"), "--run.dir",
         path("tuned"), "--train.steps", "2", "--train.warmup_steps", "1", "--train.seq", "16"});
    ASSERT_EQ(tuned.exit_code, 0) << tuned.text;
    EXPECT_EQ(run({"generate", path("tuned"), "--prompt", "line", "--tokens", "5"}).exit_code, 0);
}

TEST_F(Tokenizers, MixedUpFilesAreRefused) {
    tokenize_into("data2");
    const Finished mixed = run(train("run", "bf16", {"--data.train", path("data2/train.bin")}));
    EXPECT_EQ(mixed.exit_code, 2) << mixed.text;  // the run file's held_out.bin is of bytes
    EXPECT_NE(mixed.text.find("Make all token files of a run with one tokenizer"),
              std::string::npos)
        << mixed.text;
}

TEST_F(Tokenizers, WrongUseIsNamed) {
    const auto refused = [&](const std::vector<std::string>& args, int code, const char* words) {
        const Finished done = run(args);
        EXPECT_EQ(done.exit_code, code) << done.text;
        EXPECT_NE(done.text.find(words), std::string::npos) << done.text;
    };
    const std::string text = path("text.txt"), out = path("x");
    refused({"tokenize", text, "--encode", "--decode"}, 2, "one of --encode, --decode");
    refused({"tokenize", text, "--encode", "--out", out}, 2, "writes to the standard output");
    refused({"tokenize", text, "--chat", "--out", out}, 2, "got bytes");
    refused({"tokenize", text, "--chat", "--decode"}, 2, "--chat goes with --encode");
    refused({"tokenize", text, "--pairs", "--encode"}, 2, "--pairs makes token files");
    refused({"tokenize", text, "--pairs", "--out", out}, 1, "text.txt: expected JSON lines");
    refused({"tokenize", text, "--chat", "--encode"}, 2, "got bytes");
    refused({"tokenize", text, "--train-bpe", "100", "--out", out}, 2, "at least 257 tokens");
    refused({"tokenize", text, "--train-bpe", "300"}, 2, "--out");
    refused({"tokenize", text, "--train-bpe", "300", "--out", out, "--tokenizer", path("bpe")}, 2,
            "--train-bpe makes a tokenizer");
    refused({"tokenize", text, "--train-bpe", "300", "--out", path("bpe")}, 1,
            "bpe/tokenizer.json: exists already");
    refused({"tokenize", text, "--out", out, "--tokenizer", path("none")}, 1, "none");
    refused({"tokenize", text, "--out", out, "--end-of-text", "<x>"}, 2, "has its own");
    refused({"tokenize", text, "--out", out, "--tokenizer", path("bpe"), "--end-of-text", "<x>"}, 1,
            "'<x>' among the added tokens");
    write("bpe/tokenizer.json",
          "{\"model\": {\"type\": \"Unigram\", \"vocab\": {}, \"merges\": []}}");
    refused({"tokenize", text, "--out", out, "--tokenizer", path("bpe")}, 1, "'Unigram'");
}

}  // namespace
}  // namespace octavo::test
