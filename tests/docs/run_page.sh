#!/usr/bin/env bash
# Runs the commands of a page of the documentation as a reader would: its blocks of commands, in order, in one
# shell in a folder that has the inputs which the pages speak of, and configs/ at the size of a test.
#
#   tests/docs/run_page.sh docs/howto/PAGE.md build/release/octavo build/release/tests/octavo_parse_command
#
#   ```sh          run. What `octavo train` is given outside of how-tos is followed by sizes of a test.
#   ```sh gpu      needs a GPU: of its octavo commands, verb, flags and values are checked
#   ```sh long     takes minutes or more, or does not end: likewise
#   ```sh build    is for a checkout: the targets of make and the scripts must be there
#
# Single capitals are what the reader chooses: a recipe R, a seed S, a folder D, a model M, formats F, sizes B, T.
# An octavo command in any other block is a mistake, and so is a command that fails, which is named. Port 8080
# becomes a free one.
set -euo pipefail
page=$(realpath "$1")
octavo=$(realpath "$2")
parse=$(realpath "$3")
root=$(realpath "$(dirname "$0")/../..")
name=${page#"$root"/}
scratch=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -TERM -- "$pid" 2> /dev/null || true; rm -rf "$scratch"' EXIT
mkdir -p "$scratch/bin" "$scratch/work/configs"
ln -s "$octavo" "$scratch/bin/octavo"
# Models this small gain nothing from threads, and lose where the processors are busy.
export PATH=$scratch/bin:$PATH OMP_NUM_THREADS=1
cd "$scratch/work"

# ---- Commands ----------------------------------------------------------------------------------

# Whole commands of the blocks "```sh$1", a line each; comments are left out.
commands() {
    awk -v fence="\`\`\`sh$1" '/^```/ { inside = $0 == fence; next } inside' "$page" |
        sed -e :a -e '/\\$/N; s/\\\n *//; ta' | grep -v '^ *#' || true
}
# Below the ports that the system gives to connections, and free now.
port=$((20000 + $$ % 12000))
while (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do port=$((port + 1)); done
choices="s/\b8080\b/$port/g; s/ R\b/ bf16/g; s/ S\b/ 1/g; s/ D\b/ runs\/d/g; s/ M\b/ llama-125m/g; s/ F\b/ f32/g"
choices+="; s/ [BT]\b/ 1/g"

if awk '/^```/ { other = !fence && $0 !~ /^```sh( (gpu|long|build))?$/; fence = !fence; next }
         /^ *octavo / && (fence ? other : /^    /) { print FNR ": " $0; found = 1 }
         END { exit !found }' "$page"; then
    echo "$name: expected commands in blocks of \`\`\`sh, got the lines above"
    exit 1
fi
# configs/*.toml, with sizes of seconds.
for file in "$root"/configs/*.toml; do
    sed 's/^preset = "demo"/hidden_size = 128\nlayers = 2\nheads = 2\nintermediate_size = 256\nmax_positions = 512/' \
        "$file" > "configs/$(basename "$file")"
done
while read -r line; do
    # As a shell would cut it into words.
    if ! (eval "set -- ${line#octavo }" && "$parse" "$@"); then
        echo "$name: octavo would not take '$line'"
        exit 1
    fi
done < <({ commands ' gpu'; commands ' long'; commands ' build'; } |
    sed "$choices; s/ #.*//; s/ > .*//; s#^build/[a-z]*/octavo#octavo#" | grep '^octavo ')
while read -r command target rest; do
    case $command in
    make) grep -q "^$target:" "$root/Makefile" ;;
    scripts/*) [ -x "$root/$command" ] ;;
    esac || { echo "$name: '$command $target' is not there"; exit 1; }
done < <(commands ' build')

{ awk '/^```/ { if (inside) print ""; inside = $0 == "```sh"; next } inside' "$page" | sed "$choices"; } \
    > ../commands.sh
if ! [ -s ../commands.sh ]; then
    echo "$name: no commands to run"
    exit 0
fi

# ---- Inputs ------------------------------------------------------------------------------------

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

# The same in JSON lines, plain and compressed; and chats about it.
awk '/<\|endoftext/ { printf "{\"text\": \"%s\"}\n", text; text = ""; next } { text = text $0 " " }' \
    book.txt > text.jsonl
head -20 text.jsonl > texts.jsonl
zstd -q text.jsonl 2> /dev/null || cp text.jsonl text.jsonl.zst
awk '/^It/ && NR <= 200 { printf "{\"messages\": [{\"role\": \"user\", \"content\": \"How was it?\"}, " \
             "{\"role\": \"assistant\", \"content\": \"%s\"}]}\n", $0 }' book.txt > chats.jsonl

# my-model: a Hugging Face folder with weights, a tokenizer and a chat template; held_out.bin: token file of it.
if grep -qE 'my-model|MODEL|DIR|Qwen3-0.6B|runs/book|model.safetensors|data/demo' ../commands.sh ||
    [[ $name = docs/recipes/* ]]; then
    {
        octavo tokenize book.txt --train-bpe 500 --special '<|im_start|>,<|im_end|>' --out ../bpe
        octavo tokenize book.txt --tokenizer ../bpe --held-out 0.1 --out ../data
        octavo train --model.vocab_size 512 --model.hidden_size 128 --model.layers 2 --model.heads 2 \
            --model.intermediate_size 256 --model.max_positions 512 --data.train ../data/train.bin \
            --train.steps 20 --train.batch 4 --train.seq 64 --train.warmup_steps 4 --run.dir ../run
        octavo convert ../run --out my-model
    } > ../setup.log || { cat ../setup.log; exit 1; }
    echo '{"chat_template": "<|im_start|>{{ message.role }}<|im_end|>"}' > my-model/tokenizer_config.json
    cp ../data/held_out.* ../data/tokens.json .
fi
touch ../prelude.sh
[[ $name = docs/howto/* ]] || source "$root/tests/docs/other_inputs.sh"

# ---- Run ---------------------------------------------------------------------------------------

start=$SECONDS
# In a group of its own, so that what a page starts in the background ends with it.
setsid bash -euo pipefail -c 'source ../prelude.sh; set -x; source ../commands.sh' &
pid=-$!
if ! wait $!; then
    echo "$name: the last command above failed"
    exit 1
fi
pid=
echo "$name: all commands ran in $((SECONDS - start)) s"
