"""What small language models can write, and the settings that suit them.

`multigrain init`, `doctor` and the demo go by it; benchmarks/embedded_writer.py --writers measures a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from multigrain.config.synthesis import QueryType


@dataclass(frozen=True, slots=True)
class KnownWriter:
    """A model that was tried here.

    Attributes:
        mark: what is in its file's name, in small letters.
        name: what people call it.
        temperature: of the sampler.
        concurrency: how many requests share each step of the model.
        query_types: the kinds of queries that it writes well, with their weights.
        document_characters: how much of a document it is shown.
        negatives_share: the share of rows for which it writes negatives too.
        fails_at: the kinds of queries that it does not write, whatever it is asked.
    """

    mark: str
    name: str
    temperature: float
    concurrency: int
    query_types: dict[QueryType, float]
    document_characters: int
    negatives_share: float
    fails_at: frozenset[QueryType] = frozenset()

    def settings(self) -> dict[str, dict[str, Any]]:
        """The settings as a config's sections."""
        return {
            "llm": {"temperature": self.temperature, "concurrency": self.concurrency},
            "synthesis": {
                "query_types": dict(self.query_types),
                "document_characters": self.document_characters,
                "negatives_share": self.negatives_share,
            },
        }


KNOWN_WRITERS: Final = (
    KnownWriter(
        mark="smollm2-135m",
        name="SmolLM2-135M-Instruct",
        temperature=0.2,
        concurrency=16,
        query_types={"summary": 1.0},
        document_characters=400,
        negatives_share=0.0,  # four in five are turned away (docs/results.md)
        fails_at=frozenset({"question"}),
    ),
    KnownWriter(
        mark="0.5b-instruct",
        name="Qwen2.5-0.5B-Instruct",
        temperature=0.2,
        concurrency=16,
        query_types={"summary": 0.5, "question": 0.5},
        document_characters=1200,
        negatives_share=0.04,
    ),
    KnownWriter(
        mark="1.5b-instruct",
        name="Qwen2.5-1.5B-Instruct",
        temperature=0.2,
        concurrency=16,
        query_types={"summary": 0.5, "question": 0.5},
        document_characters=1200,
        negatives_share=0.1,
    ),
)


def known_writer(file: str) -> KnownWriter | None:
    """The known writer that a GGUF file's name is of.

    Args:
        file: a path, a file's name, or OWNER/REPO:FILE.gguf.
    """
    name = file.lower()
    return next((writer for writer in KNOWN_WRITERS if writer.mark in name), None)
