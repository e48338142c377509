"""Data sets of the Hugging Face hub, and folders that `datasets` reads or has saved.

A reference is `hf:OWNER/NAME[@REVISION][:CONFIG][:SPLIT]`, or `hf:FOLDER[:CONFIG][:SPLIT]`. With one part after
the name, `train`, `validation`, `test` and `dev` (also sliced, `train[:1000]`) are splits, anything else is a config.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from multigrain.config.location import HUB_MARK
from multigrain.errors import SourceError

__all__ = ["HubReference", "hub_fingerprint", "is_saved", "open_saved", "parse_hub", "read_hub"]

_DEFAULT_SPLIT: Final = "train"
_SAVED: Final = ("dataset_dict.json", "state.json")
_BATCH_ROWS: Final = 4_096
_SPLIT: Final = re.compile(r"(?:train|validation|test|dev)(?:\[.*\])?")
_REFERENCE: Final = re.compile(
    r"(?P<name>[^:@]+)(?:@(?P<revision>[^:]+))?(?::(?P<first>[^:\[]+(?:\[.*\])?))?(?::(?P<second>.+))?"
)


@dataclass(frozen=True, slots=True)
class HubReference:
    """A data set.

    Attributes:
        name: OWNER/NAME on the hub, or a folder.
        config: which of its subsets; None for the only one.
        split: which part.
        revision: a tag, branch or commit; None for the newest.
    """

    name: str
    config: str | None
    split: str
    revision: str | None

    @property
    def folder(self) -> Path | None:
        """The folder that the name is, if there is one."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None


def parse_hub(path: Path) -> HubReference:
    """Read a reference.

    Raises:
        SourceError: it has not the form of one.
    """
    parts = _REFERENCE.fullmatch(str(path).removeprefix(HUB_MARK))
    if parts is None:
        raise SourceError(f"{path}: not a data set; write hf:OWNER/NAME[@REVISION][:CONFIG][:SPLIT]")
    config, split = parts["first"], parts["second"]
    if config is not None and split is None and _SPLIT.fullmatch(config):
        config, split = None, config
    return HubReference(parts["name"], config, split or _DEFAULT_SPLIT, parts["revision"])


def read_hub(reference: HubReference, shown: str) -> Iterator[Any]:
    """The rows of a data set as Arrow tables, some thousand at a time.

    Args:
        reference: the data set.
        shown: what errors call it.

    Raises:
        SourceError: there is no such data set, config or split, or it cannot be fetched.
    """
    folder = reference.folder
    if folder is not None and is_saved(folder):
        return open_saved(folder, reference.split, shown)
    import datasets

    def load() -> Any:
        return datasets.load_dataset(
            str(folder or reference.name), reference.config, split=reference.split, revision=reference.revision
        )

    return _batches(load, shown)


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved something in a folder."""
    return any((folder / name).is_file() for name in _SAVED)


def open_saved(folder: Path, split: str | None = None, shown: str = "") -> Iterator[Any]:
    """The rows of what `datasets` saved in a folder as Arrow tables, some thousand at a time.

    Args:
        folder: the folder.
        split: which part, where there are several; None for the only one.
        shown: what errors call it; empty for the folder.

    Raises:
        SourceError: it cannot be loaded, or the split is not there or not named.
    """
    import datasets

    def load() -> Any:
        saved = datasets.load_from_disk(str(folder))
        if not isinstance(saved, datasets.DatasetDict):
            return saved
        wanted = split or (next(iter(saved)) if len(saved) == 1 else None)
        if wanted in saved:
            return saved[wanted]
        there = ", ".join(saved)
        if wanted is None:
            raise SourceError(f"{shown or folder}: holds the splits {there}; give the folder of one of them")
        raise SourceError(f"{shown or folder}: no split {wanted!r}; it has {there}")

    return _batches(load, shown or str(folder))


def hub_fingerprint(path: Path) -> str:
    """Changes with the reference and, for a folder, with its files. What the hub holds is not looked at."""
    digest = hashlib.sha256(str(path).encode())
    folder = parse_hub(path).folder
    for file in sorted(folder.rglob("*")) if folder is not None else ():
        if folder is not None and file.is_file():
            status = file.stat()
            digest.update(f"{file.relative_to(folder)}\x1f{status.st_size}\x1f{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _batches(load: Callable[[], Any], shown: str) -> Iterator[Any]:
    try:
        with _without_bars():
            loaded = load()
    except SourceError:
        raise
    except Exception as error:  # the library raises whatever its readers and the hub's client do
        raise SourceError(f"{shown}: cannot be loaded ({_root_cause(error)})") from error
    yield from loaded.with_format("arrow").iter(batch_size=_BATCH_ROWS)


@contextmanager
def _without_bars() -> Iterator[None]:
    """A context in which `datasets` draws no progress bars between our own lines."""
    import datasets

    are_off = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not are_off:
            datasets.enable_progress_bars()


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300] or type(error).__name__
