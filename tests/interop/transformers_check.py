#!/usr/bin/env python3
"""Loads what `octavo convert` writes into transformers and compares logits with Octavo's own.

    python3 tests/interop/transformers_check.py build/release/octavo [family ...]

Needs torch, transformers and safetensors. For each reference model of tests/fixtures: the folder in
f32 must give the logits that `octavo inspect run` gives (within 1e-4 of their largest), the folder in
bf16 the same weights rounded, and codes times scales of the folders in FP8 what Octavo reads back.
"""
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
FAMILIES = ["llama", "llama3-rope", "qwen2", "qwen3", "gpt2"]


def weights(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def decoded(tensors):
    """Values of a folder in FP8: code * scale, per tensor or per block of 128 x 128."""
    values = {}
    for name, t in tensors.items():
        if name.endswith(("_scale", "_scale_inv")):
            continue
        scale = tensors.get(name + "_scale_inv", tensors.get(name + "_scale"))
        t = t.float()
        if scale is not None:
            if scale.numel() > 1:
                scale = scale.repeat_interleave(128, 0)[: t.shape[0]]
                scale = scale.repeat_interleave(128, 1)[:, : t.shape[1]]
            t = t * scale
        values[name] = t
    return values


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

    forms = [] if family == "gpt2" else ["fp8", "fp8-tensor"]
    for form in forms:
        run("convert", model, "--out", scratch / form, "--as", form)
        run("convert", scratch / form, "--out", scratch / f"{form}-back", "--as", "f32")
        back = weights(scratch / f"{form}-back")
        for name, t in decoded(weights(scratch / form)).items():
            assert torch.equal(t, back[name]), f"{family}: {name} in {form}"
    print(f"{family:12} logits within {error:.1e}; bf16{''.join(', ' + f for f in forms)} ok")


def main():
    octavo = sys.argv[1]
    for family in sys.argv[2:] or FAMILIES:
        with tempfile.TemporaryDirectory() as scratch:
            check(octavo, family, pathlib.Path(scratch))


if __name__ == "__main__":
    main()
