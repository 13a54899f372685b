#!/usr/bin/env bash
# Runs the commands of a how-to page as a reader would: all its `sh` blocks, in order, in one shell in an
# empty folder that has the inputs which the pages speak of.
#
#   tests/docs/run_howto.sh docs/howto/PAGE.md build/release/octavo
#
# Ends with the first command that fails, naming it. A page's port 8080 becomes a free one.
set -euo pipefail
page=$(realpath "$1")
octavo=$(realpath "$2")
scratch=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -TERM -- "$pid" 2> /dev/null || true; rm -rf "$scratch"' EXIT
mkdir "$scratch/bin" "$scratch/work"
ln -s "$octavo" "$scratch/bin/octavo"
# Models this small gain nothing from threads, and lose where the processors are busy.
export PATH=$scratch/bin:$PATH OMP_NUM_THREADS=1
cd "$scratch/work"

# book.txt: sentences of a few words, in paragraphs that are documents.
awk 'BEGIN {
    srand(7); n = split("It was a bright cold day and the old clock of town struck while she walked " \
                        "home by river stone house light rain over hill", w, " ")
    for (d = 0; d < 400; d++) {
        for (s = 0; s < 4; s++) {
            line = "It was"
            for (i = 0; i < 8; i++) line = line " " w[int(rand() * n) + 1]
            print line "."
        }
        print "<|endoftext|>"
    }
}' > book.txt

# my-model: a Hugging Face folder with weights, a tokenizer and a chat template; held_out.bin: token file of it.
if grep -q my-model "$page"; then
    {
        octavo tokenize book.txt --train-bpe 500 --special '<|im_start|>,<|im_end|>' --out ../bpe
        octavo tokenize book.txt --tokenizer ../bpe --held-out 0.1 --out ../data
        octavo train --model.vocab_size 512 --model.hidden_size 128 --model.layers 2 --model.heads 2 \
            --model.intermediate_size 256 --model.max_positions 128 --data.train ../data/train.bin \
            --train.steps 20 --train.batch 4 --train.seq 64 --train.warmup_steps 4 --run.dir ../run
        octavo convert ../run --out my-model
    } > ../setup.log || { cat ../setup.log; exit 1; }
    echo '{"chat_template": "<|im_start|>{{ message.role }}<|im_end|>"}' > my-model/tokenizer_config.json
    cp ../data/held_out.* ../data/tokens.json .
fi

port=$((20000 + $$ % 20000))
awk '/^```/ { if (inside) print ""; inside = $0 == "```sh"; next } inside' "$page" |
    sed "s/\b8080\b/$port/g" > ../commands.sh
[ -s ../commands.sh ] || { echo "$page: expected sh blocks, got none"; exit 1; }
start=$SECONDS
# In a group of its own, so that what a page starts in the background ends with it.
setsid bash -euo pipefail -c 'set -x; source ../commands.sh' &
pid=-$!
if ! wait $!; then
    echo "$(basename "$page"): the last command above failed"
    exit 1
fi
pid=
echo "$(basename "$page"): all commands ran in $((SECONDS - start)) s"
