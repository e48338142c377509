"""What a run writes for: documents, given queries, or tasks; and the rows that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from multigrain.config import Config
from multigrain.records import Document, GivenQuery, Split, Task
from multigrain.sources.load import load_corpus
from multigrain.sources.pairs import load_pairs
from multigrain.sources.store import open_document_table, read_query_table
from multigrain.sources.tasks import make_task, read_task_table, read_tasks, split_tasks
from multigrain.storage.disk_list import DiskList
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.brainstorm import shares_of
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.synthesize import writing_units
from multigrain.synthesis.units import pair_units, task_units

__all__ = ["Material", "heldout_units", "load_material", "read_material", "training_units"]


@dataclass(frozen=True)
class Material:
    """What there is to write for; a run has one kind of it.

    Attributes:
        documents: where rows are written for documents or given queries.
        queries: where they are given.
        tasks: where there are no documents.
    """

    documents: Sequence[Document] = ()
    queries: tuple[GivenQuery, ...] = ()
    tasks: tuple[Task, ...] = ()


def read_material(config: Config, run: RunDirectory) -> Material:
    """What the run's first stage left."""
    if config.start_from == "tasks":
        return Material(tasks=read_task_table(run.tasks_path))
    queries = read_query_table(run.queries_path) if config.start_from == "pairs" else ()
    return Material(open_document_table(run.documents_path), queries)


def load_material(config: Config) -> Material:
    """What the first stage would find. Tasks that nobody has thought of yet are made up, in the right number.

    Raises:
        SourceError: the input cannot be used.
    """
    if config.start_from == "pairs":
        found = load_pairs(config.pairs, config.documents, seed=config.seed)
        return Material(found.documents, found.queries)
    if config.start_from == "documents":
        return Material(load_corpus(config.documents, seed=config.seed).documents)
    if config.tasks.path is not None:
        tasks = read_tasks(config.tasks.path)
    else:
        tasks = [
            make_task(kind, f"Given a description of case {number}, find the text that says what is to be done in it.")
            for kind, count in shares_of(config.tasks.count, config.tasks.kinds).items()
            for number in range(count)
        ]
    return Material(tasks=tuple(split_tasks(tasks, config.tasks, config.documents)))


def training_units(config: Config, material: Material) -> Sequence[WritingUnit]:
    """The rows that a config asks for, in order."""
    if config.start_from == "tasks":
        return [unit for unit in _task_units(config, material) if unit.document.split is Split.TRAIN]
    if config.start_from == "pairs":
        return pair_units(material.queries, material.documents, config.synthesis, seed=config.seed)
    train = DiskList(document for document in material.documents if document.split is Split.TRAIN)
    return writing_units(train, config.synthesis, seed=config.seed)


def heldout_units(config: Config, material: Material) -> list[WritingUnit]:
    """The rows for tasks that are held out; none where there are documents to hold out."""
    if config.start_from != "tasks" or config.evaluation.queries == "none":
        return []
    return [unit for unit in _task_units(config, material) if unit.document.split is not Split.TRAIN]


def _task_units(config: Config, material: Material) -> list[WritingUnit]:
    return task_units(material.tasks, config.tasks, config.synthesis, config.documents, seed=config.seed)
