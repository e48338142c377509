#!/usr/bin/env bash
# @huggingface/transformers 4.3.1 (transformers.js): `truncation: true` cuts the finished list of tokens at the limit, and
# with it the end token (guessed: the text is cut in front of it, as the tokenizers of transformers for Python do). A
# text that is longer than the limit gets another vector than in Python. Needs Node and npm.
# Output seen: [ 1, 3, 3, 3 ] without truncation [ 1, 3, 3, 3, 3, 3, 2 ]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --ignore-scripts --no-audit --no-fund --silent @huggingface/transformers@4.3.1
mkdir tokenizer
cat > tokenizer/tokenizer.json <<'JSON'
{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
 "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
 "model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "word": 3}, "unk_token": "[PAD]"},
 "post_processor": {"type": "TemplateProcessing",
  "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
             {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
  "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
  "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                     "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}}}
JSON
echo '{"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4, "pad_token": "[PAD]"}' \
    > tokenizer/tokenizer_config.json
node --input-type=module - <<'JS'
import assert from "node:assert";
import { AutoTokenizer, env } from "@huggingface/transformers";

env.allowRemoteModels = false;
const tokenizer = await AutoTokenizer.from_pretrained("./tokenizer");
const text = "word word word word word";
const cut = tokenizer(text, { truncation: true, return_tensor: false }).input_ids;
const whole = tokenizer(text, { truncation: false, return_tensor: false }).input_ids;
console.log(cut, "without truncation", whole);
assert.deepStrictEqual(whole, [1, 3, 3, 3, 3, 3, 2]);
assert.deepStrictEqual(cut, [1, 3, 3, 3]);
JS
