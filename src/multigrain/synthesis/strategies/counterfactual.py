"""The positive with a few words changed, so that it says something else about the one thing that is asked.

Counterfactual negatives are minimal edits that flip the label (SALAD, arXiv 2504.12185; there for classification:
**notes**). The model names the words and their replacement, and the edit is made here, so the rest of the text stays
as it was to the letter: **ours**. The edited text is asked for as level 4; the audit mines the other levels.

To most encoders an edited text is as near to the query as the positive itself, and the audit turns away what is
nearer than the positive less `audit.false_negative_margin`. Set that to 0 to keep more of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from multigrain.llm.protocol import LLMClient, UnusableAnswer
from multigrain.records import Level, SynthesizedRow
from multigrain.synthesis.plain_text import Text
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import PassageStrategy, written_row


class Edit(BaseModel):
    """Words of a text, and what to put in their place."""

    original: Text
    replacement: Text


@dataclass(frozen=True)
class CounterfactualStrategy(PassageStrategy):
    """Asks for the query, then for an edit."""

    name = "counterfactual"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in two calls; see `Strategy.write`.

        Raises:
            UnusableAnswer: also where the edit names words that the positive does not hold ("no_edit").
        """
        query, positive = await self.writer.opening(client, unit, write_positive=self.write_positive)
        if not unit.with_negatives:
            return written_row(self.name, unit, query=query, positive=positive)
        shown = positive[: self.writer.document_characters]
        answer = await self.writer.fill(
            client,
            unit,
            "edit",
            Edit,
            shows={"original": "original", "replacement": "replacement"},
            query=query,
            positive=shown,
        )
        changed = edit(positive, answer.original, answer.replacement)
        return written_row(self.name, unit, query=query, positive=positive, negatives={Level.HARD: changed})


def edit(text: str, original: str, replacement: str) -> str:
    """The text with every occurrence of some words replaced.

    Raises:
        UnusableAnswer: the words are not in the text, or nothing would change.
    """
    if original not in text:
        raise UnusableAnswer("no_edit", f"the words to replace are not in the positive: {original[:80]!r}")
    if " ".join(original.split()).casefold() == " ".join(replacement.split()).casefold():
        raise UnusableAnswer("no_edit", "the replacement changes nothing")
    return text.replace(original, replacement)
