"""Sentence-similarity files: does the model order pairs as people did? Spearman's rank correlation, by scipy.

A cheap and sensitive check for forgetting, since it needs neither a corpus nor judgments of relevance.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from multigrain.errors import EvaluationError
from multigrain.evaluation.sets.beir import as_evaluation_error
from multigrain.evaluation.sets.retrieval_set import Role
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import PairedDifference
from multigrain.storage.columns import SENTENCE_SCORE, SENTENCES
from multigrain.storage.entries import pair_columns
from multigrain.storage.reading import Reading, using
from multigrain.storage.rows import Row, read_rows

if TYPE_CHECKING:  # it loads torch, which comparing similarities does not need
    from multigrain.encoders.protocol import Encoder

GIVEN_SCORES: Final = "given similarity scores"

_FEWEST_PAIRS: Final = 3
_BATCH_NUMBERS: Final = 1_000_000
_MOST_SAMPLES: Final = 2_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SimilaritySet:
    """Pairs of texts and how similar people found them.

    Attributes:
        name: what tables call it.
        role: what it is for.
        provenance: who judged.
        pairs: the texts.
        gold: a score a pair, on any scale on which more is more similar.
        notes: what is to be told of the file that it was read from.

    Raises:
        EvaluationError: too few pairs, an empty text, or scores that are all equal or not finite.
    """

    name: str
    role: Role
    provenance: str
    pairs: tuple[tuple[str, str], ...]
    gold: tuple[float, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.pairs) != len(self.gold):
            raise EvaluationError(f"similarity set {self.name!r}: {len(self.pairs)} pairs, {len(self.gold)} scores")
        if len(self.pairs) < _FEWEST_PAIRS:
            raise EvaluationError(
                f"similarity set {self.name!r}: {len(self.pairs)} pairs; a rank correlation needs {_FEWEST_PAIRS}"
            )
        for number, pair in enumerate(self.pairs, start=1):
            if not all(text.strip() for text in pair):
                raise EvaluationError(f"similarity set {self.name!r}: pair {number} has an empty text; leave it out")
        if not np.isfinite(self.gold).all() or len(set(self.gold)) == 1:
            raise EvaluationError(
                f"similarity set {self.name!r}: the scores are all equal or not finite; there is no order to find"
            )


def read_sts(path: Path, *, name: str, role: Role, provenance: str = GIVEN_SCORES) -> SimilaritySet:
    """Read a .tsv, .csv, .jsonl or .parquet file with the columns sentence1, sentence2 and score.

    A pair that lacks a text or its score is left out, as long as such pairs are few.

    Raises:
        EvaluationError: the file cannot be read, a column is missing, a score is no number, more than a fifth (`FEW`)
            of the pairs would be left out, or the set cannot be scored.
    """
    pairs: list[tuple[str, str]] = []
    gold: list[float] = []
    reading = Reading("pairs")
    with as_evaluation_error():
        for row in read_rows(path):
            if SENTENCES[0].among(row.values) is None and (columns := pair_columns(row.values)) is not None:
                raise EvaluationError(
                    f"{row.place}: queries with their answers ({columns[0]!r}, {columns[1]!r}) are no set: start_from:"
                    " pairs holds a part of them out for the test; or name three files: queries, documents and qrels"
                )
            reading.see(row, using(*SENTENCES, SENTENCE_SCORE))
            texts = [_sentence(row, position) for position in range(len(SENTENCES))]
            score = row.values[row.column(SENTENCE_SCORE)]
            lacking = [column.holds for column, text in zip(SENTENCES, texts, strict=True) if not text]
            lacking += ["score"] if score is None or score == "" else []
            if lacking:
                reading.leave_out(f"no {lacking[0]}", f"{row.place}: no {lacking[0]}")
                continue
            try:
                gold.append(float(score))
            except (TypeError, ValueError):
                raise EvaluationError(f"{row.place}: score {score!r} is not a number") from None
            pairs.append((texts[0], texts[1]))
        reading.check_few()
    notes = tuple(reading.lines(path.name))
    return SimilaritySet(
        name=name, role=role, provenance=provenance, pairs=tuple(pairs), gold=tuple(gold), notes=notes
    )


def evaluate_sts(encoder: Encoder, similarity_set: SimilaritySet) -> Floats:
    """The model's similarity of each pair, in the set's order; `spearman` scores them against `gold`.

    The task is symmetric, so both texts are embedded alike: as queries, with that prompt if the model has one.

    Raises:
        EvaluationError: the vectors are not finite.
    """
    left = encoder.encode_queries([first for first, _ in similarity_set.pairs])
    right = encoder.encode_queries([second for _, second in similarity_set.pairs])
    similarities: Floats = np.einsum("ij,ij->i", left, right, dtype=np.float64)
    if not np.isfinite(similarities).all():
        raise EvaluationError(
            f"similarity set {similarity_set.name!r}: the model gave vectors that are not finite; "
            "its weights are damaged or training diverged"
        )
    return similarities


def spearman(gold: Floats, similarities: Floats) -> float:
    """Spearman's rank correlation, -1 to 1; 0 for a model that finds every pair equally similar."""
    if np.ptp(similarities) == 0:
        return 0.0
    return float(stats.spearmanr(gold, similarities).statistic)


def compare_similarities(gold: Floats, base: Floats, other: Floats, settings: CompareSettings) -> PairedDifference:
    """How much one model's rank correlation differs from another's on the same pairs.

    The interval resamples pairs. The randomisation test exchanges the two models' ranks pair by pair (ranks, as
    two models' similarities have different scales).

    Args:
        gold: people's scores.
        base: one model's similarities.
        other: the other model's.
        settings: samples (at most 2,000 are drawn, as each ranks all pairs), confidence and seed.
    """
    samples = min(settings.samples, _MOST_SAMPLES)

    batch = max(1, _BATCH_NUMBERS // len(gold))

    def difference(gold_: Floats, base_: Floats, other_: Floats, axis: int = -1) -> Floats:
        return _correlation(gold_, other_, axis) - _correlation(gold_, base_, axis)

    interval = stats.bootstrap(
        (gold, base, other),
        difference,
        paired=True,
        vectorized=True,
        n_resamples=samples,
        batch=batch,
        confidence_level=settings.confidence,
        method="percentile",
        rng=np.random.default_rng(settings.seed),
    ).confidence_interval
    exchanges = stats.permutation_test(
        (stats.rankdata(base), stats.rankdata(other)),
        lambda one, two, axis: difference(gold, one, two, axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=samples,
        batch=batch,
        rng=np.random.default_rng(settings.seed),
    )
    observed = spearman(gold, other) - spearman(gold, base)
    return PairedDifference(observed, float(interval.low), float(interval.high), float(exchanges.pvalue))


def _correlation(gold: Floats, similarities: Floats, axis: int) -> Floats:
    """Spearman's correlation along an axis; 0 where either side is constant."""
    left = stats.rankdata(gold, axis=axis)
    right = stats.rankdata(similarities, axis=axis)
    left -= left.mean(axis=axis, keepdims=True)
    right -= right.mean(axis=axis, keepdims=True)
    scale = np.sqrt((left**2).sum(axis=axis) * (right**2).sum(axis=axis))
    return np.asarray(np.divide((left * right).sum(axis=axis), scale, out=np.zeros_like(scale), where=scale > 0))


def _sentence(row: Row, position: int) -> str:
    """A sentence, which may be written as a number; empty where there is none."""
    value = row.values[row.column(SENTENCES[position])]
    text = "" if value is None else str(value)
    return text if text.strip() else ""
