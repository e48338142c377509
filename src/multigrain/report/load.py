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

from multigrain.dataset.store import FIRST_COLUMNS, open_examples
from multigrain.display.text import excerpt, without_credentials
from multigrain.errors import RunDirectoryError
from multigrain.evaluation.per_query import read_per_query
from multigrain.evaluation.query_changes import QueryChanges, pair_queries, rows_by_query, summarise_changes
from multigrain.evaluation.results import EvaluationResults, read_results
from multigrain.evaluation.sets.retrieval_set import HUMAN_TITLES
from multigrain.evaluation.stored import PER_QUERY_FILE, RESULTS_FILE
from multigrain.records import LEVELS, GradedExample, Origin
from multigrain.report.data import (
    AnchorText,
    AuditSummary,
    BaseEmbeddings,
    DocumentCounts,
    Drop,
    DropExample,
    ReportData,
    SynthesisCounts,
)
from multigrain.report.reproduction import command_folder, load_reproduction, relative_path
from multigrain.report.summaries import (
    Similarity,
    count_answers,
    count_held_out,
    evenly_spaced,
    near_duplicates,
    summarise_similarity,
)
from multigrain.storage.parquet import StoredTable
from multigrain.storage.rundir import MANIFEST, RunDirectory
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
        audit=read_artifact(run.audit_path, AuditSummary),
        drops=_drops(run.rejects_path),
        similarity=similarity,
        rows=rows,
        samples=tuple(rows[i] for i in evenly_spaced(len(rows), _SAMPLES)),
        training=tuple(
            log
            for name in _trained(run, evaluation)
            if (log := read_artifact(run.candidate_path(name) / "training_log.json", TrainingLog)) is not None
        ),
        anchors=read_artifact(run.results_path / "anchors.json", tuple[AnchorText, ...]) or (),
        reproduction=load_reproduction(run, config, _config_values(config), finished),
        held_out=count_held_out(_held_out(run.documents_path, evaluation)),
        near_duplicates=near_duplicates(_groups(run.documents_path, documents)),
        answers=count_answers(run.journal_path),
        written_order=written_order,
        base_embeddings=_parse(run.results_path / MANIFEST, BaseEmbeddings, counted)
        if (counted := finished.counts.get("base_embeddings")) is not None
        else None,
    )


def _trained(run: RunDirectory, evaluation: EvaluationResults) -> list[str]:
    """The candidates whose training is shown: those that were evaluated, and the run's rerankers."""
    rerankers = {each.reranker for table in evaluation.reranking for each in table.pipelines if each.reranker}
    there = sorted(name for name in rerankers if "/" not in name and run.candidate_path(name).is_dir())
    return [*evaluation.models, *there]


def read_artifact(path: Path, kind: type[T]) -> T | None:
    """A JSON file of a run as a record; None where there is none.

    Raises:
        RunDirectoryError: it is there but cannot be understood.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _not_understood(path, error) from None
    return _parse(path, kind, values)


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
    counts = _counts(run, "documents", DocumentCounts)
    return counts and replace(counts, source=relative_path(counts.source, command_folder(run.path)))


def _held_out(path: Path, evaluation: EvaluationResults) -> pa.Table | None:
    """Title and split of the held-out documents, where titles are asked and the run keeps documents with both."""
    asks_titles = any(result.provenance == HUMAN_TITLES for result in evaluation.sets)
    if not asks_titles or not {"title", "split"} <= _column_names(path):
        return None
    return _table(path, ["title", "split"], filters=[("split", "in", ["validation", "test"])])


def _groups(path: Path, documents: DocumentCounts | None) -> pa.Table | None:
    """Id and group of every document, where some of them are nearly the same."""
    if documents is None or documents.groups >= documents.documents or not {"id", "group"} <= _column_names(path):
        return None
    return _table(path, ["id", "group"])


def _column_names(path: Path) -> set[str]:
    """The columns of a table; none where there is no table."""
    try:
        return set(pq.read_schema(table_files(path)[0]).names) if is_table(path) else set()
    except (OSError, ValueError) as error:
        raise _not_understood(path, error) from None


def _require_columns(path: Path, columns: Collection[str]) -> None:
    missing = set(columns) - _column_names(path)
    if missing:
        raise _not_understood(path, f"no column {', '.join(sorted(missing))}")


def _not_understood(path: Path, problem: object) -> RunDirectoryError:
    line = "".join(str(problem).splitlines()[:1])
    return RunDirectoryError(f"{path}: not in the form of this version ({line}): run the stage that wrote it again")


def _table(path: Path, columns: list[str], **options: Any) -> pa.Table | None:
    """Some columns of a table, or None where there is none."""
    if not is_table(path):
        return None
    _require_columns(path, columns)
    try:
        return pq.read_table([str(file) for file in table_files(path)], columns=columns, **options)
    except (OSError, pa.ArrowInvalid) as error:
        raise _not_understood(path, error) from None


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
    values = _config_values(config)
    if not values:
        return {}  # which sets are the run's own is not known
    foreign = {str(section.get("name")) for section in (values.get("evaluation") or {}).get("sets") or []}
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
    ids = pa.array(sorted(set().union(*named.values())), pa.string())
    table = _table(path, ["id", "text"], filters=pc.is_in(pc.field("id"), ids)) if len(ids) else None
    if table is None:
        return {}
    texts = dict(
        zip(table["id"].to_pylist(), (excerpt(text, _EXCERPT) for text in table["text"].to_pylist()), strict=True)
    )
    return {name: {key: texts[key] for key in keys if key in texts} for name, keys in named.items()}


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
    """A few rejections of each reason, evenly spaced among those that have it."""
    shown = {reason: set(evenly_spaced(count, _EXAMPLES)) for reason, count in counts.items()}
    passed = Counter[str]()
    examples: dict[str, list[DropExample]] = {reason: [] for reason in counts}
    for row in _records(path, ["part", "reason", "detail", "query", "text"]):
        reason = row.pop("reason")
        if passed[reason] in shown[reason]:
            examples[reason].append(DropExample(**row))
        passed[reason] += 1
    return examples


def _records(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Some columns of a table's rows, read as they are asked for."""
    _require_columns(path, columns)
    yield from StoredTable(path, pa.schema([(name, pa.string()) for name in columns]), dict)


def _rows(path: Path) -> tuple[Sequence[GradedExample], Similarity | None, tuple[int, int]]:
    """All kept rows, to be read as they are asked for, how similar their texts are, and how often the order held."""
    if not is_table(path):
        return (), None, (0, 0)
    _require_columns(path, FIRST_COLUMNS)
    try:
        rows = open_examples(path)
        return rows, *_similarity(rows)
    except (OSError, ValueError) as error:
        raise _not_understood(path, error) from None


def _similarity(rows: Sequence[GradedExample]) -> tuple[Similarity | None, tuple[int, int]]:
    positive = np.empty(len(rows), dtype=np.float32)
    levels = np.empty((len(rows), len(LEVELS)), dtype=np.float32)
    written = np.empty((len(rows), len(LEVELS)), dtype=np.bool_)
    kept_order = Counter[bool | None]()
    for number, row in enumerate(rows):
        kept_order[row.written_order_held] += 1
        positive[number] = row.positive_similarity
        levels[number] = [negative.similarity for negative in row.negatives]
        written[number] = [negative.origin is Origin.WRITTEN for negative in row.negatives]
    return summarise_similarity(positive, levels, written), (kept_order[True], kept_order[True] + kept_order[False])


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
