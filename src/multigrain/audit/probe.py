"""The source probe: can a simple classifier tell written negatives from those of the corpus?

Where it can, a model in training can too, and may learn who wrote a text instead of what it says (a source shortcut,
arXiv 2606.01304). The probe is a logistic regression on character n-grams and, where they are given, on reference
vectors, scored on folds that it was not fitted on. Texts of one row are never divided between folds.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from multigrain.audit.duplicates import Embed
from multigrain.audit.run import AuditResult
from multigrain.config import Config, ProbeConfig
from multigrain.encoders.protocol import Floats
from multigrain.mining.best import NO_ROW, Rows
from multigrain.mining.search import rows_at
from multigrain.records import Document, GradedExample, Origin

_FOLDS: Final = 5
_FEWEST: Final = 20  # texts of each kind; with fewer the interval says nothing
_RESAMPLES: Final = 1000
_CHARACTERS: Final = 1000


@dataclass(frozen=True)
class SourceProbe:
    """How well written negatives can be told from mined ones.

    Attributes:
        auc: area under the ROC curve: .5 is a guess, 1 always right.
        low: lower end of its 95% interval, by bootstrap over rows.
        high: upper end.
        features: what the classifier looked at: "characters", "embeddings" or "length", whichever told most.
        by_feature: the area for each of them.
        written: texts of this kind that it saw.
        mined: texts of this kind that it saw.
        warns: whether the area is above the threshold.
        threshold: the threshold.
        written_share: of written negatives in the data set.
        advised_share: the largest share of written negatives at which knowing the source tells a negative from a
            positive no better than the threshold allows; None where there is nothing to advise.
    """

    auc: float
    low: float
    high: float
    features: str
    by_feature: dict[str, float]
    written: int
    mined: int
    warns: bool
    threshold: float
    written_share: float
    advised_share: float | None


def probe_source(
    examples: Iterable[GradedExample],
    config: ProbeConfig,
    *,
    seed: int,
    embed: Callable[[Sequence[str]], Floats] | None = None,
) -> SourceProbe | None:
    """Try to tell the kept rows' written negatives from their mined ones; None where there are too few.

    Args:
        examples: the kept rows.
        config: how many texts, and when to warn.
        seed: of the sample, the folds and the bootstrap.
        embed: the reference model; None leaves vectors out.
    """
    if not config.enabled:
        return None
    texts, labels, groups, total = _sample(examples, config.max_texts, seed)
    if min(labels.sum(), (1 - labels).sum()) < _FEWEST or len(np.unique(groups)) < _FOLDS:
        return None
    of_characters, of_vectors = _models(seed)
    scores = {
        "characters": _cross_validated(of_characters, [text[:_CHARACTERS] for text in texts], labels, groups, seed),
        "length": np.array([[len(text)] for text in texts], dtype=np.float64)[:, 0],
    }
    if embed is not None:
        scores["embeddings"] = _cross_validated(of_vectors, embed(texts), labels, groups, seed)
    areas = {name: _area(labels, values) for name, values in scores.items()}
    areas["length"] = max(areas["length"], 1 - areas["length"])  # shorter or longer: either tells
    best = max(sorted(areas), key=lambda name: areas[name])
    values = scores[best] if _area(labels, scores[best]) >= 0.5 else -scores[best]
    low, high = _interval(labels, values, groups, seed)
    share = total[1] / max(sum(total), 1)
    return SourceProbe(
        auc=areas[best],
        low=low,
        high=high,
        features=best,
        by_feature={name: round(area, 4) for name, area in sorted(areas.items())},
        written=int(labels.sum()),
        mined=int((1 - labels).sum()),
        warns=areas[best] > config.warn_above,
        threshold=config.warn_above,
        written_share=share,
        advised_share=_advised_share(areas[best], share, config.warn_above),
    )


def _advised_share(area: float, share: float, threshold: float) -> float | None:
    """The share of written negatives that lowers what the shortcut buys to the threshold.

    Positives are texts of the corpus. Against a mined negative the source tells nothing (a guess, .5), against a
    written one it ranks the positive first with the probe's area. Over a share s of written negatives that makes
    .5 + s (area - .5), which is to be at most the threshold.
    """
    if 0.5 + share * (area - 0.5) <= threshold:
        return None
    return (threshold - 0.5) / (area - 0.5)


def _sample(
    examples: Iterable[GradedExample], most: int, seed: int
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64], tuple[int, int]]:
    """Distinct texts of each kind, their labels (1 is written), the rows they stand in, and how many there were."""
    kinds = (_Smallest(most), _Smallest(most))
    total = [0, 0]
    for place, example in enumerate(examples):
        for negative in example.negatives:
            kind = int(negative.origin is Origin.WRITTEN)
            total[kind] += 1
            digest = hashlib.sha256(f"{seed}:{negative.text}".encode()).digest()
            kinds[kind].offer(digest, negative.text, place)
    texts: list[str] = []
    labels: list[int] = []
    groups: list[int] = []
    size = min(most, len(kinds[0]), len(kinds[1]))  # as many of each: chance is then .5 for any classifier
    for label, smallest in enumerate(kinds):
        chosen = smallest.first(size)
        texts += [text for text, _ in chosen]
        labels += [label] * len(chosen)
        groups += [place for _, place in chosen]
    return texts, np.array(labels, dtype=np.int64), np.array(groups, dtype=np.int64), (total[0], total[1])


class _Smallest:
    """The texts of the smallest hashes among however many, each once, with the place where it came first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._texts: dict[bytes, tuple[str, int]] = {}
        self._bar: bytes | None = None

    def __len__(self) -> int:
        return min(len(self._texts), self._most)

    def offer(self, digest: bytes, text: str, place: int) -> None:
        """Take in a text, unless its hash is larger than those that are wanted."""
        if self._bar is not None and digest > self._bar:
            return
        self._texts.setdefault(digest, (text, place))
        if len(self._texts) > 2 * self._most:
            self._texts = {digest: self._texts[digest] for digest in sorted(self._texts)[: self._most]}
            self._bar = max(self._texts)

    def first(self, count: int) -> list[tuple[str, int]]:
        """That many texts and places, by hash."""
        return [self._texts[digest] for digest in sorted(self._texts)[:count]]


