#!/usr/bin/env python3
"""Talks to `octavo serve` with OpenAI's own client.

    pip install openai
    python3 tests/interop/openai_check.py build/release/octavo

Makes a small model with a chat template, serves it, and checks models, completions and chats, whole and
streamed, log-probabilities, scored prompts as evaluation harnesses ask for them, and errors.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import openai

KEY = "secret"


def make_model(octavo, folder):
    def run(*args):
        subprocess.run([octavo, *map(str, args)], check=True, stdout=subprocess.DEVNULL)

    text = folder / "text.txt"
    text.write_text("".join(f"line {i}: the quick brown fox jumps over {i % 7} lazy dogs\n"
                            for i in range(2000)))
    run("tokenize", text, "--train-bpe", 300, "--special", "<|im_start|>,<|im_end|>", "--out",
        folder / "bpe")
    run("tokenize", text, "--tokenizer", folder / "bpe", "--out", folder / "data")
    run("train", "--model.vocab_size", 320, "--model.hidden_size", 64, "--model.layers", 2,
        "--model.heads", 2, "--model.max_positions", 128, "--data.train",
        folder / "data/train.bin", "--train.steps", 60, "--train.seq", 64, "--train.lr", 3e-3,
        "--train.warmup_steps", 5, "--run.dir", folder / "run")
    run("convert", folder / "run", "--out", folder / "fox")
    (folder / "fox/tokenizer_config.json").write_text(
        json.dumps({"chat_template": "<|im_start|>{{ message.role }}<|im_end|>"}))
    return folder / "fox"


def check_completions(client):
    whole = client.completions.create(model="fox", prompt="line 7", max_tokens=12, temperature=0)
    assert whole.usage.completion_tokens == 12 and whole.choices[0].finish_reason == "length"
    parts = client.completions.create(model="fox", prompt="line 7", max_tokens=12, temperature=0,
                                      stream=True, stream_options={"include_usage": True})
    parts = list(parts)
    assert "".join(p.choices[0].text for p in parts if p.choices) == whole.choices[0].text
    assert parts[-1].usage == whole.usage
    several = client.completions.create(model="fox", prompt=["line 7", "line 8"], n=2, seed=5,
                                        max_tokens=8, temperature=1.2, top_p=0.9)
    assert [c.index for c in several.choices] == [0, 1, 2, 3]
    again = client.completions.create(model="fox", prompt=["line 7", "line 8"], n=2, seed=5,
                                      max_tokens=8, temperature=1.2, top_p=0.9)
    assert [c.text for c in several.choices] == [c.text for c in again.choices]
    stopped = client.completions.create(model="fox", prompt="line 7", max_tokens=60, temperature=0,
                                        stop=["fox"])
    assert "fox" not in stopped.choices[0].text


def check_scores(client):
    """As lm-evaluation-harness' local-completions asks and reads."""
    out = client.completions.create(model="fox", prompt=[list(range(60, 80)), [97, 98]], echo=True,
                                    max_tokens=1, logprobs=1, temperature=0, seed=1)
    for choice, length in zip(out.choices, [20, 2]):
        scores = choice.logprobs
        assert len(scores.tokens) == len(scores.token_logprobs) == length + 1
        assert scores.token_logprobs[0] is None
        for own, top in list(zip(scores.token_logprobs, scores.top_logprobs))[1:]:
            assert own <= max(top.values()) <= 0
        # The greedy token is the most likely one.
        assert scores.token_logprobs[-1] == max(scores.top_logprobs[-1].values())


def check_chats(client):
    messages = [{"role": "system", "content": "Be a fox."}, {"role": "user", "content": "line 7"}]
    whole = client.chat.completions.create(model="fox", messages=messages, max_tokens=10,
                                           temperature=0, logprobs=True, top_logprobs=2)
    message = whole.choices[0].message
    assert message.role == "assistant"
    content = whole.choices[0].logprobs.content
    assert bytes(b for t in content for b in t.bytes).decode("utf-8", "replace") == message.content
    assert all(len(t.top_logprobs) == 2 and t.top_logprobs[0].logprob == t.logprob for t in content)
    parts = list(client.chat.completions.create(model="fox", messages=messages, max_tokens=10,
                                                temperature=0, stream=True))
    assert parts[0].choices[0].delta.role == "assistant"
    assert "".join(p.choices[0].delta.content or "" for p in parts) == message.content
    assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def check_errors(client, url):
    def refused(error, call):
        try:
            call()
        except error as e:
            return e
        raise AssertionError(f"expected {error.__name__}")

    bad = refused(openai.BadRequestError, lambda: client.completions.create(
        model="fox", prompt="a", max_tokens=1000))
    assert bad.code == "context_length_exceeded", bad
    bad = refused(openai.BadRequestError, lambda: client.completions.create(
        model="fox", prompt="a", presence_penalty=1))
    assert bad.param == "presence_penalty", bad
    refused(openai.NotFoundError, lambda: client.completions.create(model="gpt", prompt="a"))
    stranger = openai.OpenAI(base_url=url, api_key="wrong", max_retries=0)
    refused(openai.AuthenticationError, stranger.models.list)


def main():
    octavo = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        model = make_model(octavo, pathlib.Path(scratch))
        server = subprocess.Popen([octavo, "serve", "--model", model, "--port", "0", "--api-key",
                                   KEY], stdout=subprocess.PIPE, text=True)
        try:
            url = re.search(r"http://\S+/v1", server.stdout.readline()).group()
            client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=60)
            assert [m.id for m in client.models.list()] == ["fox"]
            assert client.models.retrieve("fox").id == "fox"
            for check in (check_completions, check_scores, check_chats):
                check(client)
                print(f"{check.__name__}: good")
            check_errors(client, url)
            print("check_errors: good")
        finally:
            server.terminate()
            code = server.wait(60)
        assert code == 0, f"the server ended with {code}"


if __name__ == "__main__":
    main()
