"""Texts that show what a server does with them: short and long, several scripts, and some of the user's own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from multigrain.encoders.protocol import Role
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.export.parity import PARITY_TEXTS

_OWN: Final = 24
"""Queries, and documents, that are taken of a set."""
_ITEMS: Final = (20, 60, 320)
_SHORT: Final = (
    "reset a forgotten password",
    "What is the refund policy?",
    "The kettle boils in three minutes.",
    "Snow closed the mountain road on Tuesday.",
    "error 0x80070057 while saving",
    "Our warehouse ships orders every weekday before noon.",
    "wie repariere ich einen tropfenden Wasserhahn?",
    "Les abeilles dansent pour indiquer la direction.",
    "Two plus two is four.",
    "Where can I park near the harbour?",
    "A lighthouse keeper writes down the weather each morning.",
    "postgres index not used",
)


@dataclass(frozen=True, slots=True)
class ProbeTexts:
    """What is asked, by role. No text stands twice in a role."""

    query: tuple[str, ...]
    document: tuple[str, ...]

    def of(self, role: Role) -> tuple[str, ...]:
        """The texts of a role."""
        return self.query if role == "query" else self.document

    def __len__(self) -> int:
        """How many there are."""
        return len(self.query) + len(self.document)


def probe_texts(sets: Sequence[EvaluationSet], seed: int) -> ProbeTexts:
    """The fixed texts, and a seeded sample of the sets' queries and documents.

    Args:
        sets: may be empty.
        seed: of the sample.
    """
    fixed = (*_SHORT, *PARITY_TEXTS, *map(_items, _ITEMS))
    chance = random.Random(seed)

    def own(texts: list[str]) -> list[str]:
        texts = [text for text in dict.fromkeys(texts) if text.strip()]
        return chance.sample(texts, min(_OWN, len(texts)))

    queries = own([text for each in sets for text in each.queries.values()])
    documents = own([text for each in sets for text in each.corpus.values()])
    return ProbeTexts(tuple(dict.fromkeys((*fixed, *queries))), tuple(dict.fromkeys((*fixed, *documents))))


def _items(count: int) -> str:
    """A text whose every part is another, so that each cut of it has a vector of its own."""
    return " ".join(
        f"Item {n} weighs {n * 37 % 101} grams and costs {n * 53 % 89} euros." for n in range(1, count + 1)
    )
