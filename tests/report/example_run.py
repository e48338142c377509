"""Builds a run directory as a real run leaves it, without running one: same artifacts, plausible figures, seeded.

Per-query scores are drawn first and every mean and interval is computed from them, so the artifacts agree with each
other. Texts are docstrings of the standard library.
"""

from __future__ import annotations

import ast
import json
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multigrain.rundir import RunDirectory

MODULES = (
    "argparse", "bisect", "calendar", "configparser", "csv", "datetime", "decimal", "difflib", "fractions",
    "functools", "heapq", "inspect", "ipaddress", "json", "logging", "mailbox", "pathlib", "pickle", "random",
    "shutil", "socket", "statistics", "string", "tarfile", "tempfile", "textwrap", "threading", "typing", "zipfile",
)  # fmt: skip
REASONS = {
    "round_trip": ("row", "found at rank 38, beyond 20"),
    "duplicate_query": ("row", "same words as another kept query"),
    "query_too_short": ("row", "1 word, fewer than 2"),
    "false_negative": ("level_4", "similarity .71 is not .05 below the positive's .68"),
    "copied_document": ("level_3", "shares 94% of its word trigrams with the positive"),
    "repeated_negative": ("level_2", "same text as level 1"),
}
LEVEL_MEANS = (0.21, 0.33, 0.44, 0.53)


@dataclass(frozen=True)
class ExampleRun:
    """What kind of run to build.

    Attributes:
        rows: kept rows.
        queries: test queries.
        gain: what tuning adds to the score of a query, on average; may be negative.
        forgetting: whether an unrelated set was evaluated.
        text: replaces every string a user, a model or a document wrote; gets the field's name and its usual text.
        candidates: models by name: pooling, schedule, factor on the gain.
    """

    rows: int = 120
    queries: int = 300
    gain: float = 0.035
    forgetting: bool = True
    seed: int = 13
    text: Callable[[str, str], str] = field(default=lambda _, usual: usual)
    candidates: dict[str, tuple[str, str, float]] = field(
        default_factory=lambda: {
            "tuned_ata": ("ata", "coarse-to-fine", 0.7),
            "tuned_mean": ("mean", "coarse-to-fine", 1.0),
            "tuned_in_batch": ("mean", "in-batch", 0.62),
        }
    )
    chosen: str = "tuned_mean"


def build_run(path: Path, spec: ExampleRun | None = None) -> RunDirectory:
    """Write all artifacts of a complete run and return its directory."""
    spec = spec or ExampleRun()
    run = RunDirectory(path)
    path.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(spec.seed)
    documents = _documents()
    run.config_path.write_text(_config(spec), encoding="utf-8")
    _write_documents(run, spec, documents)
    _write_dataset(run, spec, documents, random)
    for name in spec.candidates:
        _write_training_log(run, spec, name, random)
    _write_results(run, spec, documents, random)
    return run


@cache
def _documents() -> tuple[tuple[str, str, str], ...]:
    """(id, summary line, rest of the docstring) of the standard library."""
    found = []
    library = Path(sysconfig.get_paths()["stdlib"])
    for module in MODULES:
        path = library / f"{module}.py"
        path = path if path.exists() else library / module / "__init__.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                summary, _, body = (ast.get_docstring(node) or "").partition("\n")
                if len(body.strip()) > 60 and len(summary) > 12:
                    found.append((f"{module}.{node.name}", summary.strip(), body.strip()))
    return tuple({key: (key, summary, body) for key, summary, body in found}.values())


def _config(spec: ExampleRun) -> str:
    note = spec.text("config", "docstrings of the standard library")
    sets = "\n  sets:\n  - name: perlfaq\n    path: package:perlfaq/beir\n    role: forgetting"
    candidates = "".join(
        f"\n    {name}:\n      pooling: {pooling}\n      schedule: {schedule}"
        for name, (pooling, schedule, _) in spec.candidates.items()
    )
    return (
        f"# {json.dumps(note)}\n"
        f"seed: {spec.seed}\ndocuments:\n  kind: docstrings\nllm:\n  provider: local\n  model: auto\n"
        f"synthesis:\n  strategy: stepwise\n  budget_seconds: 240\n"
        f"training:\n  steps: 120\n  batch_size: 32\n  candidates:{candidates}\n"
        f"evaluation:\n  confidence: 0.95{sets if spec.forgetting else ''}\n"
    )


