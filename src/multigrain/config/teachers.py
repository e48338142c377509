"""Teachers: what scores the passages of a row for losses that learn from scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from multigrain.config.bases import PromptsConfig
from multigrain.config.paths import CANDIDATE, ModelReference
from multigrain.config.section import Section

JUDGE: Final = "judge"
"""The reference of the run's own language model as a teacher."""


class TeacherConfig(Section):
    """A model that scores how well passages answer a query."""

    added: ClassVar[Mapping[str, Any]] = {"probabilities": False}

    model: ModelReference
    """judge (the run's language model, which grades from 0 to 5 as the audit's judge does), or a model: a folder, a
    hub id, package:NAME, openai:MODEL for an embedder behind an endpoint, or candidate:NAME for a candidate of the
    run. {candidate: NAME} says the same."""

    kind: Literal["auto", "embedder", "cross-encoder", "judge"] = "auto"
    """auto: judge where the model is judge; a cross-encoder where the model was saved as one; else an embedder."""

    batch_tokens: int = Field(default=16_384, ge=1)
    """Tokens a forward pass, padding among them: short texts go many at once, long ones few."""

    max_seq_length: int | None = Field(default=None, ge=8)
    """Tokens of a text, or of a pair, that are read (null: the model's own)."""

    prompts: PromptsConfig = Field(default_factory=PromptsConfig)
    """Put before queries and documents by an embedder, where it brings none of its own."""

    probabilities: bool = False
    """judge only: not the grade that the model writes, but the mean over the probabilities that it gives each grade,
    where its endpoint tells them. The audit's judge then asks for them too, so that a passage is paid for once."""

    @model_validator(mode="before")
    @classmethod
    def _a_candidate_is_a_model(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "candidate" not in values:
            return values
        if "model" in values:
            raise ValueError("a teacher is a model or a candidate, not both")
        return {"model": f"{CANDIDATE}{values['candidate']}", **{k: v for k, v in values.items() if k != "candidate"}}

    @model_validator(mode="after")
    def _only_judges_have_probabilities(self) -> Self:
        if self.probabilities and not self.is_judge:
            raise ValueError(f"probabilities: {self.model} is no judge, whose grades have them; leave it out")
        return self

    @property
    def is_judge(self) -> bool:
        """Whether it is the run's language model."""
        return self.kind == "judge" or (self.kind == "auto" and self.model == JUDGE)


def _listed(value: Any) -> Any:
    """One teacher, or several, as a list of sections; a text is a model's reference."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [{"model": entry} if isinstance(entry, str) else entry for entry in values]


Teachers = Annotated[list[TeacherConfig], BeforeValidator(_listed)]
"""One teacher, or several that are mixed by rank."""
