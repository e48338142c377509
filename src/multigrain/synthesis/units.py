"""The rows to write for documents, given queries and tasks, in the order they are asked for."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from multigrain.config import DocumentsConfig, SynthesisConfig, TasksConfig
from multigrain.errors import ConfigError
from multigrain.records import Document, GivenQuery, Split, Task, TaskKind
from multigrain.sources.labels import texts_of_labels
from multigrain.sources.load import split_groups, text_place
from multigrain.sources.tasks import holds_out_tasks
from multigrain.storage.sequences import View
from multigrain.synthesis.attributes import Attributes, draw, draw_order, task_attributes
from multigrain.synthesis.brainstorm import shares_of
from multigrain.synthesis.partners import MULTI_PASSAGE, Partners
from multigrain.synthesis.strategies.protocol import LabelUnit, WritingUnit, seeded_place

_SHOWN_LABELS: Final = 5
_EXAMPLE_CHARACTERS: Final = 300


def writing_units(documents: Sequence[Document], config: SynthesisConfig, *, seed: int) -> Sequence[WritingUnit]:
    """The rows to write, in the order they are asked for; each is made when it is looked at.

    The order is a seeded hash, so that whatever a budget allows is a fair sample; every document gets its first
    query before any gets its second.

    Args:
        documents: the training documents.
        config: how many, and for which share negatives are written.
        seed: of the order.
    """
    places = np.fromiter((seeded_place(seed, "order", document.id) for document in documents), dtype=np.float64)
    order = np.argsort(places, kind="stable")[: config.max_documents]

    def unit(number: int) -> WritingUnit:
        index, place = divmod(number, len(order))
        document = documents[int(order[place])]
        style = _style(document, index, config, seed=seed)
        other = partners.of(int(order[place])) if style.query_type == MULTI_PASSAGE else None
        if style.query_type == MULTI_PASSAGE and other is None:
            style = replace(style, query_type="search")
        return WritingUnit(
            document=document,
            index=index,
            with_negatives=seeded_place(seed, f"negatives:{index}", document.id) < config.negatives_share,
            style=style,
            relevant_ids=() if other is None else (other.id,),
            other=other,
        )

    partners = Partners(documents)
    return View(range(config.queries_per_document * len(order)), unit)


def pair_units(
    queries: Sequence[GivenQuery],
    documents: Sequence[Document],
    config: SynthesisConfig,
    *,
    seed: int,
    in_order: Callable[[Sequence[GivenQuery]], Sequence[GivenQuery]] = list,
) -> Sequence[WritingUnit]:
    """A row for every positive of every training query: negatives to write, and the query as it was given.

    Every query gets the row of its first positive before any gets that of its second. A row is made when it is looked
    at, and positives lie on the disk: a corpus may be larger than memory.

    Args:
        queries: the given queries, of all splits.
        documents: their positives are among them; each is read when its row is looked at.
        config: how many queries at most, and for which share negatives are written.
        seed: of the order.
        in_order: puts training queries, which it is given in a seeded order, into the order to be asked for.
    """
    places = {document.id: place for place, document in enumerate(documents)}
    train = [query for query in queries if query.split is Split.TRAIN]
    ordered = in_order(sorted(train, key=lambda query: seeded_place(seed, "order", query.id)))[: config.max_documents]
    longest = max((len(query.document_ids) for query in ordered), default=0)

    def unit(row: tuple[int, GivenQuery]) -> WritingUnit:
        index, query = row
        positive = query.document_ids[index]
        return WritingUnit(
            document=documents[places[positive]],
            with_negatives=seeded_place(seed, f"negatives:{index}", query.id) < config.negatives_share,
            query=query.text,
            relevant_ids=tuple(other for other in query.document_ids if other != positive),
        )

    return View(
        [(index, query) for index in range(longest) for query in ordered if index < len(query.document_ids)], unit
    )


def label_units(
    queries: Sequence[GivenQuery], labels: Sequence[Document], texts_per_label: int, *, seed: int
) -> list[WritingUnit]:
    """The texts to write for labels that have fewer training texts than they should.

    Args:
        queries: labelled texts, of all splits; those of held-out splits are neither counted nor shown.
        labels: a document each: its id is the label's name, its text the description.
        texts_per_label: how many training texts each label should have.
        seed: of the examples and of the other labels that prompts show.
    """
    texts = texts_of_labels(queries)
    units = []
    for label in labels:
        for index in range(max(0, texts_per_label - len(texts[label.id]))):
            draw = random.Random(f"{seed}:label:{label.id}:{index}")
            others = draw.sample(
                [other for other in labels if other is not label], min(_SHOWN_LABELS, len(labels) - 1)
            )
            shown = sorted((label, *others), key=lambda one: one.id)  # one of each, always in the same order
            examples = [(one.id, draw.choice(own)[:_EXAMPLE_CHARACTERS]) for one in shown if (own := texts[one.id])]
            units.append(
                WritingUnit(
                    document=label,
                    index=index,
                    with_negatives=False,
                    style=Attributes(query_type=TaskKind.LONG_SHORT.value),
                    label=LabelUnit(
                        label.id,
                        label.text,
                        others=tuple((other.id, other.text) for other in others),
                        examples=tuple(examples),
                    ),
                )
            )
    return units


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
    for task in sorted(tasks, key=lambda one: seeded_place(seed, "tasks", one.id)):
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
            and seeded_place(seed, f"negatives:{index}", task.id) < synthesis.negatives_share,
            style=task_attributes(task, index, config, seed=seed),
            task=task,
        )
        for task, index in places
    ]
    return sorted(units, key=lambda unit: (unit.index, seeded_place(seed, "order", unit.document.id)))


def _style(document: Document, index: int, config: SynthesisConfig, *, seed: int) -> Attributes:
    """What kind of query a document's row number `index` has: its rows take different kinds as far as there are."""
    kinds = draw_order(config.query_types, random.Random(f"{seed}:kinds:{document.id}"))
    language = draw(config.languages, random.Random(f"{seed}:{index}:{document.id}")) if config.languages else None
    return Attributes(query_type=kinds[index % len(kinds)], language=language)


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
