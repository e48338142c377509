"""Sorting candidates again, against sentence-transformers' own `predict`: `python -m benchmarks.rerank_speed`.

1,000 queries with 200 candidates each (or fewer), of one process on the device at hand: all pairs by
`CrossEncoder.predict`, which sorts by characters and takes so many pairs at a time, and by `pair_logits`, which sorts
by length and takes so many tokens at a time. Both see the same pairs in turn, chunk by chunk, and give the same scores
(largest difference printed). The speed is the ratio of their times, with an interval over the chunks.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.graded_docstrings import graded_docstrings
from multigrain.config import TrainingConfig
from multigrain.encoders.batches import pair_tokens
from multigrain.encoders.cross_encoder import load_cross_encoder, pair_logits
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import mean_interval
from multigrain.model.reranker import build_reranker, save_reranker

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rerank_speed", description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=None, help="a cross-encoder (all-MiniLM-L6-v2 with a random head)")
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--chunk", type=int, default=20, help="queries that both score in turn")
    parser.add_argument("--batch-size", type=int, default=32, help="of predict; its default is 32")
    parser.add_argument("--max-seq-length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = given.model
        if path is None:
            settings = TrainingConfig(kind="reranker", max_seq_length=given.max_seq_length).resolve("tuned")
            save_reranker(build_reranker(settings, seed=given.seed), Path(folder))
            path = folder
        model = load_cross_encoder(path, setting="--model")
    rows = graded_docstrings(4_000, seed=given.seed)
    draw = random.Random(given.seed)
    texts = [row.positive for row in rows]
    asked = [draw.choice(rows).query for _ in range(given.queries)]
    tokens = pair_tokens(model.device)
    times: list[tuple[float, float]] = []
    worst = 0.0
    for start in range(0, len(asked), given.chunk):
        pairs = [
            (query, text)
            for query in asked[start : start + given.chunk]
            for text in draw.sample(texts, min(given.candidates, len(texts)))
        ]

        def theirs(pairs: list[tuple[str, str]] = pairs) -> np.ndarray:
            predicted = model.predict(
                pairs, batch_size=given.batch_size, activation_fn=torch.nn.Identity(), show_progress_bar=False
            )
            return np.asarray(predicted)

        def ours(pairs: list[tuple[str, str]] = pairs) -> np.ndarray:
            return pair_logits(model, pairs, batch_tokens=tokens)

        calls = [theirs, ours] if (start // given.chunk) % 2 == 0 else [ours, theirs]
        taken, scores = {}, {}
        for call in calls:
            started = time.perf_counter()
            scores[call.__name__] = call()
            taken[call.__name__] = time.perf_counter() - started
        times.append((taken["theirs"], taken["ours"]))
        worst = max(worst, float(np.abs(scores["theirs"] - scores["ours"]).max()))
        print(
            f"{start + given.chunk:,} queries: predict {taken['theirs']:.1f} s, ours {taken['ours']:.1f} s", flush=True
        )
    ratios = np.array([theirs / ours for theirs, ours in times])
    total = sum(each for each, _ in times) / sum(each for _, each in times)
    low, high = mean_interval(ratios, CompareSettings()) if len(ratios) > 1 else (total, total)
    pairs_a_second = given.queries * given.candidates / sum(each for _, each in times)
    print(
        f"{model.device}, {torch.get_num_threads()} threads: {total:.2f} times predict (mean over chunks "
        f"{ratios.mean():.2f} [{low:.2f}, {high:.2f}]), {pairs_a_second:,.0f} pairs a second; largest difference of "
        f"log-odds {worst:.1e}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
