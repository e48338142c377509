"""Classification by the nearest label: the label whose description ranks first is the answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from multigrain.evaluation.per_query import QueryRow

_SAMPLES: Final = 1_000


@dataclass(frozen=True, slots=True)
class MacroF1:
    """A model's classification of a set.

    Attributes:
        value: the unweighted mean of F1 over the labels that any text has or is given, 0 to 1.
        low: end of its 95% interval over resampled texts.
        high: the other end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """The figure with its interval, e.g. `0.712 [0.690, 0.733]`."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def macro_f1(rows: Iterable[QueryRow], *, samples: int = _SAMPLES, seed: int = 13) -> dict[str, dict[str, MacroF1]]:
    """Macro-F1 by set and model.

    A text is given the one label that ranks first. Where it has several, the others count as missed, for every model
    alike.

    Args:
        rows: texts as queries over label descriptions, each ranked by one model.
        samples: of the bootstrap, which draws texts.
        seed: of the bootstrap.
    """
    by_model: dict[tuple[str, str], list[QueryRow]] = defaultdict(list)
    for row in rows:
        by_model[row.set, row.model].append(row)
    found: dict[str, dict[str, MacroF1]] = defaultdict(dict)
    for (name, model), queries in by_model.items():
        found[name][model] = _of(queries, samples, seed)
    return dict(found)


def _of(queries: Sequence[QueryRow], samples: int, seed: int) -> MacroF1:
    labels = MultiLabelBinarizer().fit([{*query.relevant_ids, *query.top_ids[:1]} for query in queries])
    gold = np.asarray(labels.transform([query.relevant_ids for query in queries]), dtype=np.int64)
    given = np.asarray(labels.transform([query.top_ids[:1] for query in queries]), dtype=np.int64)
    draw = np.random.default_rng(seed)
    drawn = [_mean_f1(gold[places], given[places]) for places in draw.integers(0, len(gold), (samples, len(gold)))]
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = float(f1_score(gold, given, average="macro", zero_division=0.0))
    return MacroF1(value, float(low), float(high))


def _mean_f1(gold: NDArray[np.int64], given: NDArray[np.int64]) -> float:
    """The same over the labels that are there, without scikit-learn's checks, for a thousand samples."""
    hits = (gold & given).sum(0)
    sums = gold.sum(0) + given.sum(0)
    there = sums > 0
    return float((2 * hits[there] / sums[there]).mean())
