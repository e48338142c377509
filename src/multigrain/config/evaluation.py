"""How the proof is made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from multigrain.config.section import Section

__all__ = ["EvaluationConfig", "EvaluationSetConfig"]


class EvaluationSetConfig(Section):
    """A labelled set to evaluate on, besides the held-out queries."""

    name: str
    """What tables call it."""

    path: str
    """A BEIR folder (corpus.jsonl, queries.jsonl, qrels/test.tsv), or package:NAME/FILE for a known data package."""

    role: Literal["test", "forgetting"] = "test"
    """test: in the domain. forgetting: unrelated; it must not get worse."""

    max_queries: int | None = Field(default=None, ge=1)
    """Take a seeded sample of this many queries, with their relevant documents (null: all)."""

    max_documents: int | None = Field(default=None, ge=1)
    """Take a seeded sample of this many documents, relevant ones always among them (null: all)."""


class EvaluationConfig(Section):
    """How the proof is made."""

    queries: Literal["auto", "titles", "synthetic", "none"] = "auto"
    """Held-out queries: the documents' titles (human), or written by the LLM with another prompt
    (a synthetic estimate). auto: titles where at least half of the held-out documents have one."""

    bootstrap_samples: int = Field(default=10_000, ge=100)
    """Resamples behind each interval."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Width of the intervals."""

    batch_size: int = Field(default=64, ge=1)
    """Texts encoded at once."""

    sets: list[EvaluationSetConfig] = Field(default_factory=list)
    """More sets: labelled ones of your own, unrelated ones to check for forgetting."""
