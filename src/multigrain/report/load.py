"""Read a run directory's artifacts into `ReportData`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from pydantic import TypeAdapter, ValidationError

from multigrain.dataset.store import GRADED_SCHEMA, open_examples
from multigrain.display.text import without_credentials
from multigrain.errors import RunDirectoryError
from multigrain.evaluation.query_changes import QueryChanges, pair_queries, rows_by_query, summarise_changes
from multigrain.evaluation.results import EvaluationResults, read_per_query, read_results
from multigrain.evaluation.sets.retrieval_set import HUMAN_TITLES
from multigrain.evaluation.stored import PER_QUERY_FILE, RESULTS_FILE
from multigrain.records import LEVELS, GradedExample, Origin
from multigrain.report.counts import count_answers, count_held_out, near_duplicates
from multigrain.report.data import (
    AnchorText,
    AuditSummary,
    DocumentCounts,
    Drop,
    DropExample,
    ReportData,
    Similarity,
    SynthesisCounts,
)
from multigrain.report.paths import home_of, near
from multigrain.report.reproduction import load_reproduction
from multigrain.report.summaries import spread, summarise_similarity
from multigrain.storage.parquet import StoredTable
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.shards import is_table, table_files
from multigrain.training.log import TrainingLog

_SAMPLES = 6
_SHOWN = 6  # gains and losses of a set
_EXAMPLES = 3
_EXCERPT = 220  # characters of a document shown beside a query

T = TypeVar("T")


def load_report_data(run: RunDirectory) -> ReportData:
    """Read everything the report shows.

    Only the evaluation must be there. Whatever else is missing (no synthesis, no anchors, no set to check for
    forgetting) leaves its section out.

    Raises:
        StageOrderError: the run has not been evaluated yet.
        EvaluationError: the results cannot be understood.
        RunDirectoryError: another artifact is there but cannot be understood.
    """
    finished = run.require("results", "multigrain evaluate")
    evaluation = read_results(run.results_path / RESULTS_FILE)
    config = _config_text(run.config_path)
    rows, similarity, written_order = _rows(run.dataset_path)
    documents = _documents(run)
    changes = _changes(run, evaluation)
    return ReportData(
        title=run.path.resolve().name,
        evaluated_at=finished.finished_at,
        evaluation=evaluation,
        changes=changes,
        excerpts=_excerpts(run.documents_path, changes, config),
        documents=documents,
        synthesis=_counts(run, "synthesis", SynthesisCounts),
        audit=_json(run.audit_path, AuditSummary),
        drops=_drops(run.rejects_path),
        similarity=similarity,
        rows=rows,
        samples=tuple(rows[i] for i in spread(len(rows), _SAMPLES)),
        training=tuple(
            log
            for name in evaluation.models
            if (log := _json(run.candidate_path(name) / "training_log.json", TrainingLog)) is not None
        ),
        anchors=_json(run.results_path / "anchors.json", tuple[AnchorText, ...]) or (),
        reproduction=load_reproduction(run, config, _config_values(config), finished),
        held_out=count_held_out(_held_out(run.documents_path) if _asks_titles(evaluation) else None),
        near_duplicates=near_duplicates(_groups(run.documents_path, documents)),
        answers=count_answers(run.journal_path),
        written_order=written_order,
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


def _documents(run: RunDirectory) -> DocumentCounts | None:
    found = _counts(run, "documents", DocumentCounts)
    return None if found is None else replace(found, source=near(found.source, home_of(run.path)))


def _asks_titles(evaluation: EvaluationResults) -> bool:
    return any(result.provenance == HUMAN_TITLES for result in evaluation.sets)


def _held_out(path: Path) -> pa.Table | None:
    """Title and split of the held-out documents, where the run keeps documents with both."""
    if not _has_columns(path, {"title", "split"}):
        return None
    return _table(path, ["title", "split"], filters=[("split", "in", ["validation", "test"])])


def _groups(path: Path, documents: DocumentCounts | None) -> pa.Table | None:
    """Id and group of every document, where some of them are nearly the same."""
    if documents is None or not documents.groups < documents.documents or not _has_columns(path, {"id", "group"}):
        return None
    return _table(path, ["id", "group"])


def _has_columns(path: Path, columns: set[str]) -> bool:
    try:
        return is_table(path) and columns <= set(pq.read_schema(table_files(path)[0]).names)
    except (OSError, ValueError) as error:
        raise _not_understood(path, str(error).splitlines()[0]) from None


def _not_understood(path: Path, problem: object) -> RunDirectoryError:
    return RunDirectoryError(f"{path}: not in the form of this version ({problem}): run the stage that wrote it again")


def _table(path: Path, columns: list[str], **options: Any) -> pa.Table | None:
    """Some columns of a table, or None where there is none."""
    if not is_table(path):
        return None
    files = [str(each) for each in table_files(path)]
    try:
        table = pq.read_table(files, columns=columns, **options)
    except (OSError, pa.ArrowInvalid) as error:
        raise _not_understood(path, str(error).splitlines()[0]) from None
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise _not_understood(path, f"no column {', '.join(missing)}")
    return table


def _changes(run: RunDirectory, evaluation: EvaluationResults) -> tuple[QueryChanges, ...]:
    path, pair = run.results_path / PER_QUERY_FILE, (evaluation.base, evaluation.chosen)
    if evaluation.chosen == evaluation.base or not path.is_file():
        return ()
    table = rows_by_query(read_per_query(path, models=pair))
    return tuple(
        summarise_changes(
            pair_queries(table, set_name=result.name, base=evaluation.base, model=evaluation.chosen), limit=_SHOWN
        )
        for result in evaluation.sets
        if all((result.name, model) in table for model in pair)
    )


def _excerpts(path: Path, changes: Sequence[QueryChanges], config: str | None) -> dict[str, dict[str, str]]:
    """The beginnings of the documents that stand beside queries.

    Ids of other sets may happen to be ids of this run's documents, so only its own sets are looked up.
    """
    foreign = _foreign_sets(config)
    if foreign is None:
        return {}
    named = {
        moved.set: {
            document_id
            for change in (*moved.wins, *moved.losses)
            for document_id in (*change.after.relevant_ids, change.wrong_id)
            if document_id is not None
        }
        for moved in changes
        if moved.set not in foreign
    }
    wanted = pa.array(sorted(set().union(*named.values())), pa.string())
    table = _table(path, ["id", "text"], filters=pc.is_in(pc.field("id"), wanted)) if len(wanted) else None
    if table is None:
        return {}
    texts = dict(zip(table["id"].to_pylist(), map(_excerpt, table["text"].to_pylist()), strict=True))
    return {name: {key: texts[key] for key in ids if key in texts} for name, ids in named.items()}


def _foreign_sets(config: str | None) -> set[str] | None:
    """Names of the evaluation sets that do not come from the run's own documents; None where that is unknown."""
    values = _config_values(config)
    if not values:
        return None
    return {str(each.get("name")) for each in (values.get("evaluation") or {}).get("sets") or []}


