"""The rows to write from given queries and from tasks, in the order they are asked for."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from multigrain.config import DocumentsConfig, SynthesisConfig, TasksConfig
from multigrain.errors import ConfigError
from multigrain.records import Document, GivenQuery, Split, Task, TaskKind
from multigrain.sources.load import split_groups, text_place
from multigrain.sources.tasks import holds_out_tasks
from multigrain.storage.disk_list import Spool, View
from multigrain.synthesis.attributes import task_style
from multigrain.synthesis.brainstorm import shares_of
from multigrain.synthesis.strategies.protocol import WritingUnit

__all__ = ["pair_units", "task_units"]


def pair_units(
    queries: Sequence[GivenQuery], documents: Sequence[Document], config: SynthesisConfig, *, seed: int
) -> Sequence[WritingUnit]:
    """A row for every positive of every training query: negatives to write, and the query as it was given.

    Every query gets the row of its first positive before any gets that of its second. A row is made when it is looked
    at, and positives lie on the disk: a corpus may be larger than memory.

    Args:
        queries: the given queries, of all splits.
        documents: their positives are among them.
        config: how many queries at most, and for which share negatives are written.
        seed: of the order.
    """
    train = [query for query in queries if query.split is Split.TRAIN]
    ordered = sorted(train, key=lambda query: _place(seed, "order", query.id))[: config.max_documents]
    longest = max((len(query.document_ids) for query in ordered), default=0)
    wanted = {key for query in ordered for key in query.document_ids}
    places: dict[str, int] = {}
    positives: Spool[Document] = Spool()
    for document in documents:
        if document.id in wanted:
            places[document.id] = len(positives)
            positives.append(document)

    def unit(pair: tuple[int, int]) -> WritingUnit:
        number, index = pair
        query = ordered[number]
        own_id = query.document_ids[index]
        return WritingUnit(
            document=positives[places[own_id]],
            with_negatives=_place(seed, f"negatives:{index}", query.id) < config.negatives_share,
            query=query.text,
            relevant_ids=tuple(key for key in query.document_ids if key != own_id),
        )

    pairs = [
        (number, index)
        for index in range(longest)
        for number, query in enumerate(ordered)
        if index < len(query.document_ids)
    ]
    return View(pairs, unit)


def task_units(
    tasks: Sequence[Task],
    config: TasksConfig,
    synthesis: SynthesisConfig,
    shares: DocumentsConfig,
    *,
    seed: int,
) -> list[WritingUnit]:
    """The rows to write for tasks, shared out over their kinds by weight and over a kind's tasks in turn.

    A unit's document is a stand-in with the task's id and text; its split says what the row is for. Held-out rows
    get no negatives: nothing is trained on them.

    Args:
        tasks: with their splits.
        config: how many rows, of which kinds, in which languages.
        synthesis: for which share negatives are written.
        shares: how many rows are held out where tasks are not.
        seed: of everything that is drawn.

    Raises:
        ConfigError: no kind of the tasks has a weight, or translations are asked for in one language.
    """
    by_kind: dict[TaskKind, list[Task]] = defaultdict(list)
    for task in sorted(tasks, key=lambda each: _place(seed, "tasks", each.id)):
        by_kind[task.kind].append(task)
    # A kind that only the user's own list has counts like any other.
    weights = {kind: config.kinds.get(kind, 1.0) for kind in by_kind}
    if not any(weights.values()):
        raise ConfigError(f"tasks.kinds: no weight above 0 for any kind of the tasks ({', '.join(sorted(by_kind))})")
    if weights.get(TaskKind.BITEXT) and sum(weight > 0 for weight in config.languages.values()) < 2:
        raise ConfigError("tasks.languages: tasks of kind bitext need two languages at least")
    places = list(_places(by_kind, shares_of(config.rows, weights)))
    sides = _sides(places, tasks, config, shares)
    units = [
        WritingUnit(
            document=Document(id=task.id, text=task.text, split=sides[task.id, index]),
            index=index,
            with_negatives=sides[task.id, index] is Split.TRAIN
            and _place(seed, f"negatives:{index}", task.id) < synthesis.negatives_share,
            style=task_style(task, index, config, seed=seed),
            task=task,
        )
        for task, index in places
    ]
    return sorted(units, key=lambda unit: (unit.index, _place(seed, "order", unit.document.id)))


def _places(by_kind: Mapping[TaskKind, Sequence[Task]], rows: Mapping[TaskKind, int]) -> Iterator[tuple[Task, int]]:
    """Task and number of each row."""
    for kind, count in rows.items():
        tasks = by_kind[kind]
        for number in range(count):
            yield tasks[number % len(tasks)], number // len(tasks)


def _sides(
    places: Sequence[tuple[Task, int]], tasks: Sequence[Task], config: TasksConfig, shares: DocumentsConfig
) -> dict[tuple[str, int], Split]:
    if holds_out_tasks(config, tasks):
        return {(task.id, index): task.split for task, index in places}
    sides = split_groups(range(len(places)), [text_place(f"{index} {task.text}") for task, index in places], shares)
    return {(task.id, index): sides[number] for number, (task, index) in enumerate(places)}


def _place(seed: int, purpose: str, identifier: str) -> float:
    """A place in a seeded random order, 0-1."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{identifier}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
