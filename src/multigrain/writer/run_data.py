"""The graded completions of a run that has been audited."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

from multigrain.config import Config
from multigrain.config.file import load_config
from multigrain.dataset.export import write_values
from multigrain.dataset.store import open_examples, open_rejections
from multigrain.encoders.reference import open_reference
from multigrain.errors import RunDirectoryError
from multigrain.mining.vectors import corpus_vectors
from multigrain.records import Document, Split
from multigrain.sources.store import open_document_table
from multigrain.stages.base import RunContext
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.sequences import DiskList, View
from multigrain.writer.attempts import run_attempts
from multigrain.writer.forms import FormName, trl_rows
from multigrain.writer.grading import GradedCompletion, Verdicts, grade_completions, round_trip_ranks


def training_pool(run: RunDirectory) -> Sequence[Document]:
    """The documents that the audit searches: the training side alone."""
    return DiskList(document for document in open_document_table(run.documents_path) if document.split is Split.TRAIN)


def open_audited(directory: Path) -> tuple[Config, RunDirectory]:
    """A run whose rows have been audited, with the config that made it.

    Raises:
        RunDirectoryError: it is no run.
        StageOrderError: its rows have not been audited.
    """
    run = RunDirectory(directory)
    if not run.config_path.is_file():
        raise RunDirectoryError(f"{directory}: no run in it: give the directory of a run after `multigrain audit`")
    run.require("dataset", "multigrain audit")
    return load_config(directory), run


def run_completions(config: Config, run: RunDirectory) -> list[GradedCompletion]:
    """What a run's writer answered for training documents, graded by the run's audit.

    Args:
        config: the run's.
        run: audited.

    Raises:
        StageOrderError, RunMismatchError: see `run_attempts`.
        ModelError: the model that measures cannot be loaded.
    """
    attempts = run_attempts(config, run)
    verdicts = Verdicts.of(open_examples(run.dataset_path), open_rejections(run.rejects_path))
    rows = [attempt.row for attempt in attempts if attempt.row is not None and not attempt.row.given]
    pool = training_pool(run)
    with open_reference(config, cache=RunContext(config, run).vectors) as reference:
        texts: Sequence[str] = View(pool, attrgetter("text"))
        vectors = corpus_vectors(reference, texts, run.path / "dataset" / "vectors")
        ranks = round_trip_ranks(rows, pool, vectors, reference)
    return list(grade_completions(attempts, verdicts, ranks))


def export_completions(directory: Path, to: Path, form: FormName, *, conversational: bool = True) -> int:
    """Write a run's completions for one of TRL's trainers; returns how many rows.

    Args:
        directory: the run.
        to: .jsonl or .parquet.
        form: which trainer's.
        conversational: see `trl_rows`.

    Raises:
        SourceError: there is nothing to learn from, or the file is of another kind.
        RunDirectoryError, StageOrderError: it is no run, or its rows have not been audited.
    """
    config, run = open_audited(directory)
    rows = trl_rows(run_completions(config, run), form, conversational=conversational)
    write_values(to, iter(rows))
    return len(rows)
