"""A run is a directory: one artifact a stage, a manifest written last, one process at a time.

    RUN/
      config.yaml              the config that made it
      lock                     held by the process at work, with its pid and host
      documents/               documents.parquet; from pairs also queries.jsonl; from tasks only tasks.jsonl
      synthesis/               journal.sqlite, rows.parquet, heldout_queries.jsonl; from tasks also documents.parquet
      marks.jsonl              rows that a reader marked bad, where there are any
      vectors/                 the base model's, for texts that the audit and the evaluation share; may be deleted
      dataset/                 graded.parquet, rejects.parquet, audit.json
      teachers/KEY/            graded.parquet with the scores of teachers; beside it the scores of each, by pair
      logs/                    of TensorBoard, where training reports to it
      models/NAME/             a sentence-transformers folder a candidate, training_log.json in it
      model/                   a copy of the chosen candidate
      results/                 evaluation.json, per_query.parquet, anchors.json
      report.html              beside it report-share.html, the copy without texts, where one was asked for
      demo.json                the steps that `multigrain demo` planned, and the speed that it measured
      failure.json             why the last attempt failed, where one did

Each of the folders also holds `manifest.json`, written when its stage is complete and never before. Large tables
(documents, rows, graded, rejects) are folders of shards under the same names; see `multigrain.storage.shards`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from multigrain.errors import RunBusyError, RunDirectoryError, StageOrderError
from multigrain.storage.files import atomic_write, remove

MANIFEST: Final = "manifest.json"
"""The file of a stage's folder that is written last."""

_RECORDED_PACKAGES: Final = ("multigrain", "torch", "transformers", "sentence-transformers", "datasets")
_PROBE_SECONDS: Final = 0.2  # `holder` takes the lock for an instant, which must not turn a run away


@dataclass(frozen=True)
class StageManifest:
    """The manifest of a complete stage.

    Attributes:
        stage: its name.
        fingerprint: over everything that decides its output: config sections, inputs, format versions.
        counts: the stage's summary, as `--json` prints it.
        seconds: wall-clock seconds of the session that completed it.
        finished_at: ISO 8601, UTC.
        versions: of the packages that matter.
        settings: the whole config that the stage was completed with.
    """

    stage: str
    fingerprint: str
    counts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    finished_at: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageFailure:
    """The reason why a stage failed when it was last run.

    Attributes:
        stage: its name.
        message: the error.
        failed_at: ISO 8601, UTC.
    """

    stage: str
    message: str
    failed_at: str


class _PathInside:
    """A path in the run's directory."""

    def __init__(self, inside: str) -> None:
        self._inside = inside

    def __get__(self, run: RunDirectory, _: type[RunDirectory]) -> Path:
        return run.path / self._inside


