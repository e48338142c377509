#!/usr/bin/env bash
# tokenizers 0.23.3: where `enable_truncation` gets a limit below the number of special tokens, a text is not cut at all
# and comes back whole (guessed: an error, or the special tokens alone, as at a limit of their number). A pair has one
# more of them than a text, so that one limit cuts texts and leaves pairs whole.
# Output seen: tokens of a text of 50 words, and of a pair, at the limits 4, 3, 2 and 1: [(4, 4), (3, 3), (2, 103),
# (52, 103)].
source "$(dirname "$0")/_run.sh"
in_environment tokenizers==0.23.3 <<'PY'
from tokenizers import Tokenizer, models, pre_tokenizers, processors

tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "word": 3}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
)
text = " ".join(["word"] * 50)
lengths = []
for limit in (4, 3, 2, 1):
    tokenizer.enable_truncation(limit)
    lengths.append((len(tokenizer.encode(text).ids), len(tokenizer.encode(text, text).ids)))
print(lengths)
assert lengths == [(4, 4), (3, 3), (2, 103), (52, 103)]
PY
