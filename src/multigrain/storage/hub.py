"""Data sets of the Hugging Face hub, and folders that `datasets` reads or has saved.

A reference is `hf:OWNER/NAME[@REVISION][:CONFIG][:SPLIT]`, or `hf:FOLDER[:CONFIG][:SPLIT]`. With one part after
the name, `train`, `validation`, `test` and `dev` (also sliced, `train[:1000]`) are splits, anything else is a config.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from multigrain.config.location import HUB_MARK
from multigrain.errors import SourceError

__all__ = ["HubReference", "hub_fingerprint", "parse_hub", "read_hub"]

_DEFAULT_SPLIT: Final = "train"
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
    found = _REFERENCE.fullmatch(str(path).removeprefix(HUB_MARK))
    if found is None:
        raise SourceError(f"{path}: not a data set; write hf:OWNER/NAME[@REVISION][:CONFIG][:SPLIT]")
    config, split = found["first"], found["second"]
    if config is not None and split is None and _SPLIT.fullmatch(config):
        config, split = None, config
    return HubReference(found["name"], config, split or _DEFAULT_SPLIT, found["revision"])


def read_hub(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a data set.

    Raises:
        SourceError: there is no such data set, config or split, or it cannot be fetched.
    """
    reference = parse_hub(path)
    yield from _load(path, reference)


def hub_fingerprint(path: Path) -> str:
    """Changes with the reference and, for a folder, with its files. What the hub holds is not looked at."""
    seen = hashlib.sha256(str(path).encode())
    folder = parse_hub(path).folder
    for each in sorted(folder.rglob("*")) if folder is not None else ():
        if folder is not None and each.is_file():
            status = each.stat()
            seen.update(f"{each.relative_to(folder)}\x1f{status.st_size}\x1f{status.st_mtime_ns}\n".encode())
    return seen.hexdigest()


def _load(path: Path, reference: HubReference) -> Any:
    import datasets

    folder = reference.folder
    try:
        if folder is not None and (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(folder))[reference.split]
        if folder is not None and (folder / "state.json").is_file():
            return datasets.load_from_disk(str(folder))
        return datasets.load_dataset(
            str(folder or reference.name), reference.config, split=reference.split, revision=reference.revision
        )
    except KeyError:
        raise SourceError(f"{path}: no split {reference.split!r} in the folder") from None
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        # ConnectionError and the hub's own errors are OSErrors; an unknown config or split is a ValueError.
        raise SourceError(f"{path}: cannot be loaded ({' '.join(str(error).split())[:300]})") from None
