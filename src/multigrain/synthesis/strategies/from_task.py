"""The paper's second step: query, positive and graded negatives for a task, where there is no document.

`mgh` writes them all in one answer, as the paper has it. Every other strategy is given what it knows: a model first
writes query and positive for the task, and the strategy then writes negatives as if both had been given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from pydantic import BaseModel

from multigrain.config import LLMConfig, SynthesisConfig
from multigrain.llm.answers import ask
from multigrain.llm.protocol import CompletionRequest, LLMClient
from multigrain.records import LEVELS, Document, SynthesizedRow, Task
from multigrain.synthesis.plain_text import Text
from multigrain.synthesis.strategies.mix import MixedStrategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit, row_id
from multigrain.synthesis.strategies.writer import DEFAULT_WRITER, Writer

_TOKENS_A_WORD: Final = 2.0  # generous: languages other than English take more than one and a half
_SPARE_TOKENS: Final = 200


class _Pair(BaseModel):
    query: Text
    positive: Text


class _Graded(_Pair):
    level_4: Text
    level_3: Text
    level_2: Text
    level_1: Text


def for_tasks(strategy: Strategy, synthesis: SynthesisConfig, llm: LLMConfig, *, seed: int) -> Strategy:
    """The strategy, or every member of a mix, made for tasks.

    Args:
        strategy: as a config names it.
        synthesis: the config's section.
        llm: the config's section.
        seed: the run's.
    """
    if isinstance(strategy, MixedStrategy):
        members = ((for_tasks(member, synthesis, llm, seed=seed), share) for member, share in strategy.members)
        return replace(strategy, members=tuple(members))
    return FromTask(strategy, Writer.from_config(synthesis, llm, seed=seed))


@dataclass(frozen=True)
class FromTask:
    """Writes rows for tasks, and hands all others on.

    Attributes:
        inner: writes the negatives.
        writer: its sampling and templates; answers may be longer for rows that are asked to be.
    """

    inner: Strategy
    writer: Writer = DEFAULT_WRITER

    @property
    def name(self) -> str:
        """The name of the inner strategy, under which its rows for tasks go too."""
        return self.inner.name

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row; see `Strategy.write`."""
        task = unit.task
        if task is None:
            return await self.inner.write(unit, client)
        blank = SynthesizedRow(
            id=row_id(self.name, unit),
            document_id=None,
            query="",
            positive="",
            strategy=self.name,
            query_type=str(task.kind),
            task=task.text,
        )
        if unit.with_negatives and self.name == "mgh":
            graded = await ask(client, self._request(task, unit, with_negatives=True), _Graded)
            negatives = {level: getattr(graded, f"level_{int(level)}") for level in LEVELS}
            return replace(blank, query=graded.query, positive=graded.positive, negatives=negatives)
        pair = await ask(client, self._request(task, unit, with_negatives=False), _Pair)
        if not unit.with_negatives:
            return replace(blank, query=pair.query, positive=pair.positive)
        document = Document(id=unit.document.id, text=pair.positive)
        row = await self.inner.write(replace(unit, task=None, document=document, query=pair.query), client)
        return replace(
            row, id=blank.id, document_id=None, query=pair.query, query_type=blank.query_type, task=task.text
        )

    def _request(self, task: Task, unit: WritingUnit, *, with_negatives: bool) -> CompletionRequest:
        words = (unit.style.document_words or 0) * (5 if with_negatives else 1)
        return CompletionRequest(
            messages=self.writer.prompts.render(
                "task_row",
                task=task.text,
                kind=str(task.kind),
                index=unit.index,
                style=unit.style,
                with_negatives=with_negatives,
            ),
            temperature=self.writer.temperature,
            top_p=self.writer.top_p,
            max_tokens=max(self.writer.max_tokens, round(words * _TOKENS_A_WORD) + _SPARE_TOKENS),
            seed=self.writer.seed + unit.index,
            room=self.writer.max_tokens,
        )
