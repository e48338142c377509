#!/usr/bin/env bash
# bm25s 0.3.16: a query that shares no word with the corpus gets k documents all the same, with score 0, the last ones
# of the corpus first (guessed: none, or the first ones); evaluated as they come, they count as found.
# Its tokenizer drops words of one letter and splits at apostrophes, so "C" and "R" cannot be searched for (guessed: kept).
# Output seen: documents [[2 1]], scores [[0. 0.]]; [['language', 'don']].
source "$(dirname "$0")/_run.sh"
in_environment bm25s==0.3.16 numpy==2.4.6 <<'PY'
import bm25s

index = bm25s.BM25()
index.index(bm25s.tokenize(["a cat sat", "dogs bark loud", "fish swim"], show_progress=False), show_progress=False)
documents, scores = index.retrieve(bm25s.tokenize(["zebra"], show_progress=False), k=2, show_progress=False)
print(documents, scores)
assert documents.tolist() == [[2, 1]]
assert scores.tolist() == [[0.0, 0.0]]

words = bm25s.tokenize(["the language C 4 R don't"], return_ids=False, show_progress=False)
print(words)
assert words == [["language", "don"]]
PY
