"""What is written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from multigrain.config.section import Section

__all__ = ["SynthesisConfig"]


class SynthesisConfig(Section):
    """What is written for each document."""

    strategy: Literal["mgh", "stepwise"] = "mgh"
    """mgh: query, positive and four graded negatives in one call (needs a capable model).
    stepwise: one field a call (for small models)."""

    positive: Literal["document", "written"] = "document"
    """mgh only: the positive is the document itself, or a passage that the model writes as well."""

    query_style: Literal["search", "question", "summary"] = "search"
    """stepwise only: a search query, a question, or a one-line summary (the easiest for tiny models)."""

    document_characters: int = Field(default=4000, ge=100)
    """How much of a document the model is shown."""

    queries_per_document: int = Field(default=1, ge=1, le=20)
    """Queries written for each training document."""

    negatives_share: float = Field(default=1.0, ge=0, le=1)
    """stepwise only: the share of documents for which negatives are written too; the rest get mined ones."""

    max_documents: int | None = Field(default=None, ge=1)
    """Write for at most this many training documents (null: all)."""

    budget_seconds: float | None = Field(default=None, gt=0)
    """Stop asking after this long; what is written by then is used (null: no limit)."""

    max_cost: float | None = Field(default=None, gt=0)
    """Stop asking before the whole run's completions cost more than this many US dollars (null: no limit)."""

    max_total_tokens: int | None = Field(default=None, ge=1)
    """Stop asking before the whole run has read and written more tokens than this (null: no limit)."""
