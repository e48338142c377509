"""Rows that a reader marked bad leave the data set, and stay out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from multigrain.audit.labels import dump_labels, read_labels
from multigrain.config.file import load_config
from multigrain.dataset.store import open_example_ids
from multigrain.display.progress import Progress, SilentProgress
from multigrain.errors import RunDirectoryError, SourceError
from multigrain.stages.context import RunContext
from multigrain.stages.table import STAGES
from multigrain.storage.files import atomic_write
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.shards import is_table


def apply_marks_file(directory: Path, marks: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """Keep marks in a run, and audit it again without the marked rows. Marks add up.

    Args:
        directory: the run.
        marks: what the report's explorer downloaded.
        progress: who is told.

    Returns:
        The audit's counts, and how many rows are marked.

    Raises:
        RunDirectoryError: it is no run that has been audited.
        SourceError: the file holds no marks, or of no row of this run.
    """
    progress = progress or SilentProgress()
    run = RunDirectory(directory)
    if not run.config_path.is_file() or not is_table(run.dataset_path):
        raise RunDirectoryError(
            f"{directory}: no audited run in it; give the run's directory, which holds config.yaml"
        )
    ids = read_labels(marks)
    known = set(ids).intersection(open_example_ids(run.dataset_path))
    with run.hold() as held:
        before = read_labels(held.labels_path) if held.labels_path.exists() else ()
        foreign = [key for key in ids if key not in known and key not in before]
        if not ids or len(foreign) == len(ids):
            raise SourceError(f"{marks}: none of its {len(ids)} marked rows is in {run.dataset_path}: another run's?")
        if foreign:
            progress.say(f"{len(foreign)} of {len(ids)} marked rows are not in this run's data set; left alone")
        atomic_write(
            held.labels_path, dump_labels(dict.fromkeys([*before, *(key for key in ids if key not in foreign)]))
        )
        context = RunContext(load_config(held.config_path), held, progress, redo=True)
        audit = STAGES["audit"]
        audit.run(context)
        counts = held.require(audit.folder, f"multigrain {audit.command}").counts
        return {**counts, "marked": len(read_labels(held.labels_path))}
