"""What a run writes for (documents, given queries or tasks), the rows it asks for, and the corpus of its tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from multigrain.config import Config
from multigrain.records import HELD_OUT, Document, GivenQuery, Split, SynthesizedRow, Task
from multigrain.sources.grouping import near_duplicate_groups
from multigrain.sources.labels import in_rounds
from multigrain.sources.load import load_corpus, titles_suffice
from multigrain.sources.pairs import load_pairs
from multigrain.sources.store import document_list, open_document_table, read_query_table
from multigrain.sources.tasks import make_task, read_task_table, read_tasks, split_tasks
from multigrain.sources.words import fold_words
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.brainstorm import shares_of
from multigrain.synthesis.strategies.protocol import WritingUnit, row_id
from multigrain.synthesis.units import label_units, pair_units, task_units, writing_units

_LABEL_WORDS: Final = 8
_HELD_OUT_FIRST: Final = (Split.TEST, Split.VALIDATION, Split.TRAIN)


@dataclass(frozen=True)
class Inputs:
    """What a run writes for: documents, given queries or tasks.

    Attributes:
        documents: where rows are written for documents or given queries.
        queries: where they are given.
        tasks: where there are no documents.
    """

    documents: Sequence[Document] = ()
    queries: tuple[GivenQuery, ...] = ()
    tasks: tuple[Task, ...] = ()


def read_inputs(config: Config, run: RunDirectory) -> Inputs:
    """What the run's first stage left."""
    if config.start_from == "tasks":
        return Inputs(tasks=read_task_table(run.tasks_path))
    queries = read_query_table(run.queries_path) if config.start_from == "pairs" else ()
    return Inputs(open_document_table(run.documents_path), queries)


def load_inputs(config: Config) -> Inputs:
    """What the first stage would find. Tasks that nobody has thought of yet are made up, in the right number.

    Raises:
        SourceError: the input cannot be used.
    """
    if config.start_from == "pairs":
        pairs = load_pairs(config.pairs, config.documents, seed=config.seed)
        return Inputs(pairs.documents, pairs.queries)
    if config.start_from == "documents":
        return Inputs(load_corpus(config.documents, seed=config.seed).documents)
    if config.tasks.path is not None:
        tasks = read_tasks(config.tasks.path)
    else:
        tasks = [
            make_task(kind, f"Given a description of case {number}, find the text that says what is to be done in it.")
            for kind, count in shares_of(config.tasks.count, config.tasks.kinds).items()
            for number in range(count)
        ]
    return Inputs(tasks=tuple(split_tasks(tasks, config.tasks, config.documents)))


def training_units(config: Config, inputs: Inputs) -> Sequence[WritingUnit]:
    """The rows that a config asks for, in order."""
    if config.start_from == "tasks":
        return [unit for unit in _task_units(config, inputs) if unit.document.split is Split.TRAIN]
    if config.start_from == "pairs":
        return _pair_units(config, inputs)
    train = document_list(document for document in inputs.documents if document.split is Split.TRAIN)
    return writing_units(train, config.synthesis, seed=config.seed)


def heldout_units(config: Config, inputs: Inputs) -> list[WritingUnit]:
    """The rows for tasks that are held out; none where there are documents to hold out."""
    if config.start_from != "tasks" or config.evaluation.queries == "none":
        return []
    return [unit for unit in _task_units(config, inputs) if unit.document.split is not Split.TRAIN]


def heldout_documents(config: Config, inputs: Inputs, parts: Collection[Split] | None = None) -> Sequence[Document]:
    """The documents that a held-out query is to be written for; none where there are queries or titles to ask with.

    Args:
        config: the run's.
        inputs: what it starts from.
        parts: those that need queries; None for `parts_to_ask`.
    """
    queries = config.evaluation.queries
    if config.start_from != "documents" or queries not in ("auto", "synthetic"):
        return ()
    heldout = document_list(document for document in inputs.documents if document.split is not Split.TRAIN)
    if queries == "auto" and titles_suffice(heldout):
        return ()
    parts = parts_to_ask(config) if parts is None else parts
    return heldout if len(parts) > 1 else document_list(document for document in heldout if document.split in parts)


def parts_to_ask(config: Config) -> frozenset[Split]:
    """The held-out parts of the documents that need queries.

    Where labelled sets say what `evaluation.queries: auto` would ask a language model for, nobody is asked: test sets
    stand for the test part, and the validation part is needed only where validation chooses something, and no set of
    that role does.
    """
    evaluation, training = config.evaluation, config.training
    if evaluation.queries != "auto":
        return frozenset(HELD_OUT)
    is_tested = any(labelled.role == "test" for labelled in evaluation.sets)
    chooses = len(training.embedders) > 1 or any(training.resolve(name).chooses for name in training.candidates)
    needs = {Split.TEST: not is_tested, Split.VALIDATION: not evaluation.choosing_sets and (chooses or not is_tested)}
    return frozenset(part for part, needed in needs.items() if needed)