def _write_documents(run: RunDirectory, spec: ExampleRun, documents: tuple[tuple[str, str, str], ...]) -> None:
    splits = ["test" if i % 5 == 0 else "validation" if i % 10 == 1 else "train" for i in range(len(documents))]
    run.documents_path.parent.mkdir(parents=True)
    pq.write_table(
        pa.table(
            {
                "id": [key for key, _, _ in documents],
                "text": [spec.text("document", body) for _, _, body in documents],
                "title": [spec.text("title", summary) for _, summary, _ in documents],
                "group": list(range(len(documents))),
                "split": splits,
            }
        ),
        run.documents_path,
    )
    counts: dict[str, Any] = {name: splits.count(name) for name in ("train", "validation", "test")}
    counts |= {"documents": len(documents), "groups": len(documents), "too_short": 41, "cut": 2}
    counts["source"] = spec.text("source", "docstrings of installed packages")
    run.finish("documents", "d0" * 32, counts, 4.2)


def _write_dataset(
    run: RunDirectory, spec: ExampleRun, documents: tuple[tuple[str, str, str], ...], random: np.random.Generator
) -> None:
    kept = spec.rows
    written, requested = round(kept / 0.76), round(kept / 0.72)
    run.finish(
        "synthesis",
        "50" * 32,
        {
            "requested": requested,
            "written": written,
            "failed": {
                spec.text("failure", kind): 1 + (requested - written) // 3 for kind in ("empty_answer", "cut_at_limit")
            },
            "prompt_tokens": requested * 310,
            "completion_tokens": requested * 96,
            "model": spec.text("llm", "llama.cpp/smollm2-135m-instruct-q4_1"),
            "strategy": "stepwise",
            "stopped_by_budget": True,
        },
        241.7,
    )
    columns = _graded_columns(spec, documents, random)
    run.dataset_path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), run.dataset_path)
    rejects = _rejects(spec, documents, written - kept, random)
    pq.write_table(pa.Table.from_pylist(rejects), run.rejects_path)
    rejected = {reason: sum(row["reason"] == reason for row in rejects) for reason in REASONS}
    n_written = sum(origin == "written" for level in range(1, 5) for origin in columns[f"origin_{level}"].to_pylist())
    audit = {
        "requested": requested,
        "written": written,
        "kept": kept,
        "negatives_written": n_written,
        "negatives_mined": 4 * kept - n_written,
        "written_candidates": n_written + sum(row["part"] != "row" for row in rejects),
        "rejected": rejected,
        "written_order_held_share": 0.12,
        "reference_model": spec.text("reference", "all-MiniLM-L6-v2"),
        "similarity": {
            name: _statistics(columns[column].to_numpy())
            for name, column in [
                ("positive", "positive_similarity"),
                *((f"level_{level}", f"similarity_{level}") for level in range(1, 5)),
            ]
        },
    }
    run.audit_path.write_text(json.dumps(audit), encoding="utf-8")
    run.finish("dataset", "a1" * 32, {"kept": kept}, 38.4)


def _statistics(values: np.ndarray) -> dict[str, float]:
    p10, p50, p90 = (float(each) for each in np.percentile(values, [10, 50, 90]))
    return {"mean": float(values.mean()), "p10": p10, "p50": p50, "p90": p90}


def _graded_columns(
    spec: ExampleRun, documents: tuple[tuple[str, str, str], ...], random: np.random.Generator
) -> dict[str, pa.Array]:
    picks = random.integers(len(documents), size=(spec.rows, 5))
    positive = np.clip(random.normal(0.66, 0.09, spec.rows), 0.3, 0.95)
    below = np.array(LEVEL_MEANS)[None, :] + random.normal(0, 0.06, (spec.rows, 4)) + (positive[:, None] - 0.66) * 0.6
    similarity = np.minimum(np.sort(below, axis=1), positive[:, None] - 0.05)
    wrote = random.random((spec.rows, 4)) < np.array([0.31, 0.24, 0.17, 0.09])
    columns: dict[str, pa.Array] = {
        "id": pa.array([f"{i:06x}" * 4 for i in range(spec.rows)]),
        "document_id": pa.array([documents[i][0] for i in picks[:, 0]]),
        "query": pa.array([spec.text("query", f"How do I {documents[i][1].lower()}") for i in picks[:, 0]]),
        "positive": pa.array([spec.text("positive", documents[i][2]) for i in picks[:, 0]]),
        "positive_similarity": pa.array(positive, pa.float32()),
        "written_order_held": pa.array(
            [None if not all(row) else bool(random.random() < 0.12) for row in wrote], pa.bool_()
        ),
        "actions": pa.array(
            [
                [spec.text("action", f"refilled:{level + 1}") for level in range(4) if not row[level]]
                + (["relevelled"] if row.sum() > 1 else [])
                for row in wrote
            ],
            pa.list_(pa.string()),
        ),
    }
    for level in range(4):
        texts = [spec.text("negative", documents[i][2]) for i in picks[:, level + 1]]
        columns[f"negative_{level + 1}"] = pa.array(texts)
        columns[f"similarity_{level + 1}"] = pa.array(similarity[:, level], pa.float32())
        columns[f"origin_{level + 1}"] = pa.array(["written" if each else "mined" for each in wrote[:, level]])
        columns[f"written_level_{level + 1}"] = pa.array(
            [int(np.clip(level + random.integers(-1, 2), 0, 3)) + 1 if each else None for each in wrote[:, level]],
            pa.int8(),
        )
    return columns


