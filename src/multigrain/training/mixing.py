"""Retrieval sets to mix in: any table, or any hub or saved data set, as rows of query, positive and negatives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from multigrain.config import MixSourceConfig
from multigrain.config.paths import is_hub
from multigrain.display.suggest import near_path
from multigrain.errors import SourceError
from multigrain.storage.columns import no_column
from multigrain.storage.files import files_inside
from multigrain.storage.hub import HubReference, is_saved
from multigrain.storage.labels import find_labels, is_match, only_matches, tell_if_all_match
from multigrain.storage.reading import Reading, using
from multigrain.storage.rows import ROW_KINDS, Row, read_data_set, read_rows

_LOOKED_AT: Final = 1_000  # rows in one of which a column is to be found


@dataclass(frozen=True, slots=True)
class PairRow:
    """A row of a retrieval set.

    Attributes:
        query: the query.
        positive: a passage that answers it.
        negatives: mined passages that don't; may be empty.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()


@dataclass
class MixedRows:
    """What was read of a set.

    Attributes:
        usable: rows that can be trained on.
        without_text: rows left out, since their query or positive is empty.
        without_negative: rows left out, since the set has negatives and they have none.
        reading: the same with the place of the first of each, and the columns that are not used.
    """

    usable: int = 0
    without_text: int = 0
    without_negative: int = 0
    reading: Reading = field(default_factory=Reading, compare=False)

    @property
    def read(self) -> int:
        """All rows."""
        return self.reading.rows


def read_mix(config: MixSourceConfig, counts: MixedRows, *, seed: int) -> Iterator[PairRow]:
    """Rows of a set, in its order: one for each positive. Rows whose label calls them no match are left out.

    Args:
        config: where it is, and which columns are what.
        counts: counts what is taken and what is left out.
        seed: of the rows that are taken where `max_rows` limits them.

    Raises:
        SourceError: it cannot be read, a column is missing, or a value is neither text nor a list of texts.
    """
    columns = config.columns
    reading = counts.reading
    try:
        labels = None if columns.negatives else find_labels(lambda: _rows(config))
        used = using(columns.query, columns.positive, *columns.negatives, None if labels is None else labels.column)
        queries: set[int] = set()
        for row in _sample(config, seed):
            reading.see(row, used)
            matching = row if columns.negatives else only_matches(row, columns.positive, reading)
            query, positives = _texts(row, columns.query)[:1], list(dict.fromkeys(_texts(matching, columns.positive)))
            if not query or not positives:
                counts.without_text += 1
                reading.leave_out("no query or no positive", f"{row.place}: no query or no positive")
                continue
            own = {query[0], *positives}
            # A negative that is the row's own positive, or comes twice, is a slip of the miner.
            negatives = dict.fromkeys(
                text for name in columns.negatives for text in _texts(row, name) if text not in own
            )
            if columns.negatives and not negatives:
                counts.without_negative += 1
                reading.leave_out("no negative", f"{row.place}: no negative")
                continue
            if is_match(labels, row, reading):
                counts.usable += 1
                if labels is not None:
                    queries.add(hash(query[0]))
                yield from (PairRow(query[0], positive, tuple(negatives)) for positive in positives)
        tell_if_all_match(labels, reading, rows=counts.usable, queries=len(queries))
    except SourceError as error:
        raise SourceError(f"training.mix {config.name!r}: {error}") from None


def mix_fingerprint(config: MixSourceConfig) -> list[Any]:
    """Changes when the files behind a set do; reads no content. A hub data set is its name."""
    path = Path(config.path).expanduser()
    files = files_inside(path) if path.is_dir() else [path]
    status = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    return [config.model_dump(mode="json", exclude={"path"}), status or config.path]


def _sample(config: MixSourceConfig, seed: int) -> Iterator[Row]:
    """The rows that are taken, once it is clear that they have the columns."""
    rows = _rows(config)
    if config.max_rows is not None:
        total = sum(1 for _ in _rows(config))
        if config.max_rows < total:
            positions = set(random.Random(f"{seed}:{config.name}").sample(range(total), config.max_rows))
            rows = (row for position, row in enumerate(rows) if position in positions)
    first = list(islice(rows, _LOOKED_AT))
    columns = dict.fromkeys(name for row in first for name in row.values)
    for name in (config.columns.query, config.columns.positive, *config.columns.negatives):
        if first and name not in columns and all(row.value(name) is None for row in first):
            raise SourceError(
                f"{config.path}: {no_column(name, columns, option='columns (query, positive, negatives)')}"
            )
    return chain(first, rows)


def _rows(config: MixSourceConfig) -> Iterator[Row]:
    path = Path(config.path).expanduser()
    if path.is_dir() and is_saved(path):
        return read_data_set(HubReference(str(path), None, config.split, None), config.path)
    if path.exists() or is_hub(path):
        return read_rows(path)
    if config.path.startswith(("/", "./", "../", "~")) or path.suffix.lower() in ROW_KINDS:
        raise SourceError(f"{config.path}: no such file or folder{near_path(path)}")
    return read_data_set(HubReference(config.path, config.subset, config.split, None), config.path)


def _texts(row: Row, name: str) -> list[str]:
    """The texts of one cell: one, several or none; a row of JSON may lack a column, and a list may hold nulls."""
    value = row.value(name)
    if isinstance(value, list):
        value = [text for text in value if text is not None]
    return Row(row.before, row.number, {name: value}).texts(name)
