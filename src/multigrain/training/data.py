"""Graded rows and retrieval sets as memory-mapped data sets, the plan over them, and the sampler that follows it."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from datasets import Dataset, DatasetDict
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch.utils.data import SequentialSampler

from multigrain.config import MixSourceConfig, TrainingConfig
from multigrain.curriculum.plan import cut_for_processes, group_by_length, plan_batches
from multigrain.curriculum.pools import (
    GradedPool,
    GradedShape,
    ListPool,
    PairPool,
    RowPool,
    further_positive_keys,
    passage_key,
)
from multigrain.curriculum.schedule import LevelSchedule, level_schedule
from multigrain.errors import ModelError, SourceError
from multigrain.records import LEVELS, GradedExample
from multigrain.training.mixing import MixedRows, PairRow, read_mix
from multigrain.training.targets import ScoreTargets, scored_list

GRADED: Final = "graded"
"""The name of the source that the run's own rows are."""

LABEL: Final = "label"
"""The column of a list's labels, as sentence-transformers' trainer knows it."""
PASSAGE: Final = "passage_"
"""What the columns of a list's passages begin with."""

_ROWS_A_WRITE: Final = 1000
_CACHED_ROWS: Final = 200_000


@dataclass(frozen=True)
class TrainingSource:
    """Rows that are trained on in batches of their own.

    Attributes:
        name: `graded`, or that of a retrieval set.
        dataset: memory-mapped; columns in the order that losses expect, and no others.
        pool: what stands where in it.
        weight: how many steps it gets, relative to the others.
        threshold: see `losses.registry.LossSettings`.
    """

    name: str
    dataset: Dataset
    pool: RowPool
    weight: float = 1.0
    threshold: float = 0.0


@dataclass(frozen=True)
class TrainingPlan:
    """A whole run.

    Attributes:
        dataset: of the one source, or of all by name.
        batches: one list a forward pass; indices into the data set, or into all of them one after another.
        sources: the name of every step's source.
        rows: of all sources.
        threshold: of the graded rows' loss; see `losses.registry.LossSettings`.
    """

    dataset: Dataset | DatasetDict
    batches: list[list[int]]
    sources: list[str]
    rows: dict[str, int]
    threshold: float = 0.0


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


def scored_source(
    examples: Sequence[GradedExample], shape: GradedShape, folder: Path, targets: ScoreTargets, *, weight: float = 1.0
) -> TrainingSource:
    """The run's own rows as lists of passages with a teacher's scores; rows without scores are left out.

    Args:
        examples: graded rows with scores.
        shape: triples (long form: the list of level 1's band of each row first, and so on), or lists (all passages).
        folder: where the data set's file is written.
        targets: how scores become labels.
        weight: how many steps it gets, relative to the others.
    """
    banded = shape == "triples"
    width = targets.band if banded else targets.length
    columns = ("query", "positive", *(f"{PASSAGE}{number}" for number in range(1, width + 1)), LABEL)
    keys: list[tuple[int, int]] = []
    further: list[tuple[int, ...]] = []

    def listed() -> Iterator[tuple[Any, ...]]:
        for level in LEVELS if banded else LEVELS[-1:]:
            for example in examples:
                scored = scored_list(example)
                if scored is None or example.positive_score is None:
                    continue
                if level == LEVELS[-1]:  # the last, and perhaps the only, time around
                    keys.append((passage_key(example.query), passage_key(example.positive)))
                    further.append(further_positive_keys(example))
                passages = targets.of_level(scored, level) if banded else targets.whole(scored)
                labels = [targets.label(example.positive_score), *(label for _, label in passages)]
                yield example.query, example.positive, *(text for text, _ in passages), labels

    dataset = _memory_mapped(folder / f"{GRADED}.arrow", columns, listed())
    return TrainingSource(GRADED, dataset, ListPool(keys, further, banded), weight, targets.threshold)