def _models(seed: int) -> tuple[Any, Any]:
    """The classifiers of characters and of vectors."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ngrams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=20_000, sublinear_tf=True)
    return (
        make_pipeline(ngrams, LogisticRegression(max_iter=200, random_state=seed)),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, C=0.1, random_state=seed)),
    )


def _cross_validated(
    model: Any,
    inputs: Any,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float64]:
    """For each text the probability that it is written, from a model that was not fitted on its row."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    folds = StratifiedGroupKFold(n_splits=_FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probabilities = cross_val_predict(model, inputs, labels, groups=groups, cv=folds, method="predict_proba")
    return np.asarray(probabilities[:, 1], dtype=np.float64)


def _area(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def _interval(
    labels: NDArray[np.int64], scores: NDArray[np.float64], groups: NDArray[np.int64], seed: int
) -> tuple[float, float]:
    """A 95% bootstrap interval of the area. Rows are resampled, since texts of one row go together."""
    from scipy.stats import rankdata

    draw = np.random.default_rng(seed)
    rows, own = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(own == number) for number in range(len(rows))]
    areas = []
    for _ in range(_RESAMPLES):
        chosen = np.concatenate([members[number] for number in draw.integers(0, len(rows), len(rows))])
        positive = labels[chosen] == 1
        ones, zeros = int(positive.sum()), int((~positive).sum())
        if ones and zeros:
            ranks = rankdata(scores[chosen])
            areas.append((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))
    low, high = np.percentile(areas, [2.5, 97.5])
    return float(low), float(high)


def run_probe(
    result: AuditResult, pool: Sequence[Document], pool_vectors: Rows, config: Config, embed: Embed
) -> SourceProbe | None:
    """Try to tell the kept written negatives from the mined ones, by vectors as they were measured where there are."""

    def look_up(texts: Sequence[str]) -> Floats:
        distinct = frozenset(texts)
        rows = {document.text: row for row, document in enumerate(pool) if document.text in distinct}
        places = np.asarray([rows.get(text, NO_ROW) for text in texts], dtype=np.int64)
        mined = places != NO_ROW
        own = iter(rows_at(pool_vectors, places[mined]) if mined.any() else ())
        forgotten = [
            text
            for text, is_mined in zip(texts, mined, strict=True)
            if not is_mined and text not in result.written_vectors
        ]
        again = dict(zip(forgotten, embed(forgotten), strict=True)) if forgotten else {}
        return np.stack(
            [
                next(own) if is_mined else again[text] if text in again else result.written_vectors[text]
                for text, is_mined in zip(texts, mined, strict=True)
            ]
        )

    return probe_source(result.examples, config.audit.probe, seed=config.seed, embed=look_up)