def _rejects(
    spec: ExampleRun, documents: tuple[tuple[str, str, str], ...], rows: int, random: np.random.Generator
) -> list[dict[str, str]]:
    shares = dict(zip(REASONS, (0.72, 0.2, 0.08, 1.6, 0.9, 0.5), strict=True))
    rejects = []
    for reason, (part, detail) in REASONS.items():
        for _ in range(max(1, round(rows * shares[reason]))):
            key, summary, body = documents[int(random.integers(len(documents)))]
            rejects.append(
                {
                    "id": key,
                    "part": part,
                    "reason": spec.text("reason", reason),
                    "detail": spec.text("detail", detail),
                    "query": spec.text("query", f"How do I {summary.lower()}"),
                    "text": spec.text("rejected", body),
                }
            )
    return rejects


def _write_training_log(run: RunDirectory, spec: ExampleRun, name: str, random: np.random.Generator) -> None:
    pooling, schedule, _ = spec.candidates[name]
    steps = 120
    graded = schedule == "coarse-to-fine"
    history = []
    for step in range(1, steps + 1):
        level = min(4, 1 + (step - 1) * 4 // steps) if graded else None
        floor = 0.34 + (0.14 * (level - 1) if level else 0.02) + (0.5 if pooling == "ata" else 0)
        loss = floor + 1.3 * np.exp(-step / 22) + float(random.normal(0, 0.06))
        warm = min(1.0, step / 12) * min(1.0, (steps - step) / (steps - 12))
        history.append({"step": step, "loss": loss, "learning_rate": 2e-5 * warm, "level": level})
    log = {
        "candidate": name,
        "pooling": spec.text("pooling", pooling),
        "schedule": spec.text("schedule", schedule),
        "steps": steps,
        "batch_size": 32,
        "learning_rate": 2e-5,
        "temperature": 0.05,
        "history": history,
        "seconds": 58.3,
        "boundaries": [{"step": 1 + 30 * i, "level": i + 1} for i in range(4)] if graded else [],
    }
    folder = run.candidate_path(name)
    folder.mkdir(parents=True)
    (folder / "training_log.json").write_text(json.dumps(log), encoding="utf-8")
    run.finish(f"models/{name}", "7e" * 32, {"steps": steps}, 58.3)


@dataclass(frozen=True)
class _SetSpec:
    name: str
    role: str
    label: str
    queries: int
    documents: int
    gain: float
    found_first: float


def _sets(spec: ExampleRun) -> list[_SetSpec]:
    test = _SetSpec("docstrings", "test", "human-written summary lines", spec.queries, 2000, spec.gain, 0.58)
    sets = [replace(test, name="docstrings (validation)", role="validation", queries=spec.queries // 2), test]
    if spec.forgetting:
        sets.append(_SetSpec("perlfaq", "forgetting", "human questions", 300, 303, -0.004, 0.74))
    return sets


def _write_results(
    run: RunDirectory, spec: ExampleRun, documents: tuple[tuple[str, str, str], ...], random: np.random.Generator
) -> None:
    rows: list[dict[str, Any]] = []
    sets = []
    for each in _sets(spec):
        scores, ranks = _draw(each, spec, random)
        models = {
            name: {
                "ndcg_at_10": float(scores[name].mean()),
                "recall_at_10": float(np.mean([rank is not None for rank in ranks[name]])),
            }
            for name in scores
        }
        sets.append(
            {
                "name": spec.text("set", each.name),
                "role": each.role,
                "label": spec.text("label", each.label),
                "queries": each.queries,
                "documents": each.documents,
                "models": models,
                "delta": {name: _delta(scores[name] - scores["base"], random) for name in spec.candidates},
            }
        )
        for name in scores:
            rows += _per_query(spec, each, name, scores[name], ranks[name], documents)
    run.results_path.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), run.results_path / "per_query.parquet")
    evaluation = {
        "chosen": spec.chosen,
        "chosen_by": spec.text("chosen_by", "validation nDCG@10"),
        "models": ["base", *spec.candidates],
        "sets": sets,
        "bootstrap_samples": 10_000,
        "confidence": 0.95,
        "seed": spec.seed,
    }
    (run.results_path / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    anchors = [_anchor(spec, name, text, random) for text in documents[3:60:28] for name in ("base", "tuned_ata")]
    (run.results_path / "anchors.json").write_text(json.dumps(anchors), encoding="utf-8")
    run.finish("results", "e5" * 32, {}, 61.9)


def _draw(
    each: _SetSpec, spec: ExampleRun, random: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, list[int | None]]]:
    """Each query has a difficulty that tuning scales; noise moves the rank of its one relevant document both ways."""
    difficulty = random.exponential(4.5, each.queries) * (random.random(each.queries) > each.found_first)
    scores, ranks = {}, {}
    factors = {"base": 0.0} | {name: factor for name, (_, _, factor) in spec.candidates.items()}
    for name, factor in factors.items():
        noise = random.normal(0, 0.4 + 0.3 * difficulty**0.5)
        easiest, hardest = 0.0, 3.0
        for _ in range(30):  # finds the scaling that gives the gain asked for
            scale = (easiest + hardest) / 2
            rank = 1 + np.maximum(np.round(difficulty * scale + noise), 0).astype(int)
            score = np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0)
            if score.mean() > scores.get("base", score).mean() + each.gain * factor:
                easiest = scale
            else:
                hardest = scale
            if name == "base":
                break
        ranks[name] = [int(value) if value <= 10 else None for value in rank]
        scores[name] = score
    return scores, ranks