class RunDirectory:
    """Paths of a run and the rules by which it is written.

    Args:
        path: the directory; made on `hold()`.
    """

    config_path = _PathInside("config.yaml")
    """The config that made the run."""

    written_documents_path = _PathInside("synthesis/documents.parquet")
    """The positives that were written in a run from tasks."""

    queries_path = _PathInside("documents/queries.jsonl")
    """The given queries of a run from pairs, with their positives and splits."""

    tasks_path = _PathInside("documents/tasks.jsonl")
    """The tasks of a run from tasks, with their splits."""

    journal_path = _PathInside("synthesis/journal.sqlite")
    """Every completion ever received."""

    heldout_journal_path = _PathInside("synthesis/heldout_journal.sqlite")
    """Every completion of another model that wrote the held-out queries."""

    rows_path = _PathInside("synthesis/rows.parquet")
    """The synthesized rows, parsed but not audited."""

    heldout_queries_path = _PathInside("synthesis/heldout_queries.jsonl")
    """Queries written for held-out documents; empty where titles serve."""

    dataset_path = _PathInside("dataset/graded.parquet")
    """The graded training rows."""

    rejects_path = _PathInside("dataset/rejects.parquet")
    """What the audit turned away, with reasons."""

    heldout_positives_path = _PathInside("dataset/heldout_positives.jsonl")
    """Further documents that judges found to answer held-out queries, where false negatives are kept as positives."""

    audit_path = _PathInside("dataset/audit.json")
    """The audit's counts and similarity statistics."""

    vectors_path = _PathInside("vectors")
    """The folder that keeps the base model's vectors from one stage for the next."""

    labels_path = _PathInside("marks.jsonl")
    """Rows that a reader marked bad; they are left out of the data set."""

    model_path = _PathInside("model")
    """The chosen model."""

    checkpoints_path = _PathInside("checkpoints")
    """The folder that interrupted training resumes from."""

    logs_path = _PathInside("logs")
    """The folder that TensorBoard is pointed at, where training reports to it."""

    results_path = _PathInside("results")
    """The folder with evaluation.json, per_query.parquet and anchors.json."""

    report_path = _PathInside("report.html")
    """The report page."""

    shared_report_path = _PathInside("report-share.html")
    """The copy of the report page without texts."""

    _lock_path = _PathInside("lock")
    _failure_path = _PathInside("failure.json")

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @property
    def documents_path(self) -> Path:
        """What is searched and mined, with groups and splits: documents as read or, from tasks, as written."""
        written = self.written_documents_path
        return written if written.exists() else self.path / "documents" / "documents.parquet"

    def candidate_path(self, name: str) -> Path:
        """The model folder of one trained candidate."""
        return self.path / "models" / name

    @contextmanager
    def hold(self) -> Iterator[RunDirectory]:
        """Make the directory if need be and keep every other process out while working in it.

        The lock is the operating system's, so it is released when the process ends, however it ends. A directory that
        was made here is removed where an error ends the work before anything is written into it.

        Raises:
            RunBusyError: another process holds it.
            RunDirectoryError: it cannot be made or written.
        """
        from filelock import FileLock, Timeout

        new_folders = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        lock = FileLock(self._lock_path, timeout=_PROBE_SECONDS, thread_local=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise RunBusyError(
                f"run directory {self.path} is in use by {self._lock_words() or 'another process'}: wait for it, or "
                "choose another with --run"
            ) from None
        except OSError as error:
            raise RunDirectoryError(
                f"run directory {self.path} cannot be written ({error.strerror}): choose another with --run"
            ) from None
        try:
            self._write_lock_words(f"process {os.getpid()} on {socket.gethostname()}")
            yield self
        except BaseException:
            self._remove_unused(new_folders)
            raise
        finally:
            self._write_lock_words("")
            lock.release()

    def _remove_unused(self, new_folders: list[Path]) -> None:
        """Remove the folders that `hold` made, where they hold nothing but the lock."""
        if not new_folders or [path.name for path in self.path.rglob("*") if not path.is_dir()] != ["lock"]:
            return
        with suppress(OSError):  # somebody else has put something there
            remove(self.path)
            for folder in new_folders[1:]:
                folder.rmdir()

    def holder(self) -> str | None:
        """The process that works in the directory now, in words; None where there is none."""
        from filelock import FileLock, Timeout

        if not self._lock_path.exists():
            return None
        try:
            with FileLock(self._lock_path, blocking=False):
                return None
        except Timeout:
            return self._lock_words() or "another process"
        except OSError:  # another user's directory, whose lock cannot be tried
            return self._lock_words()

    def _lock_words(self) -> str | None:
        """What the holder wrote into the lock file; Windows lets nobody read a locked file."""
        try:
            return self._lock_path.read_text(encoding="utf-8").strip() or None
        except OSError:
            return None

    def _write_lock_words(self, words: str) -> None:
        with suppress(OSError):
            if self._lock_path.exists():
                self._lock_path.write_text(words, encoding="utf-8")

    def manifest(self, stage: str) -> StageManifest | None:
        """The manifest of a stage, or None where the stage is not complete.

        Raises:
            RunDirectoryError: the manifest cannot be understood.
        """
        path = self._manifest_path(stage)
        try:
            return StageManifest(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise RunDirectoryError(
                f"{path}: not a manifest of this version ({error}): delete it to run the stage again"
            ) from None

    def manifests(self) -> list[StageManifest]:
        """The manifests of all complete stages, in the order in which they were completed.

        Raises:
            RunDirectoryError: one cannot be understood.
        """
        places = ("*/manifest.json", "teachers/*/manifest.json", "models/*/manifest.json")
        paths = [path for place in places for path in self.path.glob(place)]
        # When a stage was finished is known to the second; of one second, the file system knows the order.
        paths.sort(key=lambda path: path.stat().st_mtime_ns)
        folders = [path.parent.relative_to(self.path).as_posix() for path in paths]
        manifests = [
            manifest for folder in folders if (manifest := self.manifest(folder)) and manifest.stage == folder
        ]
        return sorted(manifests, key=attrgetter("finished_at"))

    def forget_sources(self) -> None:
        """Remove what a run started from, before it starts from something else."""
        for path in (self.written_documents_path, self.documents_path, self.queries_path, self.tasks_path):
            remove(path)

    def is_complete(self, stage: str, fingerprint: str) -> bool:
        """Whether a stage has been completed from exactly these inputs."""
        manifest = self.manifest(stage)
        return manifest is not None and manifest.fingerprint == fingerprint

    def require(self, stage: str, command: str) -> StageManifest:
        """The manifest of a stage that must have been run.

        Raises:
            StageOrderError: it has not; the message names the command that does.
        """
        manifest = self.manifest(stage)
        if manifest is None:
            raise StageOrderError(f"{self.path}: stage {stage!r} is not complete; `{command}` completes it first")
        return manifest

    def finish(
        self,
        stage: str,
        fingerprint: str,
        counts: dict[str, Any],
        seconds: float,
        *,
        settings: dict[str, Any] | None = None,
    ) -> StageManifest:
        """Write a stage's manifest: the last thing a stage does."""
        manifest = StageManifest(
            stage=stage,
            fingerprint=fingerprint,
            counts=counts,
            seconds=round(seconds, 3),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=installed_versions(),
            settings=settings or {},
        )
        atomic_write(self._manifest_path(stage), json.dumps(asdict(manifest), indent=2, ensure_ascii=False))
        return manifest

    def note_failure(self, stage: str, message: str) -> None:
        """Record why a stage failed; does nothing where no stage is complete, or nothing can be written."""
        if not any(self.path.glob("*/manifest.json")):
            return
        failure = StageFailure(stage, message, datetime.now(UTC).isoformat(timespec="seconds"))
        with suppress(RunDirectoryError, OSError):
            atomic_write(self._failure_path, json.dumps(asdict(failure), indent=2, ensure_ascii=False))

    def failure(self) -> StageFailure | None:
        """Why the last attempt failed; None where the stage was finished since, or nothing is known."""
        try:
            failure = StageFailure(**json.loads(self._failure_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        finished = self.manifest(failure.stage)
        return None if finished is not None and finished.finished_at >= failure.failed_at else failure

    def invalidate(self, stage: str) -> None:
        """Remove the manifest of a stage, before its artifact is written again."""
        self._manifest_path(stage).unlink(missing_ok=True)

    def _manifest_path(self, stage: str) -> Path:
        return self.path / stage / MANIFEST


def installed_versions() -> dict[str, str]:
    """Versions of the installed packages that decide what a stage makes."""
    versions = {}
    for package in _RECORDED_PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
