"""Data sets of the Hugging Face hub, and folders that `datasets` reads or has saved.

A reference is `hf:OWNER/NAME[@REVISION][:CONFIG][:SPLIT]`, or `hf:FOLDER[:CONFIG][:SPLIT]`. With one part after
the name, `train`, `validation`, `test` and `dev` (also sliced, `train[:1000]`) are splits, anything else is a config;
of what is saved it is a split, whatever it is called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from multigrain.config.paths import HUB_MARK
from multigrain.errors import SourceError

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
        split: which part; None for the only one of a saved folder.
        revision: a tag, branch or commit; None for the newest.
    """

    name: str
    config: str | None
    split: str | None
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
    # What is saved has no configs: hf:FOLDER:corpus is a split.
    if (
        config is not None
        and split is None
        and (_SPLIT.fullmatch(config) or is_saved(Path(parts["name"]).expanduser()))
    ):
        config, split = None, config
    return HubReference(parts["name"], config, split or _DEFAULT_SPLIT, parts["revision"])


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved something in a folder."""
    return any((folder / name).is_file() for name in _SAVED)


def read_hub(reference: HubReference, shown: str) -> Iterator[Any]:
    """The rows of a data set, or of a folder that `datasets` saved, as Arrow tables of some thousand rows.

    Args:
        reference: the data set.
        shown: what errors call it.

    Raises:
        SourceError: there is no such data set, config or split, or it cannot be fetched.
    """
    try:
        with _without_bars():
            data_set = _load(reference, shown)
    except SourceError:
        raise
    except Exception as error:  # the library raises whatever its readers and the hub's client do
        raise SourceError(f"{shown}: cannot be loaded ({_root_cause(error)})") from error
    yield from data_set.with_format("arrow").iter(batch_size=_BATCH_ROWS)


class ClassName(str):
    """The name of a class, which knows its number."""

    __slots__ = ("number",)
    number: int

    @classmethod
    def of(cls, names: Sequence[str], number: int) -> ClassName | None:
        """The class of a number; None for a number that no class has, such as -1."""
        if not 0 <= number < len(names):
            return None
        name = cls(names[number])
        name.number = number
        return name


def class_names(schema: Any) -> dict[str, list[str]]:
    """The names of classes by column, as `datasets` notes them in what it writes; empty for any other table.

    Args:
        schema: of the Arrow table.
    """
    noted = (schema.metadata or {}).get(b"huggingface")
    if noted is None:
        return {}
    try:
        features = json.loads(noted)["info"]["features"]
        kinds = {column: feature for column, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # of another version than any that is known
    return {
        column: list(map(str, feature["names"]))
        for column, feature in kinds.items()
        if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)
    }


def _load(reference: HubReference, shown: str) -> Any:
    import datasets

    folder = reference.folder
    if folder is None or not is_saved(folder):
        name = str(folder or reference.name)
        return datasets.load_dataset(name, reference.config, split=reference.split, revision=reference.revision)
    saved = datasets.load_from_disk(str(folder))
    if not isinstance(saved, datasets.DatasetDict):
        return saved
    there = ", ".join(saved)
    split = reference.split or there  # there is one, or it is no split's name
    if split not in saved:
        problem = f"no split {split!r}; it has" if reference.split else "give the folder of one of its splits:"
        raise SourceError(f"{shown}: {problem} {there}")
    if reference.config in saved and reference.config != split:
        raise SourceError(
            f"{shown}: {reference.config} and {split} are both splits of it; name one: hf:{folder}:{split}"
        )
    return saved[split]


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
