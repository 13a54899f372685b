#!/usr/bin/env bash
# Trains a small Llama on English text twice, on the same batches: in BF16 and in FP8.
#
#   make demo                      a dictionary (Debian's dict-gcide)
#   make demo TEXT=book.txt        any text, JSON lines or zstd of them
#   make demo STEPS=100            another length
#
# Data goes to data/demo, runs to runs/demo-bf16 and runs/demo-fp8-lm. Run it again to train anew.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }
octavo=build/release/octavo
start=$SECONDS

say "1/5 building"
scripts/build.sh release --target octavo

say "2/5 text to tokens"
if [ -n "${TEXT:-}" ]; then
    text=$TEXT
else
    scripts/setup.sh --demo
    mkdir -p data/demo
    text=data/demo/gcide.txt
    zcat /usr/share/dictd/gcide.dict.dz > "$text"
fi
$octavo tokenize "$text" --out data/demo

runs=()
step=3
for recipe in bf16 fp8-lm; do
    say "$step/5 training in $recipe"
    run=runs/demo-$recipe
    rm -rf "$run"
    $octavo train configs/demo.toml --recipe.name "$recipe" --run.dir "$run" \
        ${STEPS:+--train.steps "$STEPS"}
    runs+=("$run")
    step=$((step + 1))
done

say "5/5 what came out"
for run in "${runs[@]}"; do
    printf '\n-- a sample from %s\n' "$run"
    $octavo generate "$run" --prompt "${PROMPT:-The }" --tokens 300 --temperature 0.7 --seed 7
done
printf '\n'
$octavo report "${runs[@]}" --out runs/demo.html
printf 'the demo took %d s\n' $((SECONDS - start))
