#!/usr/bin/env python3
"""Compares Octavo's tokenizers with the Hugging Face library, on any tokenizer.json and text.

    pip install tokenizers
    tests/interop/tokenizers_check.py OCTAVO tokenizer.json [text file]...

Encodes the texts, cut at blank lines, and random Unicode with both, and compares ids and decoded
texts; prints how fast each was, in processor time of one core. Exits 1 if anything differs.

Known differences, left out of the random text: the library orders combining marks by Unicode 9 and
splits by Unicode 15, Octavo by the versions of Debian's utf8proc (15) and PCRE2 (14).
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer, normalizers  # noqa: E402


def known_differences():
    """Marks that the library's NFC takes for letters."""
    nfc = normalizers.NFC()
    marks = [chr(c) for c in range(0x300, 0x110000) if unicodedata.combining(chr(c))]

    def differs(text):
        return nfc.normalize_str(text) != unicodedata.normalize("NFC", text)

    return {ord(m) for m in marks if differs("a" + m + "\u0334") or differs("a\u0345" + m)}


def random_texts(count):
    rng = random.Random(1)
    skipped = known_differences()
    known = [
        c
        for c in range(1, 0x110000)
        if unicodedata.category(chr(c)) not in ("Cn", "Co", "Cs") and c not in skipped
    ]
    marks = [c for c in known if unicodedata.combining(chr(c))]
    spaces = [9, 10, 11, 12, 13, 32, 32, 32, 0x85, 0xA0, 0x180E, 0x2003, 0x2028, 0x3000]
    pools = [
        known,
        range(1, 0x300),
        marks + list(range(0x41, 0x250)) + list(range(0x1100, 0x1200)) + list(range(0xAC00, 0xAE00)),
        spaces + list(range(0x30, 0x3A)) + [ord(c) for c in "AB'sStTmM\u017f\u212a"],
        range(1, 128),
    ]
    return ["".join(chr(rng.choice(pools[i % 5])) for _ in range(rng.randrange(200))) for i in range(count)]


def run_octavo(program, tokenizer, lines, what):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
        file.flush()
        command = [program, "tokenize", file.name, "--tokenizer", tokenizer, what]
        start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        out = subprocess.run(
            command, capture_output=True, check=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - start
    return [json.loads(line) for line in out.stdout.split("\n") if line], seconds


def main():
    program, tokenizer, *files = sys.argv[1:]
    library = Tokenizer.from_file(tokenizer)
    texts = []
    for name in files:
        with open(name, encoding="utf-8", errors="replace", newline="") as file:
            texts += file.read().split("\n\n")
    read = len(texts)
    texts += random_texts(5000)
    texts += ["a" + t.content + " b" for t in library.get_added_tokens_decoder().values()]

    start = time.process_time()
    theirs = [e.ids for e in library.encode_batch(texts, add_special_tokens=False)]
    their_seconds = time.process_time() - start
    ours, our_seconds = run_octavo(program, tokenizer, [{"text": t} for t in texts], "--encode")
    _, start_seconds = run_octavo(program, tokenizer, [{"text": ""}], "--encode")
    ours = [line["ids"] for line in ours]
    decoded, _ = run_octavo(program, tokenizer, [{"ids": ids} for ids in theirs], "--decode")
    expected = library.decode_batch(theirs, skip_special_tokens=False)

    bad = 0
    for text, a, b, c, d in zip(texts, theirs, ours, [line["text"] for line in decoded], expected):
        if a != b or c != d:
            bad += 1
            if bad <= 5:
                print(f"differs: {text[:80]!r}\n  theirs {a[:20]}\n  ours   {b[:20]}\n  {d[:80]!r}\n  {c[:80]!r}")
    megabytes = sum(len(t.encode()) for t in texts) * 1e-6
    print(f"{read} texts of files and {len(texts) - read} others, {megabytes:.1f} MB: {bad} differ")
    print(f"library {megabytes / their_seconds:.2f} MB/s, octavo {megabytes / (our_seconds - start_seconds):.2f} MB/s,")
    print("in processor time of one core; octavo's includes reading and writing JSON lines")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
