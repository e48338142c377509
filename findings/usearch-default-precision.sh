#!/usr/bin/env bash
# usearch 2.26.6: an index that names no dtype keeps bfloat16 (guessed: float32), on processors without bfloat16 too:
# of 1,000 random 64-d vectors under the metric "ip", scores are off by up to about one percent.
# A batch search for more neighbours than there are keys fills the rest of each row with key 0, a valid key; only
# `counts` tells (guessed: shorter rows, or a key that is none).
# Output seen: BF16, error .01 to .1 on scores of size 64; keys [[2 1 0 0 0]], counts [3].
source "$(dirname "$0")/_run.sh"
in_environment usearch==2.26.6 numpy==2.4.6 <<'PY'
import numpy as np
from usearch.index import Index, ScalarKind

vectors = np.random.default_rng(0).standard_normal((1000, 64)).astype(np.float32)
index = Index(ndim=64, metric="ip")
print(index.dtype)
assert index.dtype == ScalarKind.BF16
index.add(np.arange(1000), vectors)
matches = index.search(vectors[0], 5, exact=True)
true = 1 - vectors[matches.keys] @ vectors[0]
error = float(np.abs(true - matches.distances).max())
print("largest error of a score", error)
assert error > 1e-3

small = Index(ndim=2, metric="ip", dtype="f32")
small.add(np.arange(3), np.array([[1, 0], [2, 0], [3, 0]], dtype=np.float32))
batch = small.search(np.array([[1, 0], [1, 0]], dtype=np.float32), 5)
print(batch.keys, batch.counts)
assert batch.keys.shape == (2, 5)
assert batch.counts.tolist() == [3, 3]
assert batch.keys[0].tolist() == [2, 1, 0, 0, 0]
PY
