"""What a reranker adds to a tuned embedder: `python -m benchmarks.reranker`.

For each set and seed, one run from people's own pairs (no language model): an embedder, a reranker, and an embedder
that learns from the reranker's scores (not with --without-distilled); then every first stage under the reranker on the
test queries. Sets are built by `python -m benchmarks.build_sets benchmarks/data --only aptsearch-4000 --only pydocs`;
a run that was interrupted goes on with the same command.

Printed, and written to OUT/reranker.json: for every set and seed nDCG@10 of the tuned embedder alone and of the best
and the advised pipeline with paired intervals, the distilled embedder against the plain one, and the seconds that each
training took.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from multigrain.config.file import parse_config
from multigrain.display.progress import SilentProgress
from multigrain.evaluation.deployment import deployment
from multigrain.evaluation.per_query import read_per_query
from multigrain.evaluation.query_changes import clusters_of, pair_queries, rows_by_query, scores_of
from multigrain.evaluation.results import read_results
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import compare_paired
from multigrain.stages.run import run_stages
from multigrain.storage.rundir import RunDirectory

__all__ = ["main"]

_DISTILLED: Final = {"loss": "distil", "teacher": {"candidate": "reranker"}}
_STAGES: Final = ("documents", "synthesis", "audit", "teachers", "training", "evaluation", "report")


def config_of(data: Path, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """The run's config: pairs in, hard negatives mined, three candidates."""
    return {
        "seed": seed,
        "start_from": "pairs",
        "pairs": {"path": str(data), "kind": "beir", "split": "train", "limit": given.pairs},
        "documents": {
            "path": str(data / "corpus.jsonl"),
            "id_field": "_id",
            "title_field": None,
            "min_characters": 1,
            "validation_share": 0,
            "test_share": 0,
        },
        "llm": {"provider": "scripted"},
        "synthesis": {"strategy": "mined-bands"},
        "audit": {"candidates": 4},
        "training": {
            "base_model": given.base,
            "max_seq_length": 128,
            "batch_size": 32,
            "steps": given.embedder_steps,
            "learning_rate": 2e-5,
            "candidates": {
                "tuned": {},
                "reranker": {
                    "kind": "reranker",
                    "base_model": given.reranker_base,
                    "max_seq_length": 192,
                    "steps": given.steps,
                    "batch_size": given.batch,
                    "learning_rate": given.rate,
                    "loss": given.loss,
                    "schedule": given.schedule,
                },
                **({"distilled": _DISTILLED} if given.distilled else {}),
            },
        },
        "evaluation": {
            "queries": "none",
            "rivals": [],
            "vector_lengths": [],
            "sets": [
                {"name": "test", "path": str(data / "qrels/test.tsv"), "max_queries": given.queries},
                {
                    "name": "choice",
                    "path": str(data / "qrels/validation.tsv"),
                    "role": "validation",
                    "max_queries": given.queries,
                },
            ],
            "reranking": {"depths": given.depths, "max_queries": None},
        },
    }


def figures(run: RunDirectory, seed: int) -> dict[str, Any]:
    """What a finished run measured."""
    results = read_results(run.results_path / "evaluation.json")
    (table,) = results.reranking
    chosen = deployment(table, confidence=results.confidence).pipeline
    under = [each for each in table.pipelines if each.first_stage == table.reference and each.reranker]
    best = max(under, key=lambda each: each.score)
    rows = rows_by_query(read_per_query(run.results_path / "per_query.parquet"))
    distilled = None
    if "distilled" in results.models:
        pairs = pair_queries(rows, set_name="choice", base="tuned", model="distilled")
        distilled = asdict(compare_paired(*scores_of(pairs), CompareSettings(seed=seed), clusters_of(pairs)))
    test = {name: (scores.score) for name, scores in results.sets[0].models.items()} if results.sets else {}
    manifests = {name: run.manifest(f"models/{name}") for name in ("tuned", "reranker", "distilled")}
    return {
        "queries": table.queries,
        "documents": table.documents,
        "first_stage": table.reference,
        "alone": table.alone.score,
        "pipelines": [{"name": each.name, **asdict(each)} for each in table.pipelines],
        "best": best.name,
        "gain": asdict(best.over) if best.over is not None else None,
        "deploy": chosen.name,
        "distilled_on_validation": distilled,
        "models": test,
        "seconds": {name: manifest.seconds for name, manifest in manifests.items() if manifest is not None},
    }


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reranker", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("benchmarks/data"), help="folder of the sets")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/runs/reranker"), help="folder of the runs")
    parser.add_argument("--sets", default="aptsearch-4000,pydocs", help="names of sets, with commas")
    parser.add_argument("--seeds", default="1,2,3", help="seeds, with commas")
    parser.add_argument("--pairs", type=int, default=1_500, help="training queries")
    parser.add_argument("--queries", type=int, default=200, help="test queries, and validation queries")
    parser.add_argument("--base", default="auto", help="the embedder that is tuned")
    parser.add_argument("--reranker-base", default="candidate:tuned", help="what the reranker is tuned from")
    parser.add_argument("--embedder-steps", type=int, default=96)
    parser.add_argument("--steps", type=int, default=300, help="of the reranker")
    parser.add_argument("--batch", type=int, default=16, help="queries a step of the reranker")
    parser.add_argument("--rate", type=float, default=1e-4, help="the reranker's peak learning rate")
    parser.add_argument("--loss", default="lambda")
    parser.add_argument("--schedule", default="listwise")
    parser.add_argument(
        "--without-distilled", dest="distilled", action="store_false", help="train no embedder on its scores"
    )
    parser.add_argument("--depths", type=lambda text: list(map(int, text.split(","))), default=[10, 30, 100])
    given = parser.parse_args(arguments)
    found: dict[str, dict[str, Any]] = {}
    for name in given.sets.split(","):
        for seed in map(int, given.seeds.split(",")):
            config = parse_config(config_of((given.data / name).resolve(), seed, given))
            run = run_stages(config, given.out / f"{name}-{seed}", _STAGES, progress=SilentProgress())
            seen = found.setdefault(name, {})[str(seed)] = figures(run, seed)
            gain = seen["gain"]
            print(
                f"{name} seed {seed}: {seen['first_stage']} alone {seen['alone']:.3f}; best {seen['best']} "
                f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}] points; "
                f"deploy {seen['deploy']}; trained in {seen['seconds']['reranker']:.0f} s",
                flush=True,
            )
        gains = [seen["gain"]["mean"] for seen in found[name].values()]
        print(f"{name}: mean over {len(gains)} seeds {100 * fmean(gains):+.2f} points", flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "reranker.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
