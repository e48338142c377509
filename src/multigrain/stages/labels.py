"""Rows that a reader marked bad leave the data set, and stay out of it."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from multigrain.audit.run import AuditResult
from multigrain.config.file import load_config
from multigrain.dataset.store import open_example_ids
from multigrain.display.progress import Progress, SilentProgress
from multigrain.errors import RunDirectoryError, SourceError
from multigrain.records import Rejection
from multigrain.stages.base import RunContext
from multigrain.stages.table import STAGES
from multigrain.storage.files import atomic_write
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.shards import is_table


def read_labels(path: Path) -> tuple[str, ...]:
    """The ids of rows marked bad, from what the report's explorer downloads: JSON lines, or one JSON list.

    Raises:
        SourceError: the file cannot be read, or is no file of labels.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SourceError(f"{path}: not UTF-8, so not what the report's explorer downloads") from None
    is_list = text.lstrip().startswith("[")
    pieces = [text] if is_list else text.split("\n")
    ids: dict[str, None] = {}
    for line, piece in enumerate(pieces, start=1):
        if not piece.strip():
            continue
        place = f"{path}" if is_list else f"{path}:{line}"
        try:
            value = json.loads(piece)
        except ValueError as error:
            raise SourceError(f"{place}: not JSON ({error}): {piece[:60]!r}") from None
        for number, entry in enumerate(value if is_list else [value], start=1):
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or entry.get("mark") != "bad":
                raise SourceError(
                    f"{f'{path}, entry {number}' if is_list else place}: expected "
                    f'{{"id": …, "mark": "bad"}}, as the report\'s explorer downloads them, got {str(entry)[:60]}'
                )
            ids[entry["id"]] = None
    return tuple(ids)


def dump_labels(ids: Collection[str]) -> str:
    """Labels in the form that the explorer downloads."""
    return "".join(json.dumps({"id": row, "mark": "bad"}, ensure_ascii=False) + "\n" for row in ids)


def apply_labels(result: AuditResult, labelled: Collection[str]) -> AuditResult:
    """The result without the rows that a reader labelled bad, which become rejections."""
    rejections = [
        Rejection(example.id, "row", "marked_bad", "marked bad by a reader", example.query, example.positive)
        for example in result.examples
        if example.id in labelled
    ]
    examples = tuple(example for example in result.examples if example.id not in labelled)
    return replace(result, examples=examples, rejections=(*result.rejections, *rejections))


def apply_labels_file(directory: Path, labels: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """Keep labels in a run, and audit it again without the rows labelled bad. Labels add up.

    Args:
        directory: the run.
        labels: what the report's explorer downloaded.
        progress: who is told.

    Returns:
        The audit's counts, and how many rows are marked.

    Raises:
        RunDirectoryError: it is no run that has been audited.
        SourceError: the file holds no labels, or of no row of this run.
    """
    progress = progress or SilentProgress()
    run = RunDirectory(directory)
    if not run.config_path.is_file() or not is_table(run.dataset_path):
        raise RunDirectoryError(
            f"{directory}: no audited run in it; give the run's directory, which holds config.yaml"
        )
    ids = read_labels(labels)
    in_set = set(ids).intersection(open_example_ids(run.dataset_path))
    with run.hold() as locked:
        before = read_labels(locked.labels_path) if locked.labels_path.exists() else ()
        foreign = [key for key in ids if key not in in_set and key not in before]
        if not ids or len(foreign) == len(ids):
            raise SourceError(f"{labels}: none of its {len(ids)} marked rows is in {run.dataset_path}: another run's?")
        if foreign:
            progress.say(f"{len(foreign)} of {len(ids)} marked rows are not in this run's data set; left alone")
        atomic_write(
            locked.labels_path, dump_labels(dict.fromkeys([*before, *(key for key in ids if key not in foreign)]))
        )
        context = RunContext(load_config(locked.path), locked, progress, redo=True)
        audit = STAGES["audit"]
        audit.run(context)
        counts = locked.require(audit.folder, f"multigrain {audit.command}").counts
        return {**counts, "marked": len(read_labels(locked.labels_path))}
