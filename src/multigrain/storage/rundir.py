"""A run is a directory: one artifact a stage, a manifest written last, one process at a time.

    RUN/
      config.yaml              the config that made it
      lock                     held by the process at work, with its pid and host
      documents/               documents.parquet; from pairs also queries.jsonl; from tasks only tasks.jsonl
      synthesis/               journal.sqlite, rows.parquet, heldout_queries.jsonl; from tasks also documents.parquet
      marks.jsonl              rows that a reader marked bad, where there are any
      dataset/                 graded.parquet, rejects.parquet, audit.json
      logs/                    of TensorBoard, where training reports to it
      models/NAME/             a sentence-transformers folder a candidate, training_log.json in it
      model/                   a copy of the chosen candidate
      results/                 evaluation.json, per_query.parquet, anchors.json
      report.html
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
from dataclasses import asdict
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from multigrain.errors import RunBusyError, RunDirectoryError, StageOrderError
from multigrain.storage.files import atomic_write, remove
from multigrain.storage.manifests import StageFailure, StageManifest, installed_versions

_PROBE_SECONDS: Final = 0.2  # `holder` takes the lock for an instant, which must not turn a run away


class RunDirectory:
    """Paths of a run and the rules by which it is written.

    Args:
        path: the directory; made on `hold()`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @property
    def config_path(self) -> Path:
        """The config that made the run."""
        return self.path / "config.yaml"

    @property
    def documents_path(self) -> Path:
        """What is searched and mined, with groups and splits: documents as read or, from tasks, as written."""
        written = self.written_documents_path
        return written if written.exists() else self.path / "documents" / "documents.parquet"

    @property
    def written_documents_path(self) -> Path:
        """The positives that were written in a run from tasks."""
        return self.path / "synthesis" / "documents.parquet"

    @property
    def queries_path(self) -> Path:
        """The given queries of a run from pairs, with their positives and splits."""
        return self.path / "documents" / "queries.jsonl"

    @property
    def tasks_path(self) -> Path:
        """The tasks of a run from tasks, with their splits."""
        return self.path / "documents" / "tasks.jsonl"

    @property
    def journal_path(self) -> Path:
        """Every completion ever received."""
        return self.path / "synthesis" / "journal.sqlite"

    @property
    def heldout_journal_path(self) -> Path:
        """Every completion of another model that wrote the held-out queries."""
        return self.path / "synthesis" / "heldout_journal.sqlite"

    @property
    def rows_path(self) -> Path:
        """The synthesized rows, parsed but not audited."""
        return self.path / "synthesis" / "rows.parquet"

    @property
    def heldout_queries_path(self) -> Path:
        """Queries written for held-out documents; empty where titles serve."""
        return self.path / "synthesis" / "heldout_queries.jsonl"

    @property
    def dataset_path(self) -> Path:
        """The graded training rows."""
        return self.path / "dataset" / "graded.parquet"

    @property
    def rejects_path(self) -> Path:
        """What the audit turned away, with reasons."""
        return self.path / "dataset" / "rejects.parquet"

    @property
    def audit_path(self) -> Path:
        """The audit's counts and similarity statistics."""
        return self.path / "dataset" / "audit.json"

    @property
    def marks_path(self) -> Path:
        """Rows that a reader marked bad; they are left out of the data set."""
        return self.path / "marks.jsonl"

    @property
    def model_path(self) -> Path:
        """The chosen model."""
        return self.path / "model"

    @property
    def checkpoints_path(self) -> Path:
        """The folder that interrupted training resumes from."""
        return self.path / "checkpoints"

    @property
    def logs_path(self) -> Path:
        """The folder that TensorBoard is pointed at, where training reports to it."""
        return self.path / "logs"

    @property
    def results_path(self) -> Path:
        """The folder with evaluation.json, per_query.parquet and anchors.json."""
        return self.path / "results"

    @property
    def report_path(self) -> Path:
        """The report page."""
        return self.path / "report.html"

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

    @property
    def _lock_path(self) -> Path:
        return self.path / "lock"

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
        paths = [*self.path.glob("*/manifest.json"), *self.path.glob("models/*/manifest.json")]
        # When a stage was finished is known to the second; of one second, the file system knows the order.
        folders = [path.parent.relative_to(self.path).as_posix() for path in sorted(paths, key=_modified)]
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

    @property
    def _failure_path(self) -> Path:
        return self.path / "failure.json"

    def invalidate(self, stage: str) -> None:
        """Remove the manifest of a stage, before its artifact is written again."""
        self._manifest_path(stage).unlink(missing_ok=True)

    def _manifest_path(self, stage: str) -> Path:
        return self.path / stage / "manifest.json"


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns
