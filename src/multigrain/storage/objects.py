"""Stages of a run on an object store: every file is put whole, a stage's manifest last, and one run writes at a time.

    STORE/
      lock.json                 which run writes here, renewed while it does
      documents/ … results/     the files of each complete stage, as in the run directory
        files.json              their sizes and CRC-32
        manifest.json           written last: without it nothing of the stage counts

The store is any address that fsspec knows (s3://…, gs://…, memory://…) or a folder. A file goes there in one put of
all its bytes, a large one in parts that are joined at the end, and none through a stream: a stream that is broken off
publishes what it holds so far with some drivers. Journals, vectors and checkpoints stay in the run directory.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from multigrain.errors import RunBusyError, RunDirectoryError
from multigrain.storage.files import atomic_write, file_system, take_place
from multigrain.storage.rundir import MANIFEST, RunDirectory

_LOG = logging.getLogger(__name__)
Result = TypeVar("Result")

LOCK: Final = "lock.json"
FILES: Final = "files.json"

_STAYS: Final = ("vectors", "heldout-vectors", "hub", "shards")
"""Folders that are made again from what is there, or are large and of no use elsewhere."""

_ATTEMPTS: Final = 6
_FIRST_WAIT: Final = 0.2  # seconds; doubled with each attempt
_LEASE: Final = 120.0  # seconds after which a lock that nobody renews counts for nothing
_RENEWED: Final = 20.0
_BLOCK: Final = 1 << 22
_WHOLE: Final = 1 << 29  # bytes up to which a file is put in one request
_PUBLISH_AGAIN: Final = "remove the stage's folder there, and run again in the directory that completed it"


class ObjectFolder:
    """A folder of objects, read and written whole; passing failures are tried again.

    Args:
        place: its address.

    Raises:
        SourceError: the address' kind is unknown, or its driver is not installed.
    """

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        self._files = file_system(self.place)

    def __repr__(self) -> str:
        return f"ObjectFolder({self.place!r})"

    def read(self, name: str) -> bytes | None:
        """A whole object; None where there is none."""

        def once() -> bytes | None:
            try:
                return bytes(self._files.cat_file(self._at(name)))
            except FileNotFoundError:
                return None

        return self._tried(once, name)

    def write(self, name: str, raw: bytes) -> None:
        """Put a whole object: what stood there before is there until it is replaced."""
        self._tried(lambda: self._put(name, raw), name)

    def create(self, name: str, raw: bytes) -> bool:
        """Put an object where there is none; says whether there was none."""

        def once() -> bool:
            if self._files.exists(self._at(name)):
                return False
            try:
                self._put(name, raw, mode="create")
            except FileExistsError:
                return False
            except (TypeError, NotImplementedError):  # a driver without conditional puts
                self._put(name, raw)
            return True

        return self._tried(once, name)

    def remove(self, name: str) -> None:
        """Remove an object, where there is one."""

        def once() -> None:
            with suppress(FileNotFoundError):
                self._files.rm_file(self._at(name))
            self._files.invalidate_cache()

        self._tried(once, name)

    def send(self, name: str, path: Path) -> tuple[int, str]:
        """Put a file; its size and CRC-32."""
        size, crc32 = _measured(path)
        if size <= _WHOLE or self._is_local:
            self.write(name, path.read_bytes())
        else:
            self._tried(lambda: self._files.put_file(str(path), self._at(name)), name)
        return size, crc32

    def fetch(self, name: str, path: Path, size: int, crc32: str) -> None:
        """Write an object to a file, compared with its size and checksum.

        Raises:
            RunDirectoryError: it is missing, or not what was written.
        """

        def once() -> bool:
            try:
                self._files.get_file(self._at(name), str(path))
            except FileNotFoundError:
                return False
            return True

        path.parent.mkdir(parents=True, exist_ok=True)
        if not self._tried(once, name):
            raise RunDirectoryError(f"{self._at(name)}: is missing; {_PUBLISH_AGAIN}")
        if _measured(path) != (size, crc32):
            raise RunDirectoryError(f"{self._at(name)}: is not what was written; {_PUBLISH_AGAIN}")

    @property
    def _is_local(self) -> bool:
        kinds = self._files.protocol
        return "file" in ((kinds,) if isinstance(kinds, str) else kinds)

    def _at(self, name: str) -> str:
        return f"{self.place}/{name}"

    def _put(self, name: str, raw: bytes, **options: Any) -> None:
        path = self._at(name)
        if self._is_local:
            local = Path(self._files._strip_protocol(path))
            if options and local.exists():
                raise FileExistsError(str(local))
            atomic_write(local, raw)
            return
        self._files.pipe_file(path, raw, **options)
        self._files.invalidate_cache()

    def _tried(self, work: Callable[[], Result], name: str) -> Result:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return work()
            except (FileExistsError, PermissionError, RunDirectoryError):
                raise
            except Exception as error:  # drivers have error classes of their own for a network that fails
                if attempt == _ATTEMPTS:
                    raise RunDirectoryError(
                        f"{self._at(name)}: the store does not answer as it should ({type(error).__name__}: {error}); "
                        "what is in the run directory is kept: run the same command again"
                    ) from error
                _LOG.warning("%s: %s; trying again, %d of %d", self._at(name), error, attempt, _ATTEMPTS - 1)
                time.sleep(_FIRST_WAIT * 2 ** (attempt - 1))
        raise AssertionError("every attempt returns or raises")


class StageStore:
    """The complete stages of one run at an address; made by `hold_store`.

    Args:
        folder: the address.
        run: the run directory.
    """

    def __init__(self, folder: ObjectFolder, run: RunDirectory) -> None:
        self._folder, self._run = folder, run

    def __repr__(self) -> str:
        return f"StageStore({self._folder.place!r})"

    @property
    def place(self) -> str:
        """The address."""
        return self._folder.place

    def publish(self, stage: str) -> None:
        """Copy a complete stage there, unless it is there.

        The old manifest goes first and the new one comes last, so that a reader sees all files of one completion, or
        no stage at all.
        """
        manifest = (self._run.path / stage / MANIFEST).read_bytes()
        if self._folder.read(f"{stage}/{MANIFEST}") == manifest:
            return
        self._folder.remove(f"{stage}/{MANIFEST}")
        before = self._listed(stage)
        listed = {name: self._folder.send(name, self._run.path / name) for name in _published(self._run.path, stage)}
        self._folder.write(f"{stage}/{FILES}", json.dumps(listed, indent=1).encode())
        self._folder.write(f"{stage}/{MANIFEST}", manifest)
        for name in before.keys() - listed.keys():
            self._folder.remove(name)

    def restore(self, stage: str, fingerprint: str) -> bool:
        """Take a stage from there, where it is complete and of these settings and inputs; says whether it was.

        Raises:
            RunDirectoryError: a file is missing, or not what was written.
        """
        manifest = self._folder.read(f"{stage}/{MANIFEST}")
        if manifest is None or json.loads(manifest).get("fingerprint") != fingerprint:
            return False
        fetched = Path(tempfile.mkdtemp(dir=self._run.path, prefix=".fetched."))
        try:
            listed = self._listed(stage)
            for name, (size, crc32) in listed.items():
                self._folder.fetch(name, fetched / name, size, crc32)
            # A file, or a whole folder in the stage's: shards of an earlier table must not stay beside those of this.
            inside = {(folder, name.removeprefix(f"{folder}/").split("/")[0]) for name in listed
                      for folder in _folders(stage) if name.startswith(f"{folder}/")}  # fmt: skip
            for folder, name in sorted(inside):
                (self._run.path / folder).mkdir(parents=True, exist_ok=True)
                take_place(fetched / folder / name, self._run.path / folder / name)
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
        atomic_write(self._run.path / stage / MANIFEST, manifest)
        return True

    def _listed(self, stage: str) -> dict[str, tuple[int, str]]:
        raw = self._folder.read(f"{stage}/{FILES}")
        return {} if raw is None else {name: (size, crc32) for name, (size, crc32) in json.loads(raw).items()}


@contextmanager
def hold_store(place: str | None, run: RunDirectory) -> Iterator[StageStore | None]:
    """A run's store, kept from every other run while this one works; None where there is no address.

    A lock that was left by this very run directory, whose process was killed, is taken over; that of another one when
    nobody has renewed it for two minutes.

    Args:
        place: the address.
        run: the run directory, which this process holds.

    Raises:
        RunBusyError: another run writes there.
        RunDirectoryError: the store cannot be reached.
        SourceError: the address' kind is unknown, or its driver is not installed.
    """
    if place is None:
        yield None
        return
    folder = ObjectFolder(place)
    lock = _Lock(folder, f"{socket.gethostname()}:{run.path.resolve()}")
    lock.take()
    try:
        yield StageStore(folder, run)
    finally:
        lock.release()


class _Lock:
    """Who writes at a store; renewed in a thread while it is held."""

    def __init__(self, folder: ObjectFolder, owner: str) -> None:
        self._folder, self._owner = folder, owner
        self._token = uuid.uuid4().hex
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="multigrain-store-lock", daemon=True)

    def take(self) -> None:
        raw = self._words()
        if not self._folder.create(LOCK, raw):
            held = json.loads(self._folder.read(LOCK) or b"{}")
            age = time.time() - held.get("renewed_at", 0.0)
            if held.get("owner") != self._owner and age < _LEASE:
                raise RunBusyError(
                    f"{self._folder.place} is written by {held.get('owner')} (process {held.get('process')}, "
                    f"{age:.0f} s ago): wait for it, or name another engine.store"
                )
            self._folder.write(LOCK, raw)
        # Of two that take over at once the later put stays, and the other one sees it here.
        if json.loads(self._folder.read(LOCK) or b"{}").get("token") != self._token:
            raise RunBusyError(f"{self._folder.place} was taken by another run at this very moment: try again")
        self._thread.start()

    def release(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(RunDirectoryError):
            if json.loads(self._folder.read(LOCK) or b"{}").get("token") == self._token:
                self._folder.remove(LOCK)

    def _renew(self) -> None:
        while not self._over.wait(_RENEWED):
            try:
                self._folder.write(LOCK, self._words())
            except RunDirectoryError as error:  # the stage says so when it publishes
                _LOG.warning("%s", error)

    def _words(self) -> bytes:
        values = {"owner": self._owner, "process": os.getpid(), "token": self._token, "renewed_at": time.time()}
        return json.dumps(values).encode()


def _folders(stage: str) -> tuple[str, ...]:
    """The folders of a run that a stage fills: its own, and the chosen model's."""
    return (stage, "model") if stage == "results" else (stage,)


def _published(run: Path, stage: str) -> list[str]:
    """The files of a stage that count elsewhere, the manifests of tables after their shards; relative to the run."""
    paths = [path for folder in _folders(stage) for path in sorted((run / folder).rglob("*")) if path.is_file()]
    names = [path.relative_to(run).as_posix() for path in paths if _counts(path.relative_to(run), stage)]
    return sorted(names, key=lambda name: name.rsplit("/", 1)[-1].startswith("_"))


def _counts(inside: Path, stage: str) -> bool:
    hidden = any(part.startswith(".") or part in _STAYS for part in inside.parts)
    own = inside.as_posix() in (f"{stage}/{MANIFEST}", f"{stage}/{FILES}") or ".sqlite" in inside.name
    return not hidden and not own


def _measured(path: Path) -> tuple[int, str]:
    """Bytes and CRC-32 of a file."""
    size = checksum = 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return size, f"{checksum:08x}"
