"""What files hold, as a hash: a base model or an evaluation set that changes in place is another one."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

_BLOCK = 1 << 22


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
    status = path.stat()
    return _hash_of(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _hash_of(path: Path, size: int, changed: int) -> str:
    del size, changed  # they are the cache's key: what they stand for is what is read
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