def _delta(difference: np.ndarray, random: np.random.Generator) -> dict[str, float]:
    means = difference[random.integers(len(difference), size=(800, len(difference)))].mean(axis=1)
    low, high = (float(each) for each in np.percentile(means, [2.5, 97.5]))
    p_value = float(min(1.0, 2 * min((means <= 0).mean(), (means >= 0).mean()) + 1e-4))
    return {"mean": float(difference.mean()), "low": low, "high": high, "p_value": p_value}


def _per_query(
    spec: ExampleRun,
    each: _SetSpec,
    model: str,
    scores: np.ndarray,
    ranks: list[int | None],
    documents: tuple[tuple[str, str, str], ...],
) -> list[dict[str, Any]]:
    rows = []
    for i, (score, rank) in enumerate(zip(scores, ranks, strict=True)):
        key, summary, _ = documents[i * 7 % len(documents)]
        top = [documents[(i * 7 + 11 * j + 1) % len(documents)][0] for j in range(10)]
        if rank is not None:
            top[rank - 1] = key
        rows.append(
            {
                "set": spec.text("set", each.name),
                "model": model,
                "query_id": f"q{i}",
                "query": spec.text("query", summary),
                "ndcg_at_10": np.float32(score),
                "recall_at_10": np.float32(rank is not None),
                "rank_of_first_relevant": rank,
                "top_ids": top,
                "relevant_ids": [key],
            }
        )
    return rows


def _anchor(spec: ExampleRun, model: str, text: tuple[str, str, str], random: np.random.Generator) -> dict[str, Any]:
    body = " ".join(text[2].split()[:48])
    words = [piece for word in body.split() for piece in ([word[:6], "##" + word[6:]] if len(word) > 9 else [word])]
    tokens = ["[CLS]", *words, "[SEP]"]
    weight = random.exponential(1.0, len(tokens)) ** (0.2 if model == "base" else 1.6)
    weight[0] = weight[1] = weight.max() * 0.9
    weight /= weight.sum()
    return {
        "text": spec.text("anchor_text", body),
        "model": model,
        "tokens": [
            {"token": spec.text("token", token), "weight": float(each)}
            for token, each in zip(tokens, weight, strict=True)
        ],
    }