def listed_source(
    examples: Sequence[GradedExample],
    shape: GradedShape,
    folder: Path,
    grades: Sequence[float],
    *,
    weight: float = 1.0,
) -> TrainingSource:
    """The run's own rows as lists of passages whose labels are the grades of their levels, for rerankers.

    Args:
        examples: graded rows.
        shape: triples (long form: each row with its negative of level 1 first, and so on), or lists (all four). A row
            stands there once for each of its positives.
        folder: where the data set's file is written.
        grades: of the positive, and of levels 1 to 4.
        weight: how many steps it gets, relative to the others.
    """
    banded = shape == "triples"
    columns = ("query", "positive", *(f"{PASSAGE}{number}" for number in range(1, 2 if banded else 5)), LABEL)
    positive, *of_level = grades

    def listed() -> Iterator[tuple[Any, ...]]:
        for levels in [LEVELS[number : number + 1] for number in range(len(LEVELS))] if banded else [LEVELS]:
            for example in examples:
                passages = [example.negatives[level - 1].text for level in levels]
                labels = [positive, *(of_level[level - 1] for level in levels)]
                for answer in _positives(example):
                    yield example.query, answer, *passages, labels

    dataset = _memory_mapped(folder / f"{GRADED}.arrow", columns, listed())
    keys = [(passage_key(example.query), passage_key(example.positive)) for example in examples]
    further = [further_positive_keys(row) for row in examples]
    return TrainingSource(GRADED, dataset, ListPool(keys, further, banded, in_turn=True), weight)


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
            keys.append(tuple(passage_key(text) for text in (row.query, row.positive, *row.negatives)))
            starts.append(stands)
            stands += max(1, len(row.negatives))
            if not with_negatives:
                yield row.query, row.positive
            for negative in row.negatives:
                yield row.query, row.positive, negative

    columns = ("query", "positive", "negative") if with_negatives else ("query", "positive")
    dataset = _memory_mapped(folder / f"{name}.arrow", columns, listed())
    return TrainingSource(name, dataset, PairPool(keys, starts), weight)


def mix_source(config: MixSourceConfig, folder: Path, *, seed: int) -> tuple[TrainingSource, MixedRows]:
    """Read a set and write what training reads.

    Args:
        config: where it is and which columns it has.
        folder: where the training file is written.
        seed: of the rows that are taken where `max_rows` limits them.

    Raises:
        SourceError: it cannot be read, a column is missing or is no text, or fewer than two rows are usable.
    """
    counts = MixedRows()
    rows = read_mix(config, counts, seed=seed)
    with_negatives = bool(config.columns.negatives)
    source = pair_source(config.name, rows, folder, weight=config.weight, with_negatives=with_negatives)
    if counts.usable < 2:
        raise SourceError(
            f"training.mix {config.name!r} ({config.path}): {counts.usable} usable rows of {counts.read} "
            f"({counts.without_text} have no query or positive, {counts.without_negative} no negative); at least 2 "
            "are needed"
        )
    return source, counts


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
    if config.kind == "embedder" and config.batch_size < 2 * apart:
        raise ModelError(
            f"training.batch_size {config.batch_size} leaves one query to each of {apart} parts, and so no in-batch "
            "negative; raise it, or lower training.accumulation"
        )
    names, datasets = [source.name for source in sources], [source.dataset for source in sources]
    starts = list(itertools.accumulate(map(len, datasets), initial=0))
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
        kinds = [(step.source, schedule.weights(number)) for number, step in enumerate(steps)]
        texts = RowTexts(datasets)
        pools = [source.pool for source in sources]

        def shuns(index: int) -> Sequence[int]:
            number = bisect.bisect_right(starts, index) - 1
            return pools[number].shuns(pools[number].row_at(index - starts[number]))

        whole = group_by_length(whole, texts.length, kinds, texts=texts.keys, shuns=shuns, seed=seed)
    batches = [part for batch in whole for part in cut_for_processes(batch, parts)]
    return TrainingPlan(
        dataset=datasets[0]
        if len(datasets) == 1
        else DatasetDict({source.name: source.dataset for source in sources}),
        batches=batches,
        sources=[names[step.source] for step in steps],
        rows={source.name: len(source.pool) for source in sources},
        threshold=next((source.threshold for source in sources if source.name == GRADED), 0.0),
    )


def schedule_of(config: TrainingConfig, steps: int, *, seed: int) -> LevelSchedule:
    """The schedule that a candidate's settings ask for, over a run of so many steps."""
    return level_schedule(config.schedule, steps, seed=seed, phases=config.curriculum)


