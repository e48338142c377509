"""A look at what a run would start from, before it starts: is it there, can it be read, is it enough?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from multigrain.config import Config, DocumentsConfig
from multigrain.errors import MultigrainError, SourceError
from multigrain.sources.files import existing_path
from multigrain.sources.source import data_source

_ENOUGH: Final = 10
_MANY: Final = 10_000
"""Documents; more of them are not counted: this is a look, and not the reading."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What was seen.

    Attributes:
        found: in words: how many documents, and where.
        problem: why a run would end at once; empty where it would not.
    """

    found: str
    problem: str = ""


def look_at_input(config: Config) -> Glance:
    """Look at what a config starts from. Reads at most some thousand documents, and no hub.

    Pairs and tasks are looked for, and read by the run itself.
    """
    if config.start_from == "documents":
        return look_at_documents(config.documents)
    path = config.pairs.path if config.start_from == "pairs" else config.tasks.path
    if path is None:
        return Glance("the language model thinks of the tasks")
    try:
        existing_path(path, f"{config.start_from}.path")
    except SourceError as error:
        return Glance(str(path), str(error))
    return Glance(f"{config.start_from} in {path}")


def look_at_documents(config: DocumentsConfig) -> Glance:
    """Look at the documents that a config names."""
    try:
        source = data_source(config)
        sight = source.glance(config)
        if isinstance(sight, str):
            return Glance(sight)
        texts, closed = sight
        return _judge(config, texts, source.describe(config), unseen=closed)
    except MultigrainError as error:
        return Glance("" if config.path is None else str(config.path), str(error))


def _judge(config: DocumentsConfig, texts: Iterable[str], source: str, *, unseen: int) -> Glance:
    """Count texts that are long enough, and take it that files which are not looked into are."""
    seen = usable = unseen
    for text in texts:
        seen += 1
        usable += len(text.strip()) >= config.min_characters
        if seen >= _MANY:
            break
    many = f"{seen:,} or more" if seen >= _MANY else f"{seen:,}"
    count = f"{many} document{'' if seen == 1 else 's'} in {source}"
    if usable >= _ENOUGH:
        return Glance(count)
    short = "" if usable == seen else f", {usable} of at least documents.min_characters={config.min_characters}"
    return Glance(count, f"documents.path {source}: {many} found{short}; at least {_ENOUGH} are needed")