class RowUnits(Mapping[str, WritingUnit]):
    """What each row was written from, by the row's id. In memory are 16 bytes a row; units are made when asked for.

    Args:
        units: those that rows were written from.
        strategies: the names of those that wrote them: a row's id holds its strategy's.
    """

    def __init__(self, units: Sequence[WritingUnit], strategies: Iterable[str]) -> None:
        names = sorted(set(strategies))
        ids = np.fromiter((int(row_id(name, unit), 16) for unit in units for name in names), dtype=np.uint64)
        self._units, self._names = units, max(len(names), 1)
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return (f"{int(identifier):016x}" for identifier in self._ids)

    def __contains__(self, identifier: object) -> bool:
        return isinstance(identifier, str) and self._find(identifier) is not None

    def __getitem__(self, identifier: str) -> WritingUnit:
        number = self._find(identifier)
        if number is None:
            raise KeyError(identifier)
        return self._units[number]

    def _find(self, identifier: str) -> int | None:
        try:
            key = np.uint64(int(identifier, 16))
        except (ValueError, OverflowError):  # another program's row
            return None
        place = int(np.searchsorted(self._ids, key))
        is_there = place < len(self._ids) and self._ids[place] == key
        return int(self._order[place]) // self._names if is_there else None


def row_units(config: Config, run: RunDirectory, rows: Iterable[SynthesizedRow]) -> RowUnits:
    """What each of a run's rows was written from.

    Args:
        config: the run's.
        run: its documents are read from the disk.
        rows: read once, for the strategies that wrote them.
    """
    return RowUnits(training_units(config, read_inputs(config, run)), (row.strategy for row in rows))


@dataclass(frozen=True)
class WrittenCorpus:
    """What was written for tasks, as if it had been read.

    Attributes:
        documents: the positives, each with its row's id.
        rows: the rows to train on.
        heldout: the queries of held-out rows, by their positive's id.
        near_heldout: training rows that were left out because their positive nearly repeats a held-out one.
    """

    documents: tuple[Document, ...]
    rows: tuple[SynthesizedRow, ...]
    heldout: dict[str, str]
    near_heldout: int


def written_corpus(rows: Sequence[tuple[SynthesizedRow, Split]], *, similarity: float) -> WrittenCorpus:
    """Make documents of written positives, and keep what is held out apart from what is trained on.

    Two positives that nearly repeat each other are a group, and a group with a held-out member is held out. That does
    not go for labels and other texts of fewer than 8 words: half of the rows may share one.

    Args:
        rows: what was written, and what for.
        similarity: Jaccard overlap of word trigrams from which two positives are near-duplicates.
    """
    documents = [Document(id=row.id, text=row.positive, split=split) for row, split in rows]
    groups = near_duplicate_groups((document.text for document in documents), similarity)
    members: dict[int, list[Split]] = defaultdict(list)
    for group, (row, split) in zip(groups, rows, strict=True):
        if len(fold_words(row.positive).split()) >= _LABEL_WORDS:
            members[group].append(split)
    sides = {group: min(splits, key=_HELD_OUT_FIRST.index) for group, splits in members.items()}
    placed = [
        replace(document, group=group, split=sides.get(group, document.split))
        for document, group in zip(documents, groups, strict=True)
    ]
    trained, heldout = [], {}
    for (row, split), document in zip(rows, placed, strict=True):
        if split is not Split.TRAIN:
            heldout[row.id] = row.query
        elif document.split is Split.TRAIN:
            trained.append(row)
    for_training = sum(split is Split.TRAIN for _, split in rows)
    return WrittenCorpus(tuple(placed), tuple(trained), heldout, for_training - len(trained))


def _pair_units(config: Config, inputs: Inputs) -> Sequence[WritingUnit]:
    documents, pairs = document_list(inputs.documents), config.pairs
    if pairs.labels is None:
        return pair_units(inputs.queries, documents, config.synthesis, seed=config.seed)
    order = in_rounds if pairs.balance else list
    given = pair_units(inputs.queries, documents, config.synthesis, seed=config.seed, in_order=order)
    return [*given, *label_units(inputs.queries, list(documents), pairs.texts_per_label, seed=config.seed)]


def _task_units(config: Config, inputs: Inputs) -> list[WritingUnit]:
    return task_units(inputs.tasks, config.tasks, config.synthesis, config.documents, seed=config.seed)
