"""Whether the documents' own titles can serve as held-out queries."""

from __future__ import annotations

from collections.abc import Sequence

from multigrain.records import Document


def titles_suffice(documents: Sequence[Document]) -> bool:
    """Whether at least half of the documents have a title that a person wrote."""
    return 2 * sum(document.title is not None for document in documents) >= len(documents) > 0
