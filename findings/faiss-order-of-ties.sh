#!/usr/bin/env bash
# faiss-cpu 1.15.1: IndexFlatIP does not return equal scores in the order of their ids (guessed: lower ids first), so a
# corpus with repeated documents gives another ranking than a stable sort, and another nDCG with ids as tie-break.
# Output seen: [[3 1 0 2]] for rows 0, 1 and 3 that are equal.
source "$(dirname "$0")/_run.sh"
in_environment faiss-cpu==1.15.1 numpy==2.4.6 <<'PY'
import faiss
import numpy as np

index = faiss.IndexFlatIP(2)
index.add(np.array([[1, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32))
scores, rows = index.search(np.array([[1, 0]], dtype=np.float32), 4)
print(rows, scores)
assert scores[0, :3].tolist() == [1.0, 1.0, 1.0]
assert rows[0].tolist() != [0, 1, 3, 2]
assert sorted(rows[0, :3].tolist()) == [0, 1, 3]
PY
