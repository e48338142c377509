"""Read a run directory's artifacts into `ReportData`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from pydantic import TypeAdapter, ValidationError

from multigrain.dataset.store import GRADED_SCHEMA, read_examples
from multigrain.errors import RunDirectoryError
from multigrain.records import LEVELS, GradedExample, Origin
from multigrain.report.data import (
    AnchorText,
    AuditSummary,
    DocumentCounts,
    Drop,
    DropExample,
    Evaluation,
    EvaluationSet,
    Interval,
    ModelScore,
    QueryChanges,
    ReportData,
    Reproduction,
    Similarity,
    StageTime,
    SynthesisCounts,
)
from multigrain.report.summaries import QueryOutcome, compare_queries, spread, summarise_similarity
from multigrain.rundir import RunDirectory, StageManifest
from multigrain.training.log import TrainingLog

__all__ = ["load_report_data"]

_BASE = "base"
_SAMPLES = 6
_EXAMPLES = 3
_EXCERPT = 220  # characters of a document shown beside a query

T = TypeVar("T")


def load_report_data(run: RunDirectory) -> ReportData:
    """Read everything the report shows.

    Only the evaluation must be there. Whatever else is missing (no synthesis, no anchors, no set to check for
    forgetting) leaves its section out.

    Raises:
        StageOrderError: the run has not been evaluated yet.
        RunDirectoryError: an artifact is there but cannot be understood.
    """
    finished = run.require("results", "multigrain evaluate")
    evaluation = _evaluation(run.results_path / "evaluation.json")
    config = _config_text(run.config_path)
    rows = _rows(run.dataset_path)
    return ReportData(
        title=run.path.resolve().name,
        evaluated_at=finished.finished_at,
        evaluation=evaluation,
        changes=_changes(run, evaluation, config),
        documents=_counts(run, "documents", DocumentCounts),
        synthesis=_counts(run, "synthesis", SynthesisCounts),
        audit=_json(run.audit_path, AuditSummary),
        drops=_drops(run.rejects_path),
        similarity=_similarity(rows),
        rows=rows,
        samples=tuple(rows[i] for i in spread(len(rows), _SAMPLES)),
        training=tuple(
            log
            for name in evaluation.models
            if (log := _json(run.candidate_path(name) / "training_log.json", TrainingLog)) is not None
        ),
        anchors=_json(run.results_path / "anchors.json", tuple[AnchorText, ...]) or (),
        reproduction=_reproduction(run, evaluation, config, finished),
    )


def _read_json(path: Path) -> Any | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _not_understood(path, error) from None


def _json(path: Path, kind: type[T]) -> T | None:
    values = _read_json(path)
    return None if values is None else _parse(path, kind, values)


def _parse(path: Path, kind: type[T], values: Any) -> T:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _not_understood(path, f"{place}: {first['msg']}") from None


def _counts(run: RunDirectory, stage: str, kind: type[T]) -> T | None:
    manifest = run.manifest(stage)
    return None if manifest is None else _parse(run.path / stage / "manifest.json", kind, manifest.counts)


def _not_understood(path: Path, problem: object) -> RunDirectoryError:
    return RunDirectoryError(f"{path}: not in the form of this version ({problem}): run the stage that wrote it again")


def _evaluation(path: Path) -> Evaluation:
    values = _read_json(path)
    if values is None:
        raise RunDirectoryError(f"{path}: missing, though marked complete: `multigrain evaluate` writes it")
    try:
        sets = [_evaluation_set(each, values["models"]) for each in values["sets"]]
        return _parse(path, Evaluation, {**values, "sets": sets})
    except (KeyError, TypeError, AttributeError) as error:
        raise _not_understood(path, repr(error)) from None


def _evaluation_set(values: Mapping[str, Any], models: Collection[str]) -> EvaluationSet:
    scores = [
        ModelScore(
            name=name,
            score=values["models"][name]["score"],
            recall_at_10=values["models"][name]["recall_at_10"],
            delta=_interval(values["delta"].get(name)),
        )
        for name in models
        if name in values["models"]
    ]
    return EvaluationSet(
        name=values["name"],
        role=values["role"],
        label=values["label"],
        queries=values["queries"],
        documents=values["documents"],
        scores=tuple(scores),
        metric=values.get("metric", "nDCG@10"),
    )


def _interval(values: Mapping[str, Any] | None) -> Interval | None:
    if values is None:
        return None
    return Interval(mean=values["mean"], low=values["low"], high=values["high"], p_value=values.get("p_value"))


def _table(path: Path, columns: list[str], **options: Any) -> pa.Table | None:
    """Some columns of a Parquet file, or None where there is no such file."""
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path, columns=columns, **options)
    except (OSError, pa.ArrowInvalid) as error:
        raise _not_understood(path, str(error).splitlines()[0]) from None
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise _not_understood(path, f"no column {', '.join(missing)}")
    return table


def _changes(run: RunDirectory, evaluation: Evaluation, config: str | None) -> tuple[QueryChanges, ...]:
    if evaluation.chosen == _BASE:
        return ()
    columns = ["set", "model", "query_id", "query", "ndcg_at_10", "rank_of_first_relevant", "top_ids", "relevant_ids"]
    table = _table(
        run.results_path / "per_query.parquet", columns, filters=[("model", "in", [_BASE, evaluation.chosen])]
    )
    if table is None:
        return ()
    outcomes: dict[tuple[str, str], dict[str, QueryOutcome]] = {}
    for set_name, model, key, query, ndcg, rank, top, relevant in zip(
        *(table[column].to_pylist() for column in columns), strict=True
    ):
        outcomes.setdefault((set_name, model), {})[key] = QueryOutcome(
            query=query, ndcg=ndcg, rank=rank, top_id=top[0] if top else None, relevant_ids=tuple(relevant)
        )
    foreign = _foreign_sets(config)
    changes = []
    for each in evaluation.sets:
        base, chosen = (outcomes.get((each.name, model)) for model in (_BASE, evaluation.chosen))
        if base and chosen:
            # Ids of other sets may happen to be ids of this run's documents, so only its own sets are looked up.
            look_up = _no_texts if foreign is None or each.name in foreign else _look_up(run.documents_path)
            changes.append(compare_queries(each.name, base, chosen, look_up))
    return tuple(changes)


def _foreign_sets(config: str | None) -> set[str] | None:
    """Names of the evaluation sets that do not come from the run's own documents; None where that is unknown."""
    values = _config_values(config)
    if not values:
        return None
    return {str(each.get("name")) for each in (values.get("evaluation") or {}).get("sets") or []}


