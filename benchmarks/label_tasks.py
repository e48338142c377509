"""Label tasks: base, tuned in-batch, and tuned on graded labels, on 20 Newsgroups and Reuters.

    python -m benchmarks.label_tasks --json                                   # both sets, 3 seeds
    python -m benchmarks.label_tasks --set reuters --texts 300 --steps 20 --seeds 1    # a look

Texts are queries, and descriptions of topics are the documents. The texts are split by a hash; held-out ones test.
Keys of the JSON object, for each set and model:

    ndcg_at_10, macro_f1      of each seed, 0 to 1
    delta                     against the base, mean over seeds, with a 95% interval (Student's t) from two seeds on
    seed_intervals            of each seed: the paired 95% interval over test texts (nDCG@10)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import stats

from benchmarks.label_texts import LABELS, labelled_texts
from multigrain.config.file import parse_config
from multigrain.evaluation.nearest_label import macro_f1
from multigrain.evaluation.per_query import read_per_query
from multigrain.evaluation.results import read_results
from multigrain.evaluation.stored import PER_QUERY_FILE, RESULTS_FILE
from multigrain.stages import run_stages

ARMS: Final[dict[str, dict[str, Any]]] = {"in_batch": {"schedule": "in-batch"}, "graded": {}}
_STAGES: Final = ["documents", "synthesis", "audit", "teachers", "training", "evaluation"]


def write_inputs(name: str, folder: Path, cache: Path, *, texts: int, seed: int) -> dict[str, str]:
    """A table of labels and one of labelled texts."""
    folder.mkdir(parents=True, exist_ok=True)
    labelled = labelled_texts(name, cache)
    draw = np.random.default_rng(seed)
    chosen = sorted(draw.permutation(len(labelled))[:texts])
    pairs = [labelled[place] for place in chosen]
    _write(folder / "labels.jsonl", [{"label": key, "description": text} for key, text in LABELS[name].items()])
    _write(folder / "texts.jsonl", [{"text": text[:2000], "label": label} for text, label in pairs])
    return {"path": str(folder / "texts.jsonl"), "labels": str(folder / "labels.jsonl")}


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def run_seed(name: str, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One run: all arms on the same texts."""
    folder = given.out / f"{name}-{seed}"
    pairs = write_inputs(name, folder, given.cache, texts=given.texts, seed=seed)
    values: dict[str, Any] = {
        "seed": seed,
        "start_from": "pairs",
        "pairs": pairs,
        "documents": {"min_characters": 1, "validation_share": 0.1, "test_share": 0.4},
        "llm": {"provider": "scripted"},  # nothing is asked of it: texts and labels are given
        "synthesis": {"strategy": "mined-bands", "max_documents": given.training_texts},
        "training": {
            "base_model": given.base,
            "steps": given.steps,
            "batch_size": given.batch_size,
            "max_seq_length": 128,
            "candidates": ARMS,
        },
        "evaluation": {"rivals": [], "seen_documents": False},
    }
    run = run_stages(parse_config(values), folder / "run", _STAGES)
    results = read_results(run.results_path / RESULTS_FILE)
    (test,) = [result for result in results.sets if result.name == "test"]
    f1 = macro_f1(read_per_query(run.results_path / PER_QUERY_FILE))["test"]
    return {
        "queries": test.queries,
        "kept": run.require("dataset", "multigrain audit").counts["kept"],
        "ndcg_at_10": {model: scores.score for model, scores in test.models.items()},
        "macro_f1": {model: figure.value for model, figure in f1.items()},
        "seed_intervals": {model: [delta.low, delta.high] for model, delta in test.delta.items()},
    }


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a set over its seeds."""
    table: dict[str, Any] = {"queries": [run["queries"] for run in runs], "kept": [run["kept"] for run in runs]}
    for model in ("base", *ARMS):
        table[model] = {}
        for measure in ("ndcg_at_10", "macro_f1"):
            values = np.array([run[measure][model] for run in runs])
            gains = values - np.array([run[measure]["base"] for run in runs])
            table[model][measure] = [round(float(value), 4) for value in values]
            table[model][f"{measure}_delta"] = interval(gains)
        if model != "base":
            table[model]["seed_intervals"] = [run["seed_intervals"][model] for run in runs]
    return table


def interval(values: Any) -> dict[str, float | None]:
    """Mean over seeds with its 95% interval by Student's t; without ends where there is one seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": round(mean, 4), "low": None, "high": None}
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=list(LABELS), action="append", help="default: both")
    parser.add_argument("--base", default="auto", help="a base model")
    parser.add_argument("--texts", type=int, default=4000, help="texts that are split")
    parser.add_argument("--training-texts", type=int, default=1000, help="at most, in balanced rounds")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/label-tasks"))
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/data/.cache"))
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    given = parser.parse_args(arguments)
    table = {}
    for name in given.set or list(LABELS):
        runs = []
        for seed in range(1, given.seeds + 1):
            runs.append(run_seed(name, given, seed))
            print(f"{name}, seed {seed}: {json.dumps(runs[-1])}", file=sys.stderr, flush=True)
        table[name] = summary(runs)
    print(json.dumps(table, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
