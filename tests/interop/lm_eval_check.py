#!/usr/bin/env python3
"""Lets lm-evaluation-harness judge a model through `octavo serve`, and compares with `octavo eval`.

    pip install "lm-eval[api]" transformers
    python3 tests/interop/lm_eval_check.py build/release/octavo

Trains a small model, serves it, and runs two tasks of its own (nothing is downloaded): multiple choice, whose
acc and acc_norm must be those that `octavo eval --task` finds, and generation up to a stop string, which must
give the texts of `octavo generate`.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

# A model this small gains nothing from threads, and loses where the processors are busy.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false",
                  OMP_NUM_THREADS="1")

import lm_eval  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

CHOICE = """\
task: fox_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {questions}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
UNTIL = """\
task: fox_until
dataset_path: json
dataset_kwargs: {{data_files: {{test: {questions}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: [dogs], max_gen_toks: 24, temperature: 0}}
metric_list: [{{metric: exact_match}}]
"""


def run(octavo, *args):
    return subprocess.run([octavo, *map(str, args)], check=True, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout


def make_model(octavo, folder):
    text = folder / "text.txt"
    text.write_text("".join(f"line {i}: the quick brown fox jumps over {i % 7} lazy dogs\n"
                            for i in range(2000)))
    run(octavo, "tokenize", text, "--train-bpe", 300, "--out", folder / "bpe")
    run(octavo, "tokenize", text, "--tokenizer", folder / "bpe", "--out", folder / "data")
    run(octavo, "train", "--model.vocab_size", 320, "--model.hidden_size", 64, "--model.layers", 2,
        "--model.heads", 2, "--model.max_positions", 128, "--data.train", folder / "data/train.bin",
        "--train.steps", 60, "--train.seq", 64, "--train.lr", 3e-3, "--train.warmup_steps", 5,
        "--run.dir", folder / "run")
    run(octavo, "convert", folder / "run", "--out", folder / "fox")
    return folder / "fox"


def make_questions(file):
    """Some that the model can answer, and some that it can only guess."""
    lines = []
    for i in range(0, 400, 17):
        lines.append({"context": f"line {i}: the quick brown", "answer": i % 3,
                      "choices": ["fox" if k == i % 3 else f"{k} dogs" for k in range(3)]})
        lines.append({"context": f"line {i}: the quick brown fox jumps over ", "answer": i % 7,
                      "choices": [f"{k} lazy dogs" for k in range(7)]})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def evaluate(url, model, tasks):
    out = lm_eval.simple_evaluate(
        model="local-completions", tasks=["fox_choice", "fox_until"], batch_size=4,
        model_args={"model": model.name, "base_url": f"{url}/completions", "tokenizer": str(model),
                    "max_length": 128, "num_concurrent": 2},
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        log_samples=True, bootstrap_iters=0)
    return out["results"], out["samples"]


def check_choices(octavo, model, questions, theirs, samples):
    for sample in samples:
        for ((loglikelihood, greedy),) in sample["resps"]:
            assert -500 < float(loglikelihood) < 0, sample
            assert str(greedy) in ("True", "False"), sample
    ours = run(octavo, "eval", model, "--task", questions)
    acc, acc_norm = (float(re.search(name + r"\s+([\d.]+)", ours).group(1))
                     for name in ("acc", "acc_norm"))
    print(f"acc {theirs['acc,none']:.4f}, here {acc:.4f};"
          f" acc_norm {theirs['acc_norm,none']:.4f}, here {acc_norm:.4f}")
    assert abs(theirs["acc,none"] - acc) < 1e-4 and abs(theirs["acc_norm,none"] - acc_norm) < 1e-4
    assert 0.4 < acc < 1, "the task tells nothing"


def check_texts(octavo, model, folder, samples):
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": s["doc"]["context"]}) + "\n" for s in samples))
    ours = [json.loads(line) for line in
            run(octavo, "generate", model, "--prompts", prompts, "--temperature", 0, "--tokens", 24,
                "--stop", "dogs").splitlines()]
    for sample, own in zip(samples, ours, strict=True):
        assert sample["resps"] == [[own["text"]]], (sample["resps"], own)
    stopped = sum(own["finish"] == "stop" for own in ours)
    assert stopped > 0, "no text came to the stop string"
    print(f"{len(ours)} texts as generate has them, {stopped} up to the stop string")


def main():
    octavo = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        model = make_model(octavo, folder)
        questions = folder / "questions.jsonl"
        make_questions(questions)
        (folder / "tasks").mkdir()
        for name, yaml in (("choice", CHOICE), ("until", UNTIL)):
            (folder / f"tasks/{name}.yaml").write_text(yaml.format(questions=questions))
        server = subprocess.Popen([octavo, "serve", "--model", model, "--port", "0"],
                                  stdout=subprocess.PIPE, text=True)
        try:
            url = re.search(r"http://\S+/v1", server.stdout.readline()).group()
            results, samples = evaluate(url, model, folder / "tasks")
        finally:
            server.terminate()
            server.wait(60)
        check_choices(octavo, model, questions, results["fox_choice"], samples["fox_choice"])
        check_texts(octavo, model, folder, samples["fox_until"])


if __name__ == "__main__":
    main()
