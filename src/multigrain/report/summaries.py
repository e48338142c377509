"""Figures that no manifest holds: titles, groups, answers, how similarities are distributed, which items are shown."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from multigrain.llm.session.usage import read_usage
from multigrain.records import LEVELS
from multigrain.sources.words import fold_text

_BINS = 72
_SMOOTHING = 1.6  # bins; wide enough to hide the binning, narrow enough to keep two humps apart


_GROUPS = 3


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back from the language model: all answers, and those that were stopped at the token limit."""

    completions: int
    cut: int


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The documents of one split, and what there is to ask for them with.

    Attributes:
        documents: how many there are.
        titled: those with a title.
        titles: different titles among them.
    """

    documents: int
    titled: int
    titles: int


def count_answers(journal: Path) -> Answers | None:
    """Count a journal's answers; None where there is no journal.

    Raises:
        RunDirectoryError: it cannot be opened.
    """
    if not journal.is_file():
        return None
    usage = read_usage(journal, None).summary()
    return Answers(usage["completions"], usage["cut_at_limit"])


def count_held_out(table: pa.Table | None) -> Mapping[str, HeldOut]:
    """Documents, titles and different titles by split.

    Args:
        table: `title` and `split` of the documents that are held out; None where they are not known.
    """
    if table is None:
        return {}
    documents = Counter[str]()
    titled = Counter[str]()
    titles: dict[str, set[str]] = defaultdict(set)
    for title, split in zip(table["title"].to_pylist(), table["split"].to_pylist(), strict=True):
        documents[split] += 1
        if title and title.strip():
            titled[split] += 1
            titles[split].add(fold_text(title))
    return {split: HeldOut(count, titled[split], len(titles[split])) for split, count in documents.items()}


def near_duplicates(table: pa.Table | None) -> tuple[int, tuple[tuple[str, ...], ...]]:
    """How many groups have more than one document, and the ids of the first of them.

    Args:
        table: `id` and `group` of all documents; None where they are not known.
    """
    if table is None:
        return 0, ()
    sizes = table.group_by("group").aggregate([("group", "count")])
    several = sizes.filter(pc.greater(sizes["group_count"], 1))["group"]
    first = sorted(several.to_pylist())[:_GROUPS]
    members = table.filter(pc.is_in(table["group"], pa.array(first, table["group"].type)))
    named: dict[int, list[str]] = defaultdict(list)
    for key, group in zip(members["id"].to_pylist(), members["group"].to_pylist(), strict=True):
        named[group].append(key)
    return len(several), tuple(tuple(named[group][:_GROUPS]) for group in first)


@dataclass(frozen=True, slots=True)
class SimilarityBand:
    """Measured similarity to the query of the positives, or of one level's negatives.

    Attributes:
        level: 1 to 4; 0 stands for the positives.
        count: texts measured.
        written: how many of them a language model wrote; 0 for positives.
        p10: tenth percentile.
        p50: median.
        p90: ninetieth percentile.
        density: how the texts are distributed over equal bins of the summary's range; the fullest bin is 1.
    """

    level: int
    count: int
    written: int
    p10: float
    p50: float
    p90: float
    density: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Similarity:
    """The bands of positives and negatives on one common range of cosines.

    Attributes:
        low: where every band's first bin begins.
        high: where every band's last bin ends.
        bands: the positives, then level 1 to 4.
        positive_first: share of rows whose positive is closer to the query than every negative.
    """

    low: float
    high: float
    bands: tuple[SimilarityBand, ...]
    positive_first: float


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Indices of at most `limit` items, evenly spaced among `count`."""
    chosen = min(count, limit)
    return [(2 * i + 1) * count // (2 * chosen) for i in range(chosen)]


def summarise_similarity(
    positive: NDArray[np.float32], levels: NDArray[np.float32], written: NDArray[np.bool_]
) -> Similarity | None:
    """Distribution of the measured similarities of positives and of each level.

    Args:
        positive: (rows,) cosine of query and positive.
        levels: (rows, 4) cosine of query and negative, level 1 first.
        written: (rows, 4) whether a language model wrote the negative.

    Returns:
        None where there are no rows.
    """
    if not len(positive):
        return None
    everything = np.concatenate([positive, levels.ravel()])
    low = math.floor(float(everything.min()) * 10) / 10
    high = max(math.ceil(float(everything.max()) * 10) / 10, low + 0.1)
    bands = [_band(0, positive, 0, low, high)]
    for column, level in enumerate(LEVELS):
        bands.append(_band(int(level), levels[:, column], int(written[:, column].sum()), low, high))
    return Similarity(
        low=low,
        high=high,
        bands=tuple(bands),
        positive_first=float((positive > levels.max(axis=1)).mean()),
    )


def _band(level: int, values: NDArray[np.float32], written: int, low: float, high: float) -> SimilarityBand:
    counts, _ = np.histogram(values, bins=_BINS, range=(low, high))
    offsets = np.arange(-math.ceil(3 * _SMOOTHING), math.ceil(3 * _SMOOTHING) + 1)
    kernel = np.exp(-0.5 * (offsets / _SMOOTHING) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="same")
    p10, p50, p90 = map(float, np.percentile(values, [10, 50, 90]))
    return SimilarityBand(
        level=level,
        count=len(values),
        written=written,
        p10=p10,
        p50=p50,
        p90=p90,
        density=tuple(map(float, smooth / smooth.max())),
    )
