"""Positives that a model wrote as the corpus of a run without documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from multigrain.records import Document, Split, SynthesizedRow
from multigrain.sources.grouping import near_duplicate_groups
from multigrain.sources.words import fold_words

_LABEL_WORDS: Final = 8
_HELD_OUT_FIRST: Final = (Split.TEST, Split.VALIDATION, Split.TRAIN)


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
    wanted = sum(split is Split.TRAIN for _, split in rows)
    return WrittenCorpus(tuple(placed), tuple(trained), heldout, wanted - len(trained))
