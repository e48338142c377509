"""What is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from multigrain.config.section import Section

__all__ = ["QueryType", "SynthesisConfig", "Weight", "some_weight"]

QueryType = Literal["search", "keywords", "question", "summary", "claim", "long-tail", "message"]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def some_weight(weights: dict[str, float]) -> dict[str, float]:
    """Weights of which one at least is above 0."""
    if not any(weight > 0 for weight in weights.values()):
        raise ValueError("at least one weight must be above 0")
    return weights


class SynthesisConfig(Section):
    """What is written for each document."""

    strategy: Literal["mgh", "stepwise"] = "mgh"
    """mgh: query, positive and four graded negatives in one call (needs a capable model).
    stepwise: one field a call (for small models)."""

    positive: Literal["document", "written"] = "document"
    """mgh only: the positive is the document itself, or a passage that the model writes as well."""

    query_types: Annotated[dict[QueryType, Weight], AfterValidator(some_weight)] = Field(default={"search": 1.0})
    """Kinds of queries and their weights: search (whatever somebody would type), keywords, question, summary (one
    line; the easiest for tiny models), claim, long-tail, message. Several queries of a document differ in kind."""

    languages: dict[str, Weight] = Field(default_factory=dict)
    """Languages that queries are written in, and their weights, e.g. {English: 2, German: 1}.
    Empty: the document's own."""

    templates: Path | None = None
    """A folder with prompt templates of your own (NAME.jinja), which go before the built-in ones of that name."""

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
