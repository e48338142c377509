"""Files and folders: written whole or not at all, opened wherever they lie, and known by what they hold."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

from multigrain.display.install import install_line
from multigrain.errors import RunDirectoryError, SourceError

UNPACK: Final = {
    ".gz": "gunzip -k",
    ".zst": "unzstd",
    ".bz2": "bunzip2 -k",
    ".xz": "unxz -k",
    ".zip": "unzip",
}
"""What unpacks a file whose name ends so."""


def atomic_write(path: Path, data: str | bytes) -> None:
    """Write a whole file or nothing: to a sibling, flushed to disk, then renamed over the old one.

    Raises:
        RunDirectoryError: the disk is full, or the path cannot be written.
    """
    with atomic_stream(path) as stream, writing(path):
        stream.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_stream(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write in parts; it gets its name when the block succeeds, and is removed when it fails.

    Raises:
        RunDirectoryError: the path cannot be written. What fails within the block is left as it is; see `writing`.
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
    """Turn an operating system's error while writing into one line that names the file.

    Raises:
        RunDirectoryError: the disk is full, or the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(
            f"{path}: cannot be written ({error.strerror}); nothing is half-written: free the disk or fix the "
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


def take_place(finished: Path, path: Path) -> None:
    """Move a finished file or folder to its final path, replacing what is there.

    A file replaces a file in one step. The system has no such step for folders: the old one is moved aside first, and
    moved back if the new one cannot be moved. A process that is killed between the two leaves nothing at the path.
    """
    if not os.path.lexists(path) or not (finished.is_dir() or path.is_dir()):
        finished.replace(path)
        return
    discarded = path.with_name(f".{path.name}.discarded-{time.time_ns()}")
    path.rename(discarded)
    try:
        finished.rename(path)
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


def walk_folders(folder: Path, enters: Callable[[Path], bool] = Path.is_dir) -> Iterator[tuple[Path, list[str]]]:
    """Each folder in a folder, itself the first, and the names of the files in it; also behind symbolic links.

    No folder comes twice. One that lies here and is linked to, too, comes by its own path. A link to a folder in which
    this one lies is a loop, and not followed.

    Args:
        folder: where to begin.
        enters: whether to go into a folder.
    """
    around = {_folder_id(parent) for parent in (folder.resolve(), *folder.resolve().parents)}
    seen: set[tuple[int, int]] = set()
    waiting = deque([folder])
    while waiting:
        start = waiting.popleft()
        if start != folder and _folder_id(start) in around:
            continue
        for root, folders, names in os.walk(start):
            here = Path(root)
            inside = [] if _folder_id(here) in seen else [here / name for name in sorted(folders)]
            inside = [path for path in inside if enters(path)]
            waiting.extend(path for path in inside if path.is_symlink())
            folders[:] = [path.name for path in inside if not path.is_symlink()]
            if _folder_id(here) not in seen:
                seen.add(_folder_id(here))
                yield here, names


def files_inside(folder: Path) -> list[Path]:
    """All files in a folder and in those within it, by path; see `walk_folders`."""
    return sorted(root / name for root, names in walk_folders(folder) for name in names if (root / name).is_file())


def _folder_id(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def unpack_hint(file: Path | str) -> str:
    """What an error says of a compressed file, which no reader of ours opens; empty for others."""
    name = str(file).replace("\\", "/").rsplit("/", 1)[-1]
    command = UNPACK.get(Path(name).suffix.lower())
    return "" if command is None else f"compressed files are not read; unpack it first, e.g. `{command} {name}`"


def is_remote(place: object) -> bool:
    """Whether a place is an fsspec address, and no path."""
    return "://" in str(place)


def file_system(place: str) -> Any:
    """The fsspec file system of a folder or an address.

    Raises:
        SourceError: the address' kind is unknown, or its driver is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(place)[0]
    except ImportError as error:
        extra = f"; {install_line('s3')}" if place.startswith("s3") else ""
        raise SourceError(f"{place}: {error}{extra}") from None
    except ValueError as error:
        raise SourceError(f"{place}: {error}") from None


@contextmanager
def open_binary(place: str | Path) -> Iterator[IO[bytes]]:
    """A file to read, wherever it lies.

    Raises:
        SourceError: it cannot be opened.
    """
    opened = partial(file_system(str(place)).open, str(place)) if is_remote(place) else Path(place).open
    try:
        stream = opened(mode="rb")
    except OSError as error:
        raise SourceError(f"{place}: cannot be read ({error.strerror or error})") from None
    with stream:
        yield stream


def content_fingerprint(path: Path) -> str | None:
    """A SHA-256 over a file, or over the names and contents of all files in a folder; None where there is nothing.

    Hidden files and model cards are left out: they decide nothing. A file that has not changed since this process
    hashed it last, by its size and time, is not read again.
    """
    path = path.expanduser()
    if path.is_file():
        return _file_hash(path)
    if not path.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
        if file.is_file() and not hidden and file.name != "README.md":
            digest.update(f"{inside.as_posix()}\0{_file_hash(file)}\n".encode())
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    return _hash_of(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _hash_of(path: Path, size: int, changed: int) -> str:
    del size, changed  # they are the cache's key: what they stand for is what is read
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