def _no_texts(_: Collection[str]) -> dict[str, str]:
    return {}


def _look_up(path: Path) -> Any:
    def texts(ids: Collection[str]) -> dict[str, str]:
        wanted = pa.array(sorted(ids), pa.string())
        table = _table(path, ["id", "text"], filters=pc.is_in(pc.field("id"), wanted))
        if table is None:
            return {}
        return {
            key: _excerpt(text) for key, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
        }

    return texts


def _excerpt(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _EXCERPT else flat[:_EXCERPT].rsplit(" ", 1)[0] + " …"


def _drops(path: Path) -> tuple[Drop, ...]:
    table = _table(path, ["part", "reason", "detail", "query", "text"])
    if table is None:
        return ()
    by_reason: dict[str, list[dict[str, str]]] = {}
    for row in table.to_pylist():
        by_reason.setdefault(row["reason"], []).append(row)
    drops = [
        Drop(
            reason=reason,
            rows=sum(row["part"] == "row" for row in rows),
            negatives=sum(row["part"] != "row" for row in rows),
            examples=tuple(
                DropExample(query=row["query"], part=row["part"], text=row["text"], detail=row["detail"])
                for row in (rows[i] for i in spread(len(rows), _EXAMPLES))
            ),
        )
        for reason, rows in by_reason.items()
    ]
    return tuple(sorted(drops, key=lambda drop: (-drop.rows, -drop.negatives, drop.reason)))


def _rows(path: Path) -> tuple[GradedExample, ...]:
    if not path.is_file():
        return ()
    try:
        missing = set(GRADED_SCHEMA.names) - set(pq.read_schema(path).names)
        if missing:
            raise _not_understood(path, f"no column {', '.join(sorted(missing))}")
        return read_examples(path)
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise _not_understood(path, str(error).splitlines()[0]) from None


def _similarity(rows: Sequence[GradedExample]) -> Similarity | None:
    negatives = [row.negatives for row in rows]
    return summarise_similarity(
        np.array([row.positive_similarity for row in rows], dtype=np.float32),
        np.array([[each.similarity for each in four] for four in negatives], dtype=np.float32).reshape(
            -1, len(LEVELS)
        ),
        np.array([[each.origin is Origin.WRITTEN for each in four] for four in negatives]).reshape(-1, len(LEVELS)),
    )


def _reproduction(
    run: RunDirectory, evaluation: Evaluation, config: str | None, finished: StageManifest
) -> Reproduction:
    values = _config_values(config)
    models = (f"models/{name}" for name in evaluation.models)
    stages = ["documents", "synthesis", "dataset", "models", *models, "results"]
    manifests = [(stage, run.manifest(stage)) for stage in stages]
    release = finished.versions.get("multigrain")
    extra = "[local]" if (values.get("llm") or {}).get("provider", "local") == "local" else ""
    seed = values.get("seed")
    return Reproduction(
        config=config,
        seed=seed if isinstance(seed, int) else None,
        install=f'pip install "multigrain{extra}' + (f'=={release}"' if release else '"'),
        command="multigrain run config.yaml",
        versions=finished.versions,
        stages=tuple(
            StageTime(
                stage=stage,
                seconds=manifest.seconds,
                finished_at=manifest.finished_at,
                fingerprint=manifest.fingerprint,
            )
            for stage, manifest in manifests
            if manifest is not None
        ),
    )


def _config_text(path: Path) -> str | None:
    """The config without credentials: a page is passed around more freely than a run directory."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _not_understood(path, error) from None
    text = re.sub(r"://[^/\s@]+@", "://…@", text)
    return re.sub(r"(?i)([?&][\w-]*(?:key|token|secret|sig)[\w-]*=)[^&\s'\"]+", r"\1…", text)


def _config_values(config: str | None) -> dict[str, Any]:
    try:
        values = yaml.safe_load(config or "")
    except yaml.YAMLError:
        return {}  # shown as it is; a config that cannot be read decides nothing here
    return values if isinstance(values, dict) else {}
