"""Graded rows and retrieval sets as memory-mapped data sets that the trainer reads, and the plan over them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
from datasets import Dataset, DatasetDict

from multigrain.config import TrainingConfig
from multigrain.curriculum.lengths import group_by_length
from multigrain.curriculum.plan import cut_for_processes, plan_batches
from multigrain.curriculum.pools import GradedPool, GradedShape, PairPool, RowPool, text_key
from multigrain.curriculum.schedule import LevelSchedule, level_schedule
from multigrain.errors import ModelError
from multigrain.records import LEVELS, GradedExample
from multigrain.training.row_texts import RowTexts

GRADED: Final = "graded"
"""The name of the source that the run's own rows are."""

_ROWS_A_WRITE: Final = 1000


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


@dataclass(frozen=True)
class TrainingSource:
    """Rows that are trained on in batches of their own.

    Attributes:
        name: `graded`, or that of a retrieval set.
        dataset: memory-mapped; columns in the order that losses expect, and no others.
        pool: what stands where in it.
        weight: how many steps it gets, relative to the others.
    """

    name: str
    dataset: Dataset
    pool: RowPool
    weight: float = 1.0


@dataclass(frozen=True)
class TrainingPlan:
    """A whole run.

    Attributes:
        dataset: of the one source, or of all by name.
        batches: one list a forward pass; indices into the data set, or into all of them one after another.
        sources: the name of every step's source.
        rows: of all sources.
    """

    dataset: Dataset | DatasetDict
    batches: list[list[int]]
    sources: list[str]
    rows: dict[str, int]


def graded_source(
    examples: Sequence[GradedExample], shape: GradedShape, folder: Path, *, weight: float = 1.0
) -> TrainingSource:
    """The run's own rows, in the shape that schedule and loss need.

    Args:
        examples: graded rows.
        shape: pairs (query, positive), triples (long form: all of level 1 first, then all of level 2, and so on), or
            lists (query, positive, negative_1 to negative_4).
        folder: where the data set's file is written.
        weight: how many steps it gets, relative to the others.
    """
    columns = {
        "pairs": ("query", "positive"),
        "triples": ("query", "positive", "negative"),
        "lists": ("query", "positive", *(f"negative_{int(level)}" for level in LEVELS)),
    }[shape]
    dataset = _memory_mapped(folder / f"{GRADED}.arrow", columns, _graded_rows(examples, shape))
    return TrainingSource(GRADED, dataset, GradedPool.of(examples, shape), weight)


def pair_source(
    name: str, rows: Iterable[PairRow], folder: Path, *, weight: float, with_negatives: bool
) -> TrainingSource:
    """A retrieval set, as triples or as pairs. A row stands in it once for each of its negatives.

    Args:
        name: what logs call it.
        rows: read once; all with negatives, or all without.
        folder: where the data set's file is written.
        weight: how many steps it gets, relative to the others.
        with_negatives: whether the rows have negatives.
    """
    keys: list[tuple[int, ...]] = []
    starts: list[int] = []

    def listed() -> Iterator[tuple[str, ...]]:
        stands = 0
        for row in rows:
            keys.append(tuple(text_key(text) for text in (row.query, row.positive, *row.negatives)))
            starts.append(stands)
            stands += max(1, len(row.negatives))
            if not with_negatives:
                yield row.query, row.positive
            for negative in row.negatives:
                yield row.query, row.positive, negative

    columns = ("query", "positive", "negative") if with_negatives else ("query", "positive")
    dataset = _memory_mapped(folder / f"{name}.arrow", columns, listed())
    return TrainingSource(name, dataset, PairPool(keys, starts), weight)


def plan_training(
    sources: Sequence[TrainingSource], config: TrainingConfig, *, seed: int, processes: int = 1
) -> TrainingPlan:
    """Decide every batch of the run.

    Which rows are visited in which order depends on the seed alone, but for rows that wait because they share a text
    with their batch: candidates that differ in schedule or pooling see the same queries at the same steps.

    Args:
        sources: the graded rows first.
        config: the candidate's settings.
        seed: of row order and level draws.
        processes: that train together.

    Raises:
        ModelError: the batch cannot be cut into equal parts, or a source has too few different rows for one.
    """
    parts = processes * config.accumulation
    if config.batch_size % parts:
        raise ModelError(
            f"training.batch_size {config.batch_size} cannot be cut into {processes} processes × "
            f"{config.accumulation} accumulated parts; choose a multiple of {parts}"
        )
    # A part of one query has no in-batch negative; what processes compute on at once is one part where it is gathered.
    apart = config.accumulation if config.gather_across_devices else parts
    if config.batch_size < 2 * apart:
        raise ModelError(
            f"training.batch_size {config.batch_size} leaves one query to each of {apart} parts, and so no in-batch "
            "negative; raise it, or lower training.accumulation"
        )
    starts = list(itertools.accumulate((len(source.dataset) for source in sources), initial=0))
    count = config.steps_for(sum(len(source.pool) for source in sources if source.name == GRADED))
    schedule = schedule_of(config, count, seed=seed)
    try:
        steps = list(
            plan_batches(
                [source.pool for source in sources],
                schedule,
                steps=count,
                batch_size=config.batch_size,
                seed=seed,
                weights=[source.weight for source in sources],
                rows=config.rows,
                parts=parts,
            )
        )
    except ValueError as error:
        raise ModelError(f"training: {error}; give it more rows, or lower the number of parts") from None
    whole = [[starts[step.source] + index for index in step.indices] for step in steps]
    if config.group_by_length:
        stretches = [(step.source, schedule.weights(number)) for number, step in enumerate(steps)]
        texts = RowTexts([source.dataset for source in sources])
        whole = group_by_length(whole, texts.length, stretches, texts=texts.keys, seed=seed)
    batches = [part for batch in whole for part in cut_for_processes(batch, parts)]
    return TrainingPlan(
        dataset=(
            sources[0].dataset if len(sources) == 1 else DatasetDict({each.name: each.dataset for each in sources})
        ),
        batches=batches,
        sources=[sources[step.source].name for step in steps],
        rows={source.name: len(source.pool) for source in sources},
    )


def schedule_of(config: TrainingConfig, steps: int, *, seed: int) -> LevelSchedule:
    """The schedule that a candidate's settings ask for, over a run of so many steps."""
    return level_schedule(config.schedule, steps, seed=seed, phases=config.curriculum)


def _graded_rows(examples: Sequence[GradedExample], shape: GradedShape) -> Iterator[tuple[str, ...]]:
    if shape == "triples":
        for level in LEVELS:
            for each in examples:
                yield each.query, each.positive, each.negatives[level - 1].text
        return
    for each in examples:
        kept = [negative.text for negative in each.negatives] if shape == "lists" else []
        yield each.query, each.positive, *kept


def _memory_mapped(path: Path, columns: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Dataset:
    """Write rows to an Arrow file and open it: however many there are, few are in memory at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([pa.field(name, pa.large_string()) for name in columns])
    listed = iter(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while chunk := list(itertools.islice(listed, _ROWS_A_WRITE)):
            arrays = [pa.array(values, pa.large_string()) for values in zip(*chunk, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
    return Dataset.from_file(str(path))
