"""How good each completion was, by the audit's own measures.

A row's texts are traced to the completions that hold them. Each text has a reward between 0 and 1:

    a query        1 / (1 + the number of training documents that are nearer to it than its own): its round trip
    a negative     1 − |level asked − level measured| / 3
    rejected text  0

and a completion's reward is the mean over its texts. **Ours**: papers that tune on rewards have their own measures.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from multigrain.encoders.protocol import Encoder
from multigrain.llm.protocol import Message, UnusableAnswer
from multigrain.llm.reasoning import without_reasoning
from multigrain.mining.best import Rows
from multigrain.mining.search import rank_corpus
from multigrain.records import (
    LEVELS,
    Document,
    GradedExample,
    Origin,
    Rejection,
    SynthesizedRow,
    answering_ids,
)
from multigrain.sources.words import fold_words
from multigrain.writer.attempts import Attempt, Exchange

_DEPTH: Final = 1_000  # ranks beyond are as good as none
_QUERY: Final = "query"
_REJECTED_SHARE: Final = 0.5
_OF_NEGATIVES: Final = frozenset({"no_negative", "no_level"})
_OF_THE_SET: Final = frozenset({"contaminated", "duplicate_query", "near_duplicate", "same_meaning"})
"""Reasons that say nothing of a completion by itself. What is in an evaluation set must not be learnt either."""


@dataclass(frozen=True, slots=True)
class GradedCompletion:
    """A completion with what the audit made of its texts.

    Attributes:
        row_id: the row that it was written for; empty where none came of it.
        document_ids: the document or task that was shown, or both documents; the row's own first.
        prompt: what was asked, without later complaints about an answer.
        text: what was answered.
        accepted: whether the row was kept, and at most half of the completion's texts were rejected, none of them a
            query.
        reward: 0 to 1.
        reasons: why texts were rejected, or why the answer could not be used.
    """

    row_id: str
    document_ids: tuple[str, ...]
    prompt: tuple[Message, ...]
    text: str
    accepted: bool
    reward: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdicts:
    """What an audit said, by the row's id.

    Attributes:
        examples: the rows that were kept.
        rejections: what was rejected of each row.
    """

    examples: Mapping[str, GradedExample]
    rejections: Mapping[str, Sequence[Rejection]]

    @classmethod
    def of(cls, examples: Iterable[GradedExample], rejections: Iterable[Rejection]) -> Verdicts:
        """From what an audit wrote."""
        by_row: dict[str, list[Rejection]] = defaultdict(list)
        for rejection in rejections:
            by_row[rejection.id].append(rejection)
        return cls({example.id: example for example in examples}, by_row)

    def reason(self, row: SynthesizedRow) -> str | None:
        """Why the whole row was rejected; None where it was kept."""
        return next((each.reason for each in self.rejections.get(row.id, ()) if each.part == "row"), None)


def round_trip_ranks(
    rows: Sequence[SynthesizedRow], pool: Sequence[Document], pool_vectors: Rows, reference: Encoder
) -> dict[str, int]:
    """How many documents are nearer to each row's query than its own passage, by the row's id; 1,000 at most.

    Args:
        rows: with queries.
        pool: the training documents, as the audit searches them.
        pool_vectors: (len(pool), d) their reference vectors.
        reference: the model that measures.
    """
    if not rows:
        return {}
    numbers = {document.id: number for number, document in enumerate(pool)}
    groups = [document.group for document in pool]
    queries = reference.encode_queries([row.query for row in rows])
    positives = reference.encode_documents([row.positive for row in rows])
    own = [{groups[numbers[key]] for key in answering_ids(row) if key in numbers} for row in rows]
    rankings = rank_corpus(queries, pool_vectors, groups, own, depth=_DEPTH)
    return {
        row.id: int(np.searchsorted(-ranking.similarities, -float(query @ positive), side="left"))
        for row, ranking, query, positive in zip(rows, rankings, queries, positives, strict=True)
    }


def grade_completions(
    attempts: Iterable[Attempt], verdicts: Verdicts, ranks: Mapping[str, int]
) -> Iterator[GradedCompletion]:
    """Grade what was asked for rows; completions whose texts nobody judged are left out.

    Args:
        attempts: the rows with their completions.
        verdicts: the audit's.
        ranks: `round_trip_ranks` of the rows.
    """
    for attempt in attempts:
        row = attempt.row
        for asked in _retries(attempt.exchanges):
            last, prompt = asked[-1], _prompt(asked[0])
            for exchange in asked[:-1]:
                if text := exchange.completion.text.strip():
                    kind = "truncated" if exchange.completion.finish_reason == "length" else "unusable"
                    yield _graded(attempt, prompt, text, [0.0], [kind], accepted=False)
            if row is None:
                # Earlier requests of the row may have been answered well: only the last one is known to have failed.
                if asked[-1] is attempt.exchanges[-1] and (text := last.completion.text.strip()):
                    yield _graded(attempt, prompt, text, [0.0], [attempt.failure], accepted=False)
                continue
            yield from _judged(attempt, row, prompt, last, verdicts, ranks)


def _judged(
    attempt: Attempt,
    row: SynthesizedRow,
    prompt: tuple[Message, ...],
    exchange: Exchange,
    verdicts: Verdicts,
    ranks: Mapping[str, int],
) -> Iterator[GradedCompletion]:
    answer = _words(exchange.completion.text)
    written = [(part, text) for part, text in _texts(row) if (words := fold_words(text)) and words in answer]
    if not written or verdicts.reason(row) in _OF_THE_SET:
        return
    rewards: list[float] = []
    reasons: list[str] = []
    for part, text in written:
        reward, reason = _verdict(row, part, text, verdicts, ranks)
        if reward is not None:
            rewards.append(reward)
        if reason:
            reasons.append(reason)
    if not rewards:
        return
    plain = exchange.request.schema is None and len(written) == 1
    text = written[0][1] if plain else (exchange.request.prefill + exchange.completion.text).strip()
    # A kept row's query was not rejected. What it lacks of negatives the audit has mined.
    accepted = row.id in verdicts.examples and len(reasons) <= _REJECTED_SHARE * len(rewards)
    yield _graded(attempt, prompt, text, rewards, reasons, accepted=accepted)


def _verdict(
    row: SynthesizedRow, part: str, text: str, verdicts: Verdicts, ranks: Mapping[str, int]
) -> tuple[float | None, str]:
    """The reward of a text, None where nobody judged it, and why it was rejected."""
    whole = verdicts.reason(row)
    if part == _QUERY:
        if whole is None or whole in _OF_NEGATIVES:
            return 1 / (1 + ranks.get(row.id, _DEPTH)), ""
        return 0.0, whole
    if whole is not None and whole not in _OF_NEGATIVES:
        return None, ""  # its row went before its negatives were looked at
    for rejection in verdicts.rejections.get(row.id, ()):
        if rejection.part == part and fold_words(rejection.text) == fold_words(text):
            return 0.0, rejection.reason
    example = verdicts.examples.get(row.id)
    for negative in () if example is None else example.negatives:
        if negative.origin is Origin.WRITTEN and fold_words(negative.text) == fold_words(text):
            distance = abs(int(negative.level) - int(part.removeprefix("level_")))
            return 1 - distance / (len(LEVELS) - 1), ""
    return (None, "") if whole is None else (0.0, whole)


def _texts(row: SynthesizedRow) -> Iterator[tuple[str, str]]:
    """What was written of a row that is judged: the query where it was not given, negatives and candidates."""
    if not row.given:
        yield _QUERY, row.query
    for level in LEVELS:
        for text in (row.negatives.get(level, ""), *row.candidates.get(level, ())):
            if text:
                yield f"level_{int(level)}", text


def _retries(exchanges: Sequence[Exchange]) -> list[list[Exchange]]:
    """Exchanges by what was asked at first: a retry repeats the chat, with more room, or with the answer before."""
    groups: list[list[Exchange]] = []
    for exchange in exchanges:
        messages = exchange.request.messages
        for group in groups:
            start = _prompt(group[0])
            if messages[: len(start)] == start:
                group.append(exchange)
                break
        else:
            groups.append([exchange])
    return groups


def _prompt(exchange: Exchange) -> tuple[Message, ...]:
    messages = exchange.request.messages
    return messages[:-1] if exchange.request.prefill else messages


def _words(text: str) -> str:
    """The words of an answer; of a JSON object those of its values."""
    try:
        answer = without_reasoning(text)
    except UnusableAnswer:
        return ""
    try:
        value = json.loads(answer)
    except ValueError:
        return fold_words(answer)
    return fold_words("\n".join(_strings(value)))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _strings(part)
    else:
        yield str(value)


def _graded(
    attempt: Attempt,
    prompt: tuple[Message, ...],
    text: str,
    rewards: Sequence[float],
    reasons: Sequence[str],
    *,
    accepted: bool,
) -> GradedCompletion:
    return GradedCompletion(
        row_id="" if attempt.row is None else attempt.row.id,
        document_ids=tuple(one.id for one in (attempt.unit.document, attempt.unit.other) if one is not None),
        prompt=prompt,
        text=text,
        accepted=accepted,
        reward=round(sum(rewards) / len(rewards), 6),
        reasons=tuple(dict.fromkeys(reasons)),
    )
