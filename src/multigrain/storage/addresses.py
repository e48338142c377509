"""Addresses of files: a path, or a place that fsspec can open (s3://…, gs://…, memory://…)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from multigrain.errors import SourceError


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
    except (ImportError, ValueError) as error:
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
