"""What losses learn of a teacher's scores: lists of passages, and scores on the scale that a loss needs.

Teachers score on scales of their own (cosines, log-odds, grades, places), and none is the student's. So scores are put
on one of two:

- *similarity*, for distil and margin-mse: score · r, with r = how far apart the reference model's cosines of a row's
  passages lie, over how far the teacher's scores do (standard deviations within rows, averaged over rows). A teacher
  then spreads a list as wide as the base model does, and a temperature means for it what it means for the model.
- *probability*, for graded: grades / 5; log-odds through a sigmoid; places as they are. Cosines, and scores that came
  with a file, have no natural zero: the median score of the rows' lowest band is 0 and that of their positives 1.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from multigrain.curriculum.bands import band_length, evenly, score_band
from multigrain.errors import ModelError
from multigrain.records import LEVELS, GradedExample, Level, ScoreScale
from multigrain.training.losses.registry import Targets

_BEST_GRADE = 5.0


@dataclass(frozen=True, slots=True)
class ScoredList:
    """A row's passages that a teacher has scored.

    Attributes:
        texts: passages in rising order of their scores, each text once.
        scores: theirs.
        similarities: their cosines to the query under the reference model.
    """

    texts: tuple[str, ...]
    scores: tuple[float, ...]
    similarities: tuple[float, ...]


@dataclass(frozen=True)
class ScoreTargets:
    """How the scores of a data set become labels, and how long its lists are.

    Attributes:
        rows: that have a scored positive and at least one other scored passage.
        length: passages of a whole list, beside the positive.
        label: makes a label of a score.
        threshold: the reference cosine at which the passages are as likely answers as not; 0 for similarities.
    """

    rows: int
    length: int
    label: Callable[[float], float]
    threshold: float = 0.0

    @property
    def band(self) -> int:
        """Passages of one level's list, beside the positive."""
        return band_length(self.length)

    def whole(self, scored: ScoredList) -> list[tuple[str, float]]:
        """All of a row's passages, with labels; evenly spread where it has more, repeated where it has fewer."""
        return self._labelled(scored, evenly(self.length, len(scored.texts)))

    def of_level(self, scored: ScoredList, level: Level) -> list[tuple[str, float]]:
        """The passages of one band of a row's scores, with labels."""
        places = score_band(level, len(scored.texts))
        return self._labelled(scored, [places[place] for place in evenly(self.band, len(places))])

    def _labelled(self, scored: ScoredList, places: Sequence[int]) -> list[tuple[str, float]]:
        return [(scored.texts[place], self.label(scored.scores[place])) for place in places]


def scored_list(example: GradedExample) -> ScoredList | None:
    """The scored passages of a row; None where its positive, or every other passage, has no score."""
    if example.positive_score is None:
        return None
    passages = {
        passage.text: (passage.score, passage.similarity)
        for passage in example.others
        if passage.score is not None and passage.text != example.positive
    }
    if not passages:
        return None
    rising = sorted((score, text, similarity) for text, (score, similarity) in passages.items())
    scores, texts, similarities = zip(*rising, strict=True)
    return ScoredList(texts, scores, similarities)


def score_targets(examples: Iterable[GradedExample], targets: Targets) -> ScoreTargets:
    """Look through the rows once, keeping a few numbers of each.

    Args:
        examples: graded rows with a teacher's scores.
        targets: what the loss takes.

    Raises:
        ModelError: fewer than two rows have scores to learn from, or the teacher tells no two passages apart.
    """
    lengths: Counter[int] = Counter()
    scales: Counter[ScoreScale | None] = Counter()
    spreads, own_spreads = array("d"), array("d")
    positives, lowest = array("d"), array("d")
    pairs = array("d")  # of a passage: score, reference cosine
    for example in examples:
        scored = scored_list(example)
        if scored is None or example.positive_score is None:
            continue
        lengths[len(scored.texts)] += 1
        scales[example.scale] += 1
        scores = [example.positive_score, *scored.scores]
        similarities = [example.positive_similarity, *scored.similarities]
        spreads.append(float(np.std(scores)))
        own_spreads.append(float(np.std(similarities)))
        positives.append(example.positive_score)
        lowest.append(float(np.mean([scored.scores[place] for place in score_band(LEVELS[0], len(scored.texts))])))
        for score, similarity in zip(scores, similarities, strict=True):
            pairs.extend((score, similarity))
    rows = sum(lengths.values())
    if rows < 2:
        raise ModelError(
            f"{rows} training rows have a teacher's scores of their positive and of another passage; at least 2 are "
            "needed: see the counts of the stage `teachers`"
        )
    length = _median_length(lengths)
    if targets == "similarity":
        spread = float(np.mean(spreads))
        if not spread:
            raise ModelError("the teacher gives all passages of a row the same score: there is nothing to learn of it")
        ratio = (float(np.mean(own_spreads)) or 1.0) / spread
        return ScoreTargets(rows, length, lambda score: score * ratio)
    label = _probability(scales.most_common(1)[0][0], zero=median(lowest), one=median(positives))
    values = np.asarray(pairs).reshape(-1, 2)
    answers = np.asarray([label(score) for score in values[:, 0]]) >= 0.5
    if answers.all() or not answers.any():
        threshold = float(values[:, 1].mean())
    else:
        threshold = float((values[answers, 1].mean() + values[~answers, 1].mean()) / 2)
    return ScoreTargets(rows, length, label, threshold)


def _median_length(lengths: Counter[int]) -> int:
    """The length that at least half of the lists have or exceed."""
    return int(median(sorted(lengths.elements())))


def _probability(scale: ScoreScale | None, *, zero: float, one: float) -> Callable[[float], float]:
    if scale is ScoreScale.GRADE:
        return lambda score: score / _BEST_GRADE
    if scale is ScoreScale.LOGIT:
        return lambda score: 1 / (1 + math.exp(-score))
    if scale is ScoreScale.RANK:
        return lambda score: score
    width = one - zero if one > zero else 1.0
    return lambda score: min(1.0, max(0.0, (score - zero) / width))
