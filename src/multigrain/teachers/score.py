"""Scoring graded rows: each pair once, a few rows at a time; several teachers are mixed by rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from scipy.stats import rankdata

from multigrain.encoders.served import EmbeddingUsage
from multigrain.records import GradedExample, ScoreScale
from multigrain.synthesis.pair_judge import pair_key
from multigrain.teachers.protocol import ROWS_AT_ONCE, Teacher, kept_score
from multigrain.teachers.store import PairScores


@dataclass
class ScoreCounts:
    """Counts of scored passages.

    Attributes:
        rows: rows that were gone through.
        passages: their passages, positives among them.
        scored: passages with a score.
        asked: for each teacher how many pairs it was asked about in this session.
        unanswered: for each teacher how many of them came back without a score on its scale.
    """

    rows: int = 0
    passages: int = 0
    scored: int = 0
    asked: list[int] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class KeptTeacher:
    """A teacher, and the scores that it has given.

    Attributes:
        teacher: scores pairs.
        known: its scores on disk.
        usage: what its endpoint has embedded in this session; None where it runs here.
    """

    teacher: Teacher
    known: PairScores
    usage: EmbeddingUsage | None = None

    def scores(self, pairs: Sequence[tuple[str, str]]) -> tuple[dict[tuple[str, str], float], int]:
        """The scores of pairs, and how many had to be asked for."""
        keys = {pair: pair_key(*pair) for pair in dict.fromkeys(pairs)}
        known = self.known.find(list(keys.values()))
        missing = [pair for pair, key in keys.items() if key not in known]
        if missing:
            before = None if self.usage is None else replace(self.usage)
            try:
                answers = self.teacher.scores(missing)
            finally:  # what was embedded before an error is kept, and was paid for
                if self.usage is not None and before is not None and self.usage != before:
                    asked, read = self.usage.requests - before.requests, self.usage.tokens - before.tokens
                    self.known.note(EmbeddingUsage(asked, read))
            fresh = {
                keys[pair]: score
                for pair, answer in zip(missing, answers, strict=True)
                if (score := kept_score(answer, self.teacher.scale)) is not None
            }
            self.known.add(fresh)
            known |= fresh
        return {pair: known[key] for pair, key in keys.items() if key in known}, len(missing)


def texts_to_read(examples: Iterable[GradedExample], known: PairScores) -> Iterator[str]:
    """The texts, each once, of the pairs that a teacher has not scored yet.

    Args:
        examples: the rows; read once.
        known: the scores that it has given.
    """
    seen: set[int] = set()
    listed = iter(examples)
    while chunk := list(islice(listed, ROWS_AT_ONCE)):
        keys = {pair_key(row.query, text): (row.query, text) for row in chunk for text in _texts(row)}
        scored = known.find(list(keys))
        for key, pair in keys.items():
            for text in pair if key not in scored else ():
                if (number := hash(text)) not in seen:
                    seen.add(number)
                    yield text


def score_rows(
    examples: Iterable[GradedExample],
    teachers: Sequence[KeptTeacher],
    counts: ScoreCounts,
    *,
    rows: int = ROWS_AT_ONCE,
) -> Iterator[GradedExample]:
    """Graded rows with the scores of one teacher, or of several mixed by rank; few are in memory at a time.

    Args:
        examples: the rows; read once.
        teachers: at least one.
        counts: counts what is done.
        rows: rows whose pairs are asked about at once.
    """
    counts.asked, counts.unanswered = [0] * len(teachers), [0] * len(teachers)
    listed = iter(examples)
    while chunk := list(islice(listed, rows)):
        pairs = [(row.query, text) for row in chunk for text in _texts(row)]
        answers: list[dict[tuple[str, str], float]] = []
        for number, teacher in enumerate(teachers):
            scores, asked = teacher.scores(pairs)
            answers.append(scores)
            counts.asked[number] += asked
            counts.unanswered[number] += len(set(pairs)) - len(scores)
        for row in chunk:
            scored = _with_scores(row, _row_scores(row, answers), _scale(teachers))
            counts.rows += 1
            counts.passages += 1 + len(scored.others)
            counts.scored += sum(passage.score is not None for passage in scored.others)
            counts.scored += scored.positive_score is not None
            yield scored


def mixed_by_rank(scores: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The mean place of each passage in several teachers' orders: 1 for the best, 0 for the worst, ties in the middle.

    A teacher without a score for a passage has no say in it; a passage that none has scored has no place.

    Args:
        scores: for each teacher one for each passage.
    """
    places: list[list[float]] = [[] for _ in scores[0]] if scores else []
    for teacher in scores:
        given = [place for place, score in enumerate(teacher) if score is not None]
        ranks = rankdata([teacher[place] for place in given]) if given else np.zeros(0)
        for place, rank in zip(given, ranks, strict=True):
            places[place].append((float(rank) - 1) / (len(given) - 1) if len(given) > 1 else 0.5)
    return [float(np.mean(own)) if own else None for own in places]


def _scale(teachers: Sequence[KeptTeacher]) -> ScoreScale:
    return teachers[0].teacher.scale if len(teachers) == 1 else ScoreScale.RANK


def _texts(row: GradedExample) -> list[str]:
    return [row.positive, *(passage.text for passage in row.others)]


def _row_scores(row: GradedExample, answers: Sequence[dict[tuple[str, str], float]]) -> dict[str, float | None]:
    texts = list(dict.fromkeys(_texts(row)))
    by_teacher = [[scores.get((row.query, text)) for text in texts] for scores in answers]
    return dict(zip(texts, by_teacher[0] if len(by_teacher) == 1 else mixed_by_rank(by_teacher), strict=True))


def _with_scores(row: GradedExample, scores: dict[str, float | None], scale: ScoreScale) -> GradedExample:
    def scored(passages: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(replace(passage, score=scores[passage.text]) for passage in passages)

    easiest, low, high, hardest = scored(row.negatives)
    return replace(
        row,
        scale=scale,
        positive_score=scores[row.positive],
        negatives=(easiest, low, high, hardest),
        further_positives=scored(row.further_positives),
        candidates=scored(row.candidates),
    )