class RowTexts:
    """The rows of several data sets, numbered one data set after another.

    Args:
        datasets: columns of text, the query first, and perhaps labels.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._datasets = datasets
        self._starts = list(itertools.accumulate((len(dataset) for dataset in datasets), initial=0))
        self._row = lru_cache(maxsize=_CACHED_ROWS)(self._read)

    def length(self, index: int) -> int:
        """Characters of the row's longest text: it is what decides how wide its batch is."""
        return self._row(index)[0]

    def keys(self, index: int) -> tuple[int, ...]:
        """Keys of the row's texts; equal texts have equal keys."""
        return self._row(index)[1]

    def _read(self, index: int) -> tuple[int, tuple[int, ...]]:
        number = bisect.bisect_right(self._starts, index) - 1
        row = self._datasets[number][index - self._starts[number]]
        texts = {name: str(text) for name, text in row.items() if name != LABEL}
        # The passages of a list are nobody's negatives: a batch may hold one twice.
        return max(map(len, texts.values())), tuple(
            passage_key(text) for name, text in texts.items() if not name.startswith(PASSAGE)
        )


class CurriculumBatchSampler(DefaultBatchSampler):
    """Emits a list of planned batches, once.

    One epoch is the whole run: the trainer tells samplers of a new epoch only through wrappers that a resumed or
    sharded run leaves out, so nothing here depends on it. Resuming skips batches, which costs no encoding.

    With p processes, process j is handed the batches j, p + j, 2p + j and so on.

    Args:
        dataset: the data set that the batches index into.
        batches: indices into it, one list a forward pass.
    """

    def __init__(self, dataset: Any, batches: list[list[int]], batch_size: int, **kwargs: Any) -> None:
        super().__init__(SequentialSampler(dataset), batch_size=batch_size, drop_last=False, **kwargs)
        self.batches = batches
        # With a size set, sharding over processes silently leaves out every batch of another size.
        self.batch_size: int | None = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the planned batches in order."""
        yield from self.batches

    def __len__(self) -> int:
        """How many batches the run has, over all processes."""
        return len(self.batches)


class CurriculumSampling:
    """Makes the sampler when the trainer asks for one. A class at module level: trainers pickle their arguments.

    It serves as both of the trainer's hooks: `batch_sampler` for one data set, `multi_dataset_batch_sampler` for
    several, whose batches then index into all of them one after another.

    Args:
        batches: indices, one list a forward pass.
    """

    def __init__(self, batches: list[list[int]]) -> None:
        self.batches = batches

    def __call__(self, dataset: Any, batch_size: int = 1, **kwargs: Any) -> CurriculumBatchSampler:
        """Build the sampler over a data set; what else the trainer passes and the plan decides is dropped."""
        for decided in ("drop_last", "batch_samplers"):
            kwargs.pop(decided, None)
        return CurriculumBatchSampler(dataset, self.batches, batch_size, **kwargs)


def _graded_rows(examples: Sequence[GradedExample], shape: GradedShape) -> Iterator[tuple[str, ...]]:
    if shape == "triples":
        for level in LEVELS:
            for example in examples:
                for positive in _positives(example):
                    yield example.query, positive, example.negatives[level - 1].text
        return
    for example in examples:
        negatives = [negative.text for negative in example.negatives] if shape == "lists" else []
        for positive in _positives(example):
            yield example.query, positive, *negatives


def _positives(example: GradedExample) -> tuple[str, ...]:
    return (example.positive, *(passage.text for passage in example.further_positives))


def _memory_mapped(path: Path, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> Dataset:
    """Write rows to an Arrow file and open it: however many there are, few are in memory at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    types = [pa.list_(pa.float32()) if name == LABEL else pa.large_string() for name in columns]
    schema = pa.schema(list(zip(columns, types, strict=True)))
    listed = iter(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while chunk := list(itertools.islice(listed, _ROWS_A_WRITE)):
            arrays = [pa.array(values, kind) for values, kind in zip(zip(*chunk, strict=True), types, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
    return Dataset.from_file(str(path))
