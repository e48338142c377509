"""Counts that no manifest holds, read where they lie: titles and groups of documents, answers in the journal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from multigrain.llm.session.usage import read_usage
from multigrain.sources.words import fold_text

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