def _excerpt(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _EXCERPT else flat[:_EXCERPT].rsplit(" ", 1)[0] + " …"


def _drops(path: Path) -> tuple[Drop, ...]:
    if not is_table(path):
        return ()
    whole, parts = Counter[str](), Counter[str]()
    for row in _records(path, ["part", "reason"]):
        (whole if row["part"] == "row" else parts)[row["reason"]] += 1
    counts = whole + parts
    examples = _drop_examples(path, counts)
    drops = [Drop(reason, whole[reason], parts[reason], tuple(examples[reason])) for reason in counts]
    return tuple(sorted(drops, key=lambda drop: (-drop.rows, -drop.negatives, drop.reason)))


def _drop_examples(path: Path, counts: Mapping[str, int]) -> dict[str, list[DropExample]]:
    """A few rejections of each reason, evenly spread over those that have it."""
    wanted = {reason: set(spread(count, _EXAMPLES)) for reason, count in counts.items()}
    seen = Counter[str]()
    found: dict[str, list[DropExample]] = {reason: [] for reason in counts}
    for row in _records(path, ["part", "reason", "detail", "query", "text"]):
        reason = row["reason"]
        if seen[reason] in wanted[reason]:
            found[reason].append(
                DropExample(query=row["query"], part=row["part"], text=row["text"], detail=row["detail"])
            )
        seen[reason] += 1
    return found


def _records(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Some columns of a table's rows, read as they are asked for."""
    _require_columns(path, columns)
    yield from StoredTable(path, pa.schema([(name, pa.string()) for name in columns]), dict)


def _require_columns(path: Path, columns: Collection[str]) -> None:
    try:
        missing = set(columns) - set(pq.read_schema(table_files(path)[0]).names)
    except (OSError, ValueError) as error:
        raise _not_understood(path, str(error).splitlines()[0]) from None
    if missing:
        raise _not_understood(path, f"no column {', '.join(sorted(missing))}")


def _rows(path: Path) -> tuple[Sequence[GradedExample], Similarity | None, tuple[int, int]]:
    """All kept rows, to be read as they are asked for, how similar their texts are, and how often the order held."""
    if not is_table(path):
        return (), None, (0, 0)
    _require_columns(path, GRADED_SCHEMA.names)
    try:
        rows = open_examples(path)
        return rows, *_similarity(rows)
    except (OSError, ValueError) as error:
        raise _not_understood(path, str(error).splitlines()[0]) from None


def _similarity(rows: Sequence[GradedExample]) -> tuple[Similarity | None, tuple[int, int]]:
    positive = np.empty(len(rows), dtype=np.float32)
    levels = np.empty((len(rows), len(LEVELS)), dtype=np.float32)
    written = np.empty((len(rows), len(LEVELS)), dtype=np.bool_)
    held = Counter[bool | None]()
    for place, row in enumerate(rows):
        held[row.written_order_held] += 1
        positive[place] = row.positive_similarity
        levels[place] = [each.similarity for each in row.negatives]
        written[place] = [each.origin is Origin.WRITTEN for each in row.negatives]
    return summarise_similarity(positive, levels, written), (held[True], held[True] + held[False])


def _config_text(path: Path) -> str | None:
    """The config without credentials: a page is passed around more freely than a run directory."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _not_understood(path, error) from None
    return without_credentials(text)


def _config_values(config: str | None) -> dict[str, Any]:
    try:
        values = yaml.safe_load(config or "")
    except yaml.YAMLError:
        return {}  # shown as it is; a config that cannot be read decides nothing here
    return values if isinstance(values, dict) else {}
