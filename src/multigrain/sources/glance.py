"""A look at what a run would start from, before it starts: is it there, can it be read, is it enough?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from multigrain.config import Config, DocumentsConfig
from multigrain.config.location import is_hub
from multigrain.errors import MissingExtraError, MultigrainError, SourceError
from multigrain.sources.files import existing_path, read_files
from multigrain.sources.folder import folder_texts
from multigrain.storage.packages import is_installed
from multigrain.storage.shards import is_table

__all__ = ["Glance", "look_at_documents", "look_at_input"]

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
    source = config.pairs.path if config.start_from == "pairs" else config.tasks.path
    if source is None:
        return Glance("the language model thinks of the tasks")
    try:
        existing_path(source, f"{config.start_from}.path")
    except SourceError as error:
        return Glance(str(source), str(error))
    return Glance(f"{config.start_from} in {source}")


def look_at_documents(config: DocumentsConfig) -> Glance:
    """Look at the documents that a config names."""
    if config.kind == "docstrings":
        return Glance("docstrings of installed packages")
    try:
        path = existing_path(config.path, "documents.path")
        if is_hub(path):
            return Glance(f"{path} on the hub, not looked at")
        if config.kind == "folder" or (config.kind == "auto" and path.is_dir() and not is_table(path)):
            texts, rich = folder_texts(path, unreadable=config.unreadable)
            if rich and not is_installed("markitdown"):
                install = 'pip install "multigrain[documents]"'
                raise MissingExtraError("markitdown", f"reading {rich[0].suffix} files", install)
            return _judge(config, texts, unseen=len(rich))
        documents, _ = read_files(config)
        return _judge(config, (document.text for document in documents))
    except MultigrainError as error:
        return Glance("" if config.path is None else str(config.path), str(error))


def _judge(config: DocumentsConfig, texts: Iterable[str], *, unseen: int = 0) -> Glance:
    """Count texts that are long enough, and take it that files which are not looked into are."""
    seen = usable = unseen
    for text in texts:
        seen += 1
        usable += len(text.strip()) >= config.min_characters
        if seen >= _MANY:
            break
    many = f"{seen:,} or more" if seen >= _MANY else f"{seen:,}"
    found = f"{many} document{'' if seen == 1 else 's'} in {config.path}"
    if usable >= _ENOUGH:
        return Glance(found)
    short = "" if usable == seen else f", {usable} of at least documents.min_characters={config.min_characters}"
    return Glance(found, f"documents.path {config.path}: {many} found{short}; at least {_ENOUGH} are needed")
