"""Retrieval sets to mix in: any hub or local data set, as rows of query, positive and negatives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import datasets

from multigrain.config import MixSourceConfig
from multigrain.display.text import first_line
from multigrain.errors import SourceError
from multigrain.storage.shards import MANIFEST_NAME, table_files
from multigrain.training.data import PairRow, TrainingSource, pair_source

__all__ = ["MixedRows", "load_mix_source", "mix_source", "read_pairs"]

_BUILDERS: Final = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
_SAVED: Final = ("dataset_info.json", "dataset_dict.json")
_CHUNK: Final = 1000


@dataclass
class MixedRows:
    """What was read of a set.

    Attributes:
        taken: rows that can be trained on.
        without_text: rows left out, since their query or positive is empty.
        without_negative: rows left out, since the set has negatives and they have none.
    """

    taken: int = 0
    without_text: int = 0
    without_negative: int = 0


def mix_source(config: MixSourceConfig, folder: Path, *, seed: int) -> tuple[TrainingSource, MixedRows]:
    """Read a set and write what training reads.

    Args:
        config: where it is and which columns it has.
        folder: where the training file is written.
        seed: of the rows that are taken where `max_rows` limits them.

    Raises:
        SourceError: it cannot be read, a column is missing or is no text, or fewer than two rows are usable.
    """
    dataset = load_mix_source(config)
    counts = MixedRows()
    rows = read_pairs(dataset, config, counts, seed=seed)
    with_negatives = bool(config.columns.negatives)
    source = pair_source(config.name, rows, folder, weight=config.weight, with_negatives=with_negatives)
    if counts.taken < 2:
        raise SourceError(
            f"training.mix {config.name!r} ({config.path}): {counts.taken} usable rows of {len(dataset)} "
            f"({counts.without_text} have no query or positive, {counts.without_negative} no negative); at least 2 "
            "are needed"
        )
    return source, counts


def load_mix_source(config: MixSourceConfig) -> datasets.Dataset:
    """Open a set, memory-mapped, and check its columns.

    Raises:
        SourceError: it cannot be read, or a column is missing; the message lists those there are.
    """
    path = Path(config.path).expanduser()
    place = f"training.mix {config.name!r} ({config.path})"
    if not path.exists() and (config.path.startswith(("/", "./", "../", "~")) or path.suffix.lower() in _BUILDERS):
        raise SourceError(f"{place}: no such file or folder")
    try:
        with _quietly():
            dataset = _open(config, path)
    except SourceError:
        raise
    except Exception as error:  # the library raises whatever its readers and the hub's client do
        raise SourceError(f"{place}: cannot be read as a data set: {_root_cause(error)}") from error
    wanted = [config.columns.query, config.columns.positive, *config.columns.negatives]
    missing = [name for name in dict.fromkeys(wanted) if name not in dataset.column_names]
    if missing:
        raise SourceError(
            f"{place}: no column {', '.join(map(repr, missing))}; its columns are "
            f"{', '.join(map(repr, dataset.column_names))}: name them under columns (query, positive, negatives)"
        )
    return dataset.select_columns(list(dict.fromkeys(wanted)))


def read_pairs(
    dataset: datasets.Dataset, config: MixSourceConfig, counts: MixedRows, *, seed: int
) -> Iterator[PairRow]:
    """Rows of a set, in its order.

    Args:
        dataset: with the mapped columns.
        config: which columns are what.
        counts: counts what is taken and what is left out.
        seed: of the rows that are taken where `max_rows` limits them.

    Raises:
        SourceError: a value is neither text nor a list of texts.
    """
    if config.max_rows is not None and config.max_rows < len(dataset):
        chosen = sorted(random.Random(f"{seed}:{config.name}").sample(range(len(dataset)), config.max_rows))
        dataset = dataset.select(chosen)
    columns = config.columns
    for start in range(0, len(dataset), _CHUNK):
        values = dataset[start : start + _CHUNK]
        for offset in range(len(values[columns.query])):
            row = start + offset

            def texts(column: str, values: Any = values, offset: int = offset, row: int = row) -> list[str]:
                return _texts(values[column][offset], column, row, config)

            query, positive = texts(columns.query)[:1], texts(columns.positive)[:1]
            if not query or not positive:
                counts.without_text += 1
                continue
            own = {query[0], positive[0]}
            # A negative that is the row's own positive, or comes twice, is a slip of the miner.
            found = dict.fromkeys(text for name in columns.negatives for text in texts(name) if text not in own)
            if columns.negatives and not found:
                counts.without_negative += 1
                continue
            counts.taken += 1
            yield PairRow(query[0], positive[0], tuple(found))


def _open(config: MixSourceConfig, path: Path) -> datasets.Dataset:
    if path.is_dir() and any((path / name).is_file() for name in _SAVED):
        loaded = datasets.load_from_disk(str(path))
        if isinstance(loaded, datasets.DatasetDict):
            return _split_of(loaded, config)
        return loaded
    if path.is_dir():
        ours = (path / MANIFEST_NAME).is_file()
        files = list(map(str, table_files(path) if ours else sorted(path.glob("*.parquet"))))
        if not files:
            raise SourceError(
                f"training.mix {config.name!r} ({config.path}): the folder holds neither Parquet files nor a data set "
                "that `datasets` saved"
            )
        return datasets.load_dataset("parquet", data_files=files, split="train")
    if path.is_file():
        return _open_file(config, path)
    return datasets.load_dataset(config.path, config.subset, split=config.split)


def _open_file(config: MixSourceConfig, path: Path) -> datasets.Dataset:
    suffix = path.suffix.lower()
    if suffix not in _BUILDERS:
        raise SourceError(
            f"training.mix {config.name!r} ({config.path}): cannot tell what it holds; expected one of "
            f"{', '.join(_BUILDERS)}, a folder, or a hub id"
        )
    options: dict[str, Any] = {}
    if _BUILDERS[suffix] == "csv":
        # The word "null" in a text is a word.
        options = {"keep_default_na": False, "sep": "\t" if suffix == ".tsv" else ","}
    return datasets.load_dataset(_BUILDERS[suffix], data_files=str(path), split="train", **options)


def _split_of(loaded: datasets.DatasetDict, config: MixSourceConfig) -> datasets.Dataset:
    if config.split not in loaded:
        raise SourceError(
            f"training.mix {config.name!r} ({config.path}): no split {config.split!r}; it has {', '.join(loaded)}"
        )
    return loaded[config.split]


def _texts(value: Any, column: str, row: int, config: MixSourceConfig) -> list[str]:
    """The texts of one cell: one, several or none; empty ones are none."""
    listed = value if isinstance(value, (list, tuple)) else [value]
    for each in listed:
        if each is not None and not isinstance(each, str):
            raise SourceError(
                f"training.mix {config.name!r} ({config.path}), row {row + 1}: column {column!r} holds "
                f"{type(each).__name__}, and neither text nor a list of texts"
            )
    return [each.strip() for each in listed if each is not None and each.strip()]


@contextmanager
def _quietly() -> Iterator[None]:
    """No bars between our own lines."""
    shown = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not shown:
            datasets.enable_progress_bars()


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
