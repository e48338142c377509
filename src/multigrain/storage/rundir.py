"""A run is a directory: one artifact a stage, a manifest written last, one process at a time.

    RUN/
      config.yaml              the config that made it
      lock                     held (flock) by the process at work, with its pid and host
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

import fcntl
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from multigrain.errors import RunBusyError, RunDirectoryError, StageOrderError
from multigrain.storage.manifests import StageFailure, StageManifest, installed_versions

__all__ = [
    "RunDirectory",
    "StageFailure",
    "StageManifest",
    "atomic_directory",
    "atomic_stream",
    "atomic_write",
    "remove",
    "take_place",
    "writing",
]


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

        The lock is the operating system's: it goes with the process, however that ends. A directory that was made
        here goes again where an error ends the work before anything of it is on the disk.

        Raises:
            RunBusyError: another process holds it.
            RunDirectoryError: it cannot be made or written.
        """
        made = [each for each in (self.path, *self.path.parents) if not each.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise RunDirectoryError(
                f"run directory {self.path} cannot be written ({error.strerror}): choose another with --run"
            ) from None
        with handle:
            self._lock(handle)
            try:
                yield self
            except BaseException:
                self._leave_nothing(made)
                raise

    def _leave_nothing(self, made: list[Path]) -> None:
        """Remove the directories that were made, where they hold nothing but the lock."""
        if not made or [each.name for each in self.path.rglob("*") if not each.is_dir()] != ["lock"]:
            return
        remove(self.path)
        for each in made[1:]:
            try:
                each.rmdir()
            except OSError:  # somebody has put something there
                return

    def holder(self) -> str | None:
        """Who works in the directory now, in words; None for nobody."""
        try:
            with (self.path / "lock").open("r", encoding="utf-8") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return handle.read().strip() or "another process"
        except OSError:
            return None
        return None

    def _lock(self, handle: TextIO) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise RunBusyError(
                f"run directory {self.path} is in use by {holder}: wait for it, or choose another with --run"
            ) from None
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()

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
        """Keep why a stage failed for whoever looks later; silently not, where nothing can be written.

        A run of which no stage is complete leaves nothing behind, and so no reason either.
        """
        if not any(self.path.glob("*/manifest.json")):
            return
        failure = StageFailure(stage, message, datetime.now(UTC).isoformat(timespec="seconds"))
        with suppress(RunDirectoryError, OSError):
            atomic_write(self._failure_path, json.dumps(asdict(failure), indent=2, ensure_ascii=False))

    def failure(self) -> StageFailure | None:
        """Why the last attempt failed; None where the stage was finished since, or nothing is known."""
        try:
            found = StageFailure(**json.loads(self._failure_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        finished = self.manifest(found.stage)
        return None if finished is not None and finished.finished_at >= found.failed_at else found

    @property
    def _failure_path(self) -> Path:
        return self.path / "failure.json"

    def invalidate(self, stage: str) -> None:
        """Forget that a stage is complete, before its artifact is written again."""
        self._manifest_path(stage).unlink(missing_ok=True)

    def _manifest_path(self, stage: str) -> Path:
        return self.path / stage / "manifest.json"


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns


def atomic_write(path: Path, data: str | bytes) -> None:
    """Write a whole file or nothing: to a sibling, flushed to disk, then renamed over the old one.

    Raises:
        RunDirectoryError: the disk is full, or the place cannot be written.
    """
    with atomic_stream(path) as stream, writing(path):
        stream.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_stream(path: Path) -> Iterator[BinaryIO]:
    """A file to write bit by bit: it takes its name when the block ends well, and is gone when it does not.

    Raises:
        RunDirectoryError: the place cannot be written. What fails within the block is left as it is; see `writing`.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            with writing(path):
                handle.flush()
                os.fsync(handle.fileno())
        with writing(path):
            temporary.chmod(0o644)
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says it in one line where a file cannot be written.

    Raises:
        RunDirectoryError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(
            f"{path}: cannot be written ({error.strerror}); nothing is half-written: free the disk or mend the "
            "permissions, and run again"
        ) from None


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty sibling to fill; it takes the place of `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        take_place(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def take_place(made: Path, path: Path) -> None:
    """Give a finished file or folder its name, whatever stood there before.

    A file takes the place of a file in one step. Where a folder is involved the system has no such step: what was
    there is moved aside first and comes back if the new one cannot be moved; if the process is killed between the
    two, nothing of that name is there.
    """
    if not os.path.lexists(path) or not (made.is_dir() or path.is_dir()):
        made.replace(path)
        return
    discarded = path.with_name(f".{path.name}.discarded-{time.time_ns()}")
    path.rename(discarded)
    try:
        made.rename(path)
    except BaseException:
        discarded.rename(path)
        raise
    remove(discarded)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
