# For run_page.sh: what pages other than how-tos call by other names, and training at the size of a test.
for alias in MODEL DIR Qwen3-0.6B models/Qwen3-0.6B; do
    mkdir -p "$(dirname $alias)"
    [ ! -d my-model ] || ln -s "$PWD/my-model" $alias
done
[ ! -d my-model ] || cp my-model/model.safetensors .
cp book.txt gcide.txt
echo '{"prompt": "It was"}' > prompts.jsonl
for i in 0 1 2; do
    echo '{"question": "How was it?", "choices": ["It was cold", "It was a house"], "answer": '$((i % 2))'}'
done > arc_easy.jsonl

# Token files in bytes, of the configs; and those of my-model's tokenizer as its run.
octavo tokenize book.txt --held-out 0.1 --out data/demo > /dev/null
cp data/demo/* data/
if ! grep -q 'run.dir runs/book' ../commands.sh && [ -d ../run ]; then
    mkdir -p runs
    cp -r ../run runs/book
fi

# batch.safetensors: two rows of eight ids.
header='{"input_ids":{"dtype":"I64","shape":[2,8],"data_offsets":[0,128]}}'
{
    printf "\\x$(printf %02x ${#header})\0\0\0\0\0\0\0%s" "$header"
    head -c 128 /dev/zero
} > batch.safetensors

# gpt2_124M.bin: llm.c's form, of one layer of 16 zeros; words of its header: magic, version, T, V, L, H, C, V.
word() { printf "\\x$(printf %02x $(($1 & 255)))\\x$(printf %02x $(($1 >> 8 & 255)))\\x$(printf %02x $(($1 >> 16 & 255)))\\x$(printf %02x $(($1 >> 24)))"; }
{
    for x in 20240326 3 32 64 1 2 16 64; do word $x; done
    head -c $(((256 - 8) * 4)) /dev/zero
    head -c $((4 * (64 * 16 + 32 * 16 + 12 * 16 * 16 + 13 * 16 + 2 * 16))) /dev/zero
} > gpt2_124M.bin

cat > ../prelude.sh <<'END'
octavo() {
    if [ "$1" = train ]; then
        set -- "$@" --train.steps=3 --train.batch=2 --train.seq=64 --train.grad_accum=1 --train.warmup_steps=1 \
            --eval.every=2 --eval.batches=1
    fi
    command octavo "$@"
}
END
