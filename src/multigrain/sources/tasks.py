"""Tasks: a user's own list, their sides, and their table in the run directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import yaml

from multigrain.config import DocumentsConfig, TasksConfig
from multigrain.errors import SourceError
from multigrain.records import Split, Task, TaskKind
from multigrain.sources.load import split_groups, text_place
from multigrain.sources.words import fold_repeated
from multigrain.storage.files import atomic_write
from multigrain.storage.rows import read_lines, read_rows
from multigrain.storage.text import read_text, storable

_MIN_TASKS_TO_HOLD_OUT: Final = 20
_DEFAULT_KIND: Final = TaskKind.SHORT_LONG


def make_task(kind: TaskKind, text: str) -> Task:
    """A task with an id that its kind and words decide."""
    digest = hashlib.sha256(f"{kind}\x1f{fold_repeated(text)}".encode()).hexdigest()[:10]
    return Task(id=f"{kind}-{digest}", kind=kind, text=text)


def read_tasks(path: Path) -> list[Task]:
    """Read a user's own tasks.

    A .txt file has one a line; lines that begin with # are comments. A .jsonl file has an object a line with
    `task` and, where it is not short-long, `kind`. A .yaml file has a list of such objects or of texts, or lists of
    texts under the names of kinds.

    Raises:
        SourceError: the file is missing, of another kind, malformed at some line or key, holds no task, or one twice.
    """
    suffix = path.suffix.lower()
    entries: Iterator[tuple[str, Any]]
    if not path.is_file():
        raise SourceError(f"tasks.path {path}: no such file")
    if suffix in (".jsonl", ".ndjson"):
        entries = ((row.place, row.values) for row in read_rows(path))
    elif suffix in (".yaml", ".yml"):
        entries = _yaml_entries(path)
    elif suffix == ".txt":
        entries = (
            (row.place, row.values["line"]) for row in read_lines(path) if not row.values["line"].startswith("#")
        )
    else:
        raise SourceError(f"tasks.path {path}: cannot tell what it holds; expected a .txt, .jsonl or .yaml file")
    tasks: dict[str, Task] = {}
    for place, entry in entries:
        task = _task(place, entry)
        if task.id in tasks:
            raise SourceError(f"{place}: the task {task.text[:60]!r} appears twice")
        tasks[task.id] = task
    if not tasks:
        raise SourceError(f"tasks.path {path}: no task in the file")
    return list(tasks.values())


def holds_out_tasks(config: TasksConfig, tasks: Sequence[Task]) -> bool:
    """Whether whole tasks are held out, instead of rows of every task."""
    return config.hold_out == "tasks" or (config.hold_out == "auto" and len(tasks) >= _MIN_TASKS_TO_HOLD_OUT)


def split_tasks(tasks: Sequence[Task], config: TasksConfig, shares: DocumentsConfig) -> list[Task]:
    """Give each task its side, by a hash of its words; all are to train on where rows are held out instead."""
    if not holds_out_tasks(config, tasks):
        return list(tasks)
    sides = split_groups(range(len(tasks)), [text_place(task.text) for task in tasks], shares)
    return [replace(task, split=sides[number]) for number, task in enumerate(tasks)]


def write_task_table(path: Path, tasks: Iterable[Task]) -> None:
    """Write tasks as JSON lines, whole or not at all."""
    atomic_write(path, "".join(json.dumps(asdict(task), ensure_ascii=False) + "\n" for task in tasks))


def read_task_table(path: Path) -> tuple[Task, ...]:
    """Read tasks that `write_task_table` wrote, in their order."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)
    return tuple(Task(row["id"], TaskKind(row["kind"]), row["text"], Split(row["split"])) for row in rows)


def _yaml_entries(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        values = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise SourceError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if isinstance(values, dict):
        for kind, texts in values.items():
            if not isinstance(texts, list):
                raise SourceError(f"{path}:{kind}: expected a list of tasks, got {type(texts).__name__}")
            for number, text in enumerate(texts, start=1):
                yield f"{path}:{kind}:entry {number}", {"kind": kind, "task": text}
    elif isinstance(values, list):
        for number, entry in enumerate(values, start=1):
            yield f"{path}:entry {number}", entry
    elif values is not None:
        raise SourceError(f"{path}: expected a list of tasks, or lists under kinds, got {type(values).__name__}")


def _task(place: str, entry: Any) -> Task:
    values = {"task": entry} if isinstance(entry, str) else entry
    if not isinstance(values, dict) or "task" not in values:
        raise SourceError(f"{place}: expected a text, or `task` and `kind`, got {str(entry)[:60]!r}")
    text = values["task"]
    if not isinstance(text, str) or not text.strip():
        raise SourceError(f"{place}: `task` must be a text, got {text!r}")
    kind = values.get("kind") or _DEFAULT_KIND
    if kind not in tuple(TaskKind):
        raise SourceError(f"{place}: unknown kind {kind!r}; expected one of {', '.join(TaskKind)}")
    return make_task(TaskKind(kind), " ".join(storable(text).split()))
