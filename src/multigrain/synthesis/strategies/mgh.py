"""Multi-granularity hard negatives in one call: the query and all four levels in one structured answer.

The paper's second step, reconstructed; its first (brainstorming tasks) is not needed where there are documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, StringConstraints

from multigrain.config import LLMConfig, SynthesisConfig
from multigrain.llm.protocol import CompletionRequest, LLMClient
from multigrain.llm.structured import ask
from multigrain.records import LEVELS, SynthesizedRow
from multigrain.synthesis.prompts import BUILT_IN, Prompts
from multigrain.synthesis.strategies.protocol import WritingUnit, row_id, unit_values

__all__ = ["MghStrategy"]

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Negatives(BaseModel):
    level_4: _Text
    level_3: _Text
    level_2: _Text
    level_1: _Text


class _Graded(_Negatives):
    """The answer where the document itself is the positive."""

    query: _Text


class _GradedWithPositive(_Graded):
    """The answer of five fields and more: the positive is written too."""

    positive: _Text


@dataclass(frozen=True)
class MghStrategy:
    """Asks once for everything.

    Attributes:
        write_positive: whether the positive is written too, instead of being the document.
        document_characters: how much of the document the model is shown.
        temperature: of the sampler.
        top_p: of the sampler.
        max_tokens: longest answer.
        seed: of the sampler.
        prompts: the templates.
    """

    write_positive: bool = False
    document_characters: int = 4000
    temperature: float = 0.8
    top_p: float = 0.9
    max_tokens: int = 768
    seed: int = 0
    prompts: Prompts = BUILT_IN

    @classmethod
    def from_config(cls, synthesis: SynthesisConfig, llm: LLMConfig, *, seed: int) -> MghStrategy:
        """The strategy that a config describes."""
        return cls(
            write_positive=synthesis.positive == "written",
            document_characters=synthesis.document_characters,
            temperature=llm.temperature,
            top_p=llm.top_p,
            max_tokens=llm.max_tokens,
            seed=seed,
            prompts=Prompts(synthesis.templates),
        )

    @property
    def name(self) -> str:
        """What configs and journals call it."""
        return "mgh"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row; see `Strategy.write`."""
        write_positive = self.write_positive and unit.query is None
        request = CompletionRequest(
            messages=self.prompts.render(
                "mgh", **unit_values(unit, characters=self.document_characters), write_positive=write_positive
            ),
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            seed=self.seed + unit.index,
        )
        shape = _Negatives if unit.query is not None else _GradedWithPositive if write_positive else _Graded
        answer = await ask(client, request, shape)
        return SynthesizedRow(
            id=row_id(self.name, unit),
            document_id=unit.document.id,
            query=answer.query if isinstance(answer, _Graded) else unit.query or "",
            positive=answer.positive if isinstance(answer, _GradedWithPositive) else unit.document.text,
            negatives={level: getattr(answer, f"level_{int(level)}") for level in LEVELS},
            strategy=self.name,
        )
