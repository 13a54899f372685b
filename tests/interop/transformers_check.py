#!/usr/bin/env python3
"""Loads what `octavo convert` writes into transformers and compares logits with Octavo's own.

    python3 tests/interop/transformers_check.py build/release/octavo [family ...]

Needs torch, transformers and safetensors. For each reference model of tests/fixtures: the folder in
f32 must give the logits that `octavo inspect run` gives (within 1e-4 of their largest), the folder in
bf16 the same weights rounded. Then a random Llama of whole blocks: the weights that transformers makes
of its folder in FP8 are those that Octavo reads back.
"""
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
FAMILIES = ["llama", "llama3-rope", "qwen2", "qwen3", "qwen3-moe", "gpt2"]


def weights(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def check(octavo, family, scratch):
    def run(*args):
        subprocess.run([octavo, *map(str, args)], check=True, stdout=subprocess.DEVNULL)

    model, golden = FIXTURES / family, FIXTURES / family / "golden.safetensors"
    run("convert", model, "--out", scratch / "f32", "--as", "f32")
    run("inspect", "run", "--model", scratch / "f32", "--batch", golden, "--out", scratch / "out.st",
        "--recipe", "fp32")
    ours = load_file(scratch / "out.st")["logits"]
    theirs = AutoModelForCausalLM.from_pretrained(scratch / "f32", dtype=torch.float32).eval()
    with torch.no_grad():
        ids = load_file(golden)["input_ids"].long()
        logits = theirs(input_ids=ids).logits
    error = ((logits - ours.reshape(logits.shape)).abs().max() / logits.abs().max()).item()
    assert error < 1e-4, f"{family}: logits differ by {error:.2e}"

    wide = weights(scratch / "f32")
    run("convert", model, "--out", scratch / "bf16", "--as", "bf16")
    for name, t in weights(scratch / "bf16").items():
        assert torch.equal(t, wide[name].to(torch.bfloat16)), f"{family}: {name} in bf16"
    AutoModelForCausalLM.from_pretrained(scratch / "bf16")

    print(f"{family:12} logits within {error:.1e}; bf16 ok")


def check_blocks(octavo, scratch):
    def convert(source, out, form):
        subprocess.run([octavo, "convert", source, "--out", out, "--as", form], check=True,
                       stdout=subprocess.DEVNULL)

    config = LlamaConfig(vocab_size=512, hidden_size=256, intermediate_size=640, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, head_dim=64,
                         max_position_embeddings=64)
    LlamaForCausalLM(config).save_pretrained(scratch / "random")
    convert(scratch / "random", scratch / "fp8", "fp8")
    convert(scratch / "fp8", scratch / "back", "f32")
    codes, ours = weights(scratch / "fp8"), weights(scratch / "back")
    theirs = AutoModelForCausalLM.from_pretrained(scratch / "fp8", dtype=torch.float32).state_dict()
    worst = 0.0
    for name, t in ours.items():
        other = theirs[name].float()
        assert other.shape == t.shape, f"{name}: {tuple(other.shape)} instead of {tuple(t.shape)}"
        worst = max(worst, ((other - t).abs().max() / t.abs().max()).item())
    quantised = sum(name.endswith(".weight_scale_inv") for name in codes)
    assert quantised == 14, f"{quantised} weights in FP8"
    # transformers may round the decoded values to bf16.
    assert worst <= 2**-8, f"transformers reads other weights: {worst:.2e} of the largest"
    print(f"fp8          {quantised} weights as transformers reads them, within {worst:.1e}")


def main():
    octavo = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        check_blocks(octavo, pathlib.Path(scratch))
    for family in sys.argv[2:] or FAMILIES:
        with tempfile.TemporaryDirectory() as scratch:
            check(octavo, family, pathlib.Path(scratch))


if __name__ == "__main__":
    main()
