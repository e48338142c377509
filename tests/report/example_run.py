"""Builds a run directory as a real run leaves it, without running one: same artifacts, plausible figures, seeded.

Ranks are drawn, and the product's own functions measure, summarise and write all that follows from them. Texts are
docstrings of the standard library.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from multigrain.audit.probe import SourceProbe
from multigrain.audit.run import AuditResult
from multigrain.audit.summary import summarise
from multigrain.curriculum.schedule import Boundary
from multigrain.dataset.store import write_examples, write_rejections
from multigrain.encoders.facts import EncodingFacts, ModelCost
from multigrain.encoders.models import ModelSpec, parse_model
from multigrain.evaluation.per_query import QueryRow, query_rows, write_per_query
from multigrain.evaluation.query_kinds import query_kinds, slice_sets
from multigrain.evaluation.results import CHOSEN_BY, EvaluationResults, summarise_set, write_results
from multigrain.evaluation.retrieval import SetScores, score_ranking
from multigrain.evaluation.rivals import ScoredRivals
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, Role
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.vector_sizes import SizeTable, VectorSize
from multigrain.llm.answers import parse_answer
from multigrain.llm.protocol import UnusableAnswer
from multigrain.records import LEVELS, Document, GradedExample, Level, Negative, Origin, Rejection, Split
from multigrain.sources.store import write_document_table
from multigrain.storage.rundir import RunDirectory
from multigrain.training.curves import CurvePoint, SimilarityCurves
from multigrain.training.log import TrainingLog, TrainingStep
from multigrain.training.notices import notices_of

MODULES = (
    "argparse", "bisect", "calendar", "configparser", "csv", "datetime", "decimal", "difflib", "fractions",
    "functools", "heapq", "inspect", "ipaddress", "json", "logging", "mailbox", "pathlib", "pickle", "random",
    "shutil", "socket", "statistics", "string", "tarfile", "tempfile", "textwrap", "threading", "typing", "zipfile",
)  # fmt: skip
REASONS = {
    "round_trip": ("row", "38 documents are nearer than its own"),
    "duplicate_query": ("row", "another row has the same query"),
    "too_short": ("row", "1 words, at least 2"),
    "false_negative": ("level_4", "similarity 0.71, its positive 0.68"),
    "copied_document": ("level_3", "94% of its word trigrams stand in the positive"),
    "repeated": ("level_2", "another level of the row has the same text"),
}
LEVEL_MEANS = (0.21, 0.33, 0.44, 0.53)
_SAMPLES = 2_000
_LEFT_OUT = "1 of 6 judgments left out: they name documents that are not there"


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
    splits = [
        Split.TEST if i % 5 == 0 else Split.VALIDATION if i % 10 == 1 else Split.TRAIN for i in range(len(documents))
    ]
    write_document_table(
        run.documents_path,
        (
            Document(
                id=key, text=spec.text("document", body), title=spec.text("title", summary), group=i, split=splits[i]
            )
            for i, (key, summary, body) in enumerate(documents)
        ),
    )
    counts: dict[str, Any] = {str(split): splits.count(split) for split in Split}
    counts |= {"documents": len(documents), "groups": len(documents), "too_short": 41, "cut": 2}
    counts["source"] = spec.text("source", "docstrings of installed packages")
    run.finish("documents", "d0" * 32, counts, 4.2)


class _Row(BaseModel):
    query: str


def _failure_kinds() -> Iterator[str]:
    """What the reader of answers calls an answer that is cut, one that refuses, and one in another form."""
    for text, cut in (("", True), ("I'm sorry, but as an AI I cannot help with that.", False), ('{"a": 1}', False)):
        try:
            parse_answer(text, _Row, cut=cut)
        except UnusableAnswer as unusable:
            yield unusable.kind


def _write_dataset(
    run: RunDirectory, spec: ExampleRun, documents: tuple[tuple[str, str, str], ...], random: np.random.Generator
) -> None:
    kept = spec.rows
    written, requested = round(kept / 0.76), round(kept / 0.72)
    run.finish(
        "synthesis",
        "50" * 32,
        {
            "planned": 2 * requested,
            "requested": requested,
            "written": written,
            "failed": {spec.text("failure", kind): 1 + (requested - written) // 3 for kind in _failure_kinds()},
            "prompt_tokens": requested * 310,
            "completion_tokens": requested * 96,
            "model": spec.text("llm", "llama.cpp/smollm2-135m-instruct-q4_1"),
            "strategy": "stepwise",
            "stopped_by_budget": True,
            "cost": 0.4217,
        },
        241.7,
    )
    examples = _examples(spec, documents, random)
    write_examples(run.dataset_path, examples)
    rejections = _rejections(spec, documents, written - kept, random)
    write_rejections(run.rejects_path, rejections)
    negatives = [negative for example in examples for negative in example.negatives]
    n_written = sum(negative.origin is Origin.WRITTEN for negative in negatives)
    probe = SourceProbe(
        auc=0.913,
        low=0.884,
        high=0.94,
        features="characters",
        by_feature={"characters": 0.913, "embeddings": 0.871, "length": 0.64},
        written=n_written,
        mined=n_written,
        warns=True,
        threshold=0.75,
        written_share=n_written / (4 * kept),
        advised_share=None,
    )
    looked_at = n_written + sum(each.part != "row" for each in rejections)
    audit = summarise(
        AuditResult(examples, rejections, looked_at),
        requested=requested,
        written=written,
        reference_model=spec.text("reference", "all-MiniLM-L6-v2"),
        probe=probe,
    )
    run.audit_path.write_text(json.dumps(audit), encoding="utf-8")
    run.finish("dataset", "a1" * 32, {"kept": kept}, 38.4)


def _examples(
    spec: ExampleRun, documents: tuple[tuple[str, str, str], ...], random: np.random.Generator
) -> list[GradedExample]:
    picks = random.integers(len(documents), size=(spec.rows, 5))
    positive = np.clip(random.normal(0.66, 0.09, spec.rows), 0.3, 0.95)
    below = np.array(LEVEL_MEANS)[None, :] + random.normal(0, 0.06, (spec.rows, 4)) + (positive[:, None] - 0.66) * 0.6
    similarity = np.minimum(np.sort(below, axis=1), positive[:, None] - 0.05)
    wrote = random.random((spec.rows, 4)) < np.array([0.31, 0.24, 0.17, 0.09])
    asked = np.clip(np.arange(1, 5) + random.integers(-1, 2, (spec.rows, 4)), 1, 4)
    examples = []
    for i, (own, *others) in enumerate(picks):
        negatives = []
        actions = []
        for level, other in zip(LEVELS, others, strict=True):
            column = int(level) - 1
            by_model = bool(wrote[i, column])
            if not by_model:
                actions.append(spec.text("action", f"refilled:{int(level)}"))
            elif asked[i, column] != level:
                actions.append(f"relevelled:{asked[i, column]}>{int(level)}")
            negatives.append(
                Negative(
                    text=spec.text("negative", documents[other][2]),
                    level=level,
                    origin=Origin.WRITTEN if by_model else Origin.MINED,
                    similarity=float(similarity[i, column]),
                    written_level=Level(asked[i, column]) if by_model else None,
                )
            )
        key, summary, body = documents[own]
        examples.append(
            GradedExample(
                id=f"{spec.text('id', hashlib.sha256(f'{spec.seed}:{i}'.encode()).hexdigest())}{i}",
                document_id=spec.text("document_id", key),
                query=spec.text("query", f"How do I {summary.lower()}"),
                positive=spec.text("positive", body),
                negatives=tuple(negatives),
                positive_similarity=float(positive[i]),
                written_order_held=bool(random.random() < 0.12) if wrote[i].sum() > 2 else None,
                actions=tuple(actions),
            )
        )
    return examples


def _rejections(
    spec: ExampleRun, documents: tuple[tuple[str, str, str], ...], rows: int, random: np.random.Generator
) -> list[Rejection]:
    shares = dict(zip(REASONS, (0.72, 0.2, 0.08, 1.6, 0.9, 0.5), strict=True))
    rejections = []
    for reason, (part, detail) in REASONS.items():
        for _ in range(max(1, round(rows * shares[reason]))):
            key, summary, body = documents[int(random.integers(len(documents)))]
            rejections.append(
                Rejection(
                    id=key,
                    part=part,
                    reason=spec.text("reason", reason),
                    detail=spec.text("detail", detail),
                    query=spec.text("query", f"How do I {summary.lower()}"),
                    text=spec.text("rejected", body),
                )
            )
    return rejections


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
        history.append(TrainingStep(step, loss, 2e-5 * warm, level))
    log = TrainingLog(
        candidate=name,
        pooling=spec.text("pooling", pooling),
        schedule=spec.text("schedule", schedule),
        steps=steps,
        batch_size=32,
        learning_rate=2e-5,
        temperature=0.05,
        precision="float32",
        rows=spec.rows,
        history=tuple(history),
        boundaries=tuple(Boundary(1 + 30 * i, i + 1) for i in range(4)) if graded else (),
        seconds=58.3,
        weights_moved=0.0024,
        curves=_curves(spec, steps),
    )
    log = replace(log, notices=notices_of(log))
    log.save(run.candidate_path(name) / "training_log.json")
    run.finish(f"models/{name}", "7e" * 32, {"steps": steps}, 58.3)


def _curves(spec: ExampleRun, steps: int) -> SimilarityCurves:
    """Positives lose a little similarity, negatives more of it."""

    def point(step: int) -> CurvePoint:
        share = step / steps
        positive = 0.71 - 0.05 * share
        levels = tuple(mean - (0.06 + 0.02 * level) * share for level, mean in enumerate(LEVEL_MEANS))
        margins = tuple(positive - level for level in levels)
        return CurvePoint(step, positive, levels, margins, 0.8 + 0.1 * share, 0.7 + 0.1 * share, 0.03 * share)

    return SimilarityCurves(
        sample=spec.text("sample", "validation queries (human-written summary lines)"),
        held_out=True,
        rows=32,
        documents=64,
        points=tuple(point(step) for step in range(0, steps + 1, 30)),
    )


@dataclass(frozen=True)
class _SetSpec:
    name: str
    role: Role
    provenance: str
    queries: int
    gain: float
    found_first: float


def _sets(spec: ExampleRun) -> list[_SetSpec]:
    test = _SetSpec("docstrings", "test", "human-written summary lines", spec.queries, spec.gain, 0.58)
    sets = [replace(test, name="docstrings (validation)", role="validation", queries=spec.queries // 2), test]
    if spec.forgetting:
        sets.append(_SetSpec("perlfaq", "forgetting", "human questions", 300, -0.004, 0.74))
    return sets


def _write_results(
    run: RunDirectory, spec: ExampleRun, documents: tuple[tuple[str, str, str], ...], random: np.random.Generator
) -> None:
    rows: list[QueryRow] = []
    results, slices = [], ()
    settings = CompareSettings(samples=_SAMPLES, seed=spec.seed)
    specs = [
        parse_model("bm25"),
        parse_model("hybrid"),
        ModelSpec(spec.text("rival", "a stronger model"), "hub/model"),
    ]
    gone = ModelSpec(spec.text("rival", "a model of the moon"), "hub/moon")
    beside = ScoredRivals(skipped={gone.name: spec.text("skipped", "it is nowhere to be had")})
    own: dict[str, dict[str, SetScores]] = {}
    tests: dict[str, EvaluationSet] = {}
    drawing = np.random.default_rng(spec.seed + 1)
    for each in _sets(spec):
        evaluation_set, positions = _evaluation_set(each, spec, documents)
        ranks = _draw(each, spec, random)
        scores = {name: score_ranking(_ranking(positions, ranks[name], documents), evaluation_set) for name in ranks}
        summary = summarise_set(evaluation_set, scores, settings)
        if each.role == "test":
            own[evaluation_set.name], tests[evaluation_set.name] = scores, evaluation_set
            for rival, worst in zip(specs, (6, 3, 1), strict=True):
                drawn = np.maximum(ranks["base"] + drawing.integers(-3, worst, each.queries), 1)
                scored = score_ranking(_ranking(positions, drawn, documents), evaluation_set)
                beside.scores[rival.name] = {evaluation_set.name: scored}
                beside.costs[rival.name] = ModelCost(None, None, 9_000.0, 200_000, 1_500_000_000)
            beside.costs[specs[-1].name] = ModelCost(33_400_000, 384, 41.5, 133_600_000, 1_536_000_000)
        notes = (spec.text("note", _LEFT_OUT),) if each.role == "test" else ()
        results.append(replace(summary, notes=notes))
        if each.role == "test":
            evaluation_set = replace(evaluation_set, kinds={spec.text("kind", "team"): _teams(evaluation_set, spec)})
            compared = {name: scores[name] for name in dict.fromkeys(("base", _tested(spec)))}
            kinds = query_kinds(evaluation_set, set(list(evaluation_set.queries)[:20]))
            slices = slice_sets([(evaluation_set, kinds, compared)], settings, base="base")
        for name, model_scores in scores.items():
            rows += query_rows(evaluation_set, name, model_scores)
    write_per_query(run.results_path / "per_query.parquet", rows)
    evaluation = EvaluationResults(
        chosen=spec.chosen,
        chosen_by=spec.text("chosen_by", CHOSEN_BY),
        models=("base", *spec.candidates),
        sets=tuple(results),
        bootstrap_samples=_SAMPLES,
        confidence=0.95,
        seed=spec.seed,
        vector_sizes=_vector_sizes(spec),
        slices=slices,
        facts={
            name: EncodingFacts("mean", max_tokens=256, dtype="float32", query_prompt=spec.text("prompt", "query: "))
            for name in ("base", *spec.candidates)
        },
        rivals=beside.rivals([*specs, gone], tests, own, ("base", spec.chosen), settings),
        costs={"base": ModelCost(22_700_000, 384, 96.0, 90_900_000, 1_536_000_000)} | beside.costs,
    )
    write_results(run.results_path / "evaluation.json", evaluation)
    anchors = [_anchor(spec, name, text, random) for text in documents[3:60:28] for name in ("base", "tuned_ata")]
    (run.results_path / "anchors.json").write_text(json.dumps(anchors), encoding="utf-8")
    run.finish("results", "e5" * 32, {}, 61.9)


def _tested(spec: ExampleRun) -> str:
    return spec.chosen if spec.chosen != "base" else next(iter(spec.candidates))


def _teams(evaluation_set: EvaluationSet, spec: ExampleRun) -> dict[str, str]:
    return {
        key: spec.text("team", "sales") if row % 3 else "support" for row, key in enumerate(evaluation_set.queries)
    }


def _vector_sizes(spec: ExampleRun) -> tuple[SizeTable, ...]:
    sizes = [VectorSize(384, "float32", False, 1536, 0.708, None, None, True)]
    for length, precision, rescored, size, loss in (
        (384, "float16", False, 768, 0.0),
        (384, "int8", True, 384, -0.001),
        (192, "int8", True, 192, -0.021),
        (384, "binary", False, 48, -0.052),
    ):
        difference = PairedDifference(loss, loss * 1.4 - 0.002, loss * 0.6 + 0.002, 0.001)
        enough = difference.low > -0.01
        sizes.append(VectorSize(length, precision, rescored, size, 0.708 + loss, difference, 0.004, enough))
    names = spec.text("set", "docstrings"), spec.chosen
    return (SizeTable(*names, spec.queries, spec.queries - 3, 120, False, 0.01, (), tuple(sizes)),)


def _evaluation_set(
    each: _SetSpec, spec: ExampleRun, documents: tuple[tuple[str, str, str], ...]
) -> tuple[EvaluationSet, dict[str, int]]:
    """The set, and the position of each query's one relevant document."""
    own = {f"q{i}": i * 7 % len(documents) for i in range(each.queries)}
    evaluation_set = EvaluationSet(
        name=spec.text("set", each.name),
        role=each.role,
        provenance=spec.text("label", each.provenance),
        corpus={key: body for key, _, body in documents},
        queries={query: spec.text("query", documents[position][1]) for query, position in own.items()},
        qrels={query: {documents[position][0]: 1} for query, position in own.items()},
    )
    return evaluation_set, own


def _ranking(
    own: dict[str, int], ranks: np.ndarray, documents: tuple[tuple[str, str, str], ...]
) -> dict[str, list[str]]:
    """A hundred documents a query, its own among them where its rank allows."""
    ranking = {}
    for (query, position), rank in zip(own.items(), ranks, strict=True):
        found = [documents[(position + 1 + step) % len(documents)][0] for step in range(100)]
        if rank <= 100:
            found[rank - 1] = documents[position][0]
        ranking[query] = found
    return ranking


def _draw(each: _SetSpec, spec: ExampleRun, random: np.random.Generator) -> dict[str, np.ndarray]:
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
        ranks[name], scores[name] = rank, score
    return ranks


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
