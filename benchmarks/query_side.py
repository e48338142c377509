"""Tuning queries alone against tuning both sides: how much of the gain is kept, with no document embedded again.

    python -m benchmarks.query_side [--data benchmarks/data] [--out benchmarks/query-side] [--json]
    python -m benchmarks.query_side --only perlfaq --seeds 1 --pairs 120 --steps 4      # to see that it works

On each set a run is made per seed, from people's queries and the texts that answer them; no language model is asked.
Its queries are split by the seed into training, validation and test. Levels of negatives are mined. Four candidates
are tuned of all-MiniLM-L6-v2: `full` (both sides), `queries` (all weights, queries alone), `lora` (rank 32, queries
alone) and `adapter` (a map behind the base, queries alone; its rank and strength chosen by validation). Sets:
aptsearch (titles of 4,000 Debian package descriptions), boolq (people's questions) and perlfaq; `python -m
benchmarks.build_sets OUT --only …` builds them.

In the JSON, for each set and candidate: nDCG@10 of base and candidate over the test queries of all seeds, and the
paired differences from the base and from `full`, in points, with 95% intervals; one query in the tests of several
seeds counts as one cluster. `kept` is the candidate's gain as a share of `full`'s. Runs are kept in --out: a killed
command continues.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.build_sets import build
from benchmarks.labelled import boolq_training_pairs
from multigrain.config.file import parse_config
from multigrain.display.progress import SilentProgress
from multigrain.evaluation.per_query import QueryRow, read_per_query
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import compare_paired
from multigrain.evaluation.stored import PER_QUERY_FILE
from multigrain.stages import run_stages

SETS: Final = ("aptsearch-4000", "boolq", "perlfaq")
CANDIDATES: Final[dict[str, dict[str, Any]]] = {
    "full": {"side": "both"},
    "queries": {"side": "query"},
    "lora": {"side": "query", "lora": {"r": 32, "alpha": 64}, "learning_rate": [1e-3, 2e-4]},
    "adapter": {"side": "query", "query_adapter": {}},
}
_STAGES: Final = ("documents", "synthesis", "audit", "training", "evaluation")


def pairs_of(name: str, data: Path, most: int) -> list[dict[str, str]]:
    """A seeded sample of a set's queries with the texts that answer them."""
    cache = data / ".cache"
    if name == "boolq":
        found = [{"query": query, "positive": passage} for query, passage in boolq_training_pairs(cache)]
    else:
        if not (data / name / "documents.jsonl").exists():
            build(name, data, cache=cache)
        lines = (data / name / "documents.jsonl").read_text(encoding="utf-8").splitlines()
        documents = [json.loads(line) for line in lines]
        found = [{"query": each["title"], "positive": each["text"]} for each in documents if each["title"]]
    return random.Random(0).sample(found, min(most, len(found)))


def make_run(pairs: Path, folder: Path, *, seed: int, steps: int, batch_size: int) -> list[QueryRow]:
    """Make a run, or what is left of one, and read how every test query came out under every model."""
    config = parse_config(
        {
            "seed": seed,
            "start_from": "pairs",
            "pairs": {"path": str(pairs)},
            "documents": {"validation_share": 0.15, "test_share": 0.35},
            "llm": {"provider": "scripted"},
            "synthesis": {"strategy": "mined-bands"},
            "training": {
                "base_model": "auto",
                "steps": steps,
                "batch_size": batch_size,
                "max_seq_length": 128,
                "candidates": CANDIDATES,
            },
            "evaluation": {"rivals": [], "vector_lengths": []},
        }
    )
    run_stages(config, folder, list(_STAGES), progress=SilentProgress())
    return [row for row in read_per_query(folder / "results" / PER_QUERY_FILE) if row.set == "test"]


def compare(rows: Sequence[tuple[int, QueryRow]]) -> dict[str, Any]:
    """Every candidate against the base and against `full`, over the test queries of all seeds."""
    scores: dict[str, dict[tuple[int, str], float]] = {}
    texts: dict[tuple[int, str], str] = {}
    for seed, row in rows:
        scores.setdefault(row.model, {})[seed, row.query_id] = row.ndcg_at_10
        texts[seed, row.query_id] = row.query
    keys = sorted(texts)
    clusters = [texts[key] for key in keys]
    arrays = {model: np.array([own[key] for key in keys], dtype=np.float64) for model, own in scores.items()}
    gain = float((arrays["full"] - arrays["base"]).mean())
    table: dict[str, Any] = {}
    for name in CANDIDATES:
        table[name] = {"base": float(arrays["base"].mean()), "ndcg_at_10": float(arrays[name].mean())}
        for other in ("base", "full") if name != "full" else ("base",):
            delta = compare_paired(arrays[other], arrays[name], CompareSettings(), clusters)
            points = {key: round(100 * getattr(delta, key), 2) for key in ("mean", "low", "high")}
            table[name][f"against_{other}"] = points
        own = float((arrays[name] - arrays["base"]).mean())
        table[name]["kept"] = round(own / gain, 3) if gain > 0 else None
    return {"queries": len(set(clusters)), "tests": len(keys), "models": table}


def measure(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sets one after another."""
    for name in options.only or SETS:
        pairs = options.out / f"{name}-{options.pairs}.jsonl"
        pairs.parent.mkdir(parents=True, exist_ok=True)
        if not pairs.exists():
            rows = pairs_of(name, options.data, options.pairs)
            pairs.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        started, scored = time.monotonic(), []
        for seed in range(1, options.seeds + 1):
            folder = options.out / f"{name}-{options.pairs}-{options.steps}-seed{seed}"
            made = make_run(pairs, folder, seed=seed, steps=options.steps, batch_size=options.batch_size)
            scored += [(seed, row) for row in made]
            print(f"{name}, seed {seed}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        yield name, {**compare(scored), "seeds": options.seeds, "seconds": round(time.monotonic() - started, 1)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trial and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("benchmarks/data"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/query-side"))
    parser.add_argument("--only", nargs="*", choices=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=2_000, help="queries of a set, at most")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    results = dict(measure(options))
    if options.json:
        print(json.dumps(results, indent=2))
        return 0
    for name, result in results.items():
        for model, row in result["models"].items():
            delta = row["against_base"]
            kept = "" if row["kept"] is None else f", {row['kept']:.0%} of full's gain"
            print(
                f"{name} {model}: {row['base']:.3f} -> {row['ndcg_at_10']:.3f} ({delta['mean']:+.1f} "
                f"[{delta['low']:+.1f}, {delta['high']:+.1f}] points{kept})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
