"""What decides a model's figures besides its weights, and what it costs. Importing it loads no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from multigrain.display import numbers as figures

BM25: Final = "bm25"
HYBRID: Final = "hybrid"
"""BM25 and a run's own model together; a rival, which no command can load by itself."""


@dataclass(frozen=True, slots=True)
class EncodingFacts:
    """How a model was used.

    Attributes:
        pooling: its name; None where the model runs elsewhere, and nothing of it but the prompts is known.
        pooling_guessed: whether the model names none, so that it was chosen by the architecture.
        max_tokens: tokens of a text that are read; None for no limit.
        dtype: of the weights.
        query_prompt: put before every query.
        document_prompt: put before every document.
        other_prompts: names of the model's prompts that are put before no text, with commas between them.
        cut: set to the share of its texts that are longer than is read, as far as a sample tells; only where some are.
    """

    pooling: str | None = None
    pooling_guessed: bool = False
    max_tokens: int | None = None
    dtype: str | None = None
    query_prompt: str = ""
    document_prompt: str = ""
    other_prompts: str = ""
    cut: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = []
        if self.pooling is not None:
            guess = " (a guess: the model names none; NAME@POOLING or training.pooling says another)"
            named = (
                "its own modules" if self.pooling == "none" else f"{self.pooling} pooling"
            )  # a Router, a static table
            parts.append(f"{named}{guess if self.pooling_guessed else ''}")
            parts.append("texts of any length" if self.max_tokens is None else f"{self.max_tokens} tokens of a text")
            parts += [f"weights in {self.dtype}"] if self.dtype is not None else []
        prompts = {"queries": self.query_prompt, "documents": self.document_prompt}
        before = [f"{prompt!r} before {role}" for role, prompt in prompts.items() if prompt]
        before += [f"no prompt before {role}" for role, prompt in prompts.items() if not prompt and before]
        others = f" (of the model's own, {self.other_prompts}, none is known to be the queries' or the documents')"
        parts += before or [f"no prompts{others if self.other_prompts else ''}"]
        by_share: dict[str, list[str]] = {}
        for name, share in self.cut.items():
            by_share.setdefault(f"{share:.0%}", []).append(name)
        parts += [
            f"{share} of the texts of {_listed(names)} are longer and were cut" for share, names in by_share.items()
        ]
        return ", ".join(parts)


def models_alike(facts: Mapping[str, EncodingFacts]) -> dict[str, EncodingFacts]:
    """The facts of models under their names, "base, tuned" where those of several are the same."""
    alike: dict[str, list[str]] = {}
    for model, own in facts.items():
        alike.setdefault(str(own), []).append(model)
    return {", ".join(models): facts[models[0]] for models in alike.values()}


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What searching with a model takes; None where it is not known, as of a model that runs elsewhere.

    Attributes:
        parameters: weights that it has.
        dimensions: of its vectors.
        texts_per_second: documents that it embeds, or indexes, on this machine.
        memory: bytes of its weights, or of an index of words.
        index: bytes of a million documents' vectors in float32, or of a million documents' words.
    """

    parameters: int | None = None
    dimensions: int | None = None
    texts_per_second: float | None = None
    memory: int | None = None
    index: int | None = None

    def __str__(self) -> str:
        parts = []
        if self.parameters is not None:
            parts.append(f"{figures.amount(self.parameters)} parameters")
        if self.dimensions is not None:
            parts.append(f"{self.dimensions} dimensions")
        if self.texts_per_second is not None:
            parts.append(f"{figures.amount(self.texts_per_second)} texts a second here")
        if self.memory is not None:
            parts.append(f"{figures.size(self.memory)} of memory")
        if self.index is not None:
            parts.append(f"{figures.size(self.index)} for a million documents")
        return ", ".join(parts)

    def beside(self, other: ModelCost) -> ModelCost:
        """What both take together, one searched after the other."""
        speeds = (self.texts_per_second, other.texts_per_second)
        return ModelCost(
            parameters=_sum(self.parameters, other.parameters),
            dimensions=self.dimensions or other.dimensions,
            texts_per_second=None if None in speeds else 1 / sum(1 / speed for speed in speeds if speed),
            memory=_sum(self.memory, other.memory),
            index=_sum(self.index, other.index),
        )


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _sum(*parts: int | None) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
