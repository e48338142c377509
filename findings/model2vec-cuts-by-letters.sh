#!/usr/bin/env bash
# model2vec 0.10.0: `StaticModel.encode` keeps `max_length` times the median length of a token in letters of a text, before
# it tokenizes it (guessed: `max_length` tokens are read). Where a text has longer tokens than the vocabulary's median, its
# end does not count although it is within the limit.
# Output seen: 11 tokens, 30 allowed, and another last token changes the vector by 0.0; without a limit by 0.29.
source "$(dirname "$0")/_run.sh"
in_environment model2vec==0.10.0 numpy==2.4.6 <<'PY'
import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer, models, pre_tokenizers

words = ["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz", "afterwards", "north", "south"]
tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
vectors = np.random.default_rng(1).normal(size=(len(words), 8)).astype(np.float32)
model = StaticModel(vectors, tokenizer, normalize=False)
texts = [" ".join(["afterwards"] * 10 + [end]) for end in ("north", "south")]
changes = {limit: float(np.abs(np.subtract(*model.encode(texts, max_length=limit))).max()) for limit in (30, None)}
print(f"{len(tokenizer.encode(texts[0]).ids)} tokens; with 30 allowed {changes[30]:.2f}, without a limit {changes[None]:.2f}")
assert changes[30] == 0
assert changes[None] > 0.01
PY
