"""What a tuned model has to be better than, besides its base: the record of it. `evaluation.choice` judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from multigrain.evaluation.significance import PairedDifference


@dataclass(frozen=True, slots=True)
class RivalScores:
    """One rival on one test set.

    Attributes:
        score: nDCG@10, mean over queries, 0 to 1.
        metrics: the other metrics by name.
        over: model of the run to this rival's score minus that model's, paired by query.
    """

    score: float
    metrics: Mapping[str, float]
    over: Mapping[str, PairedDifference]


@dataclass(frozen=True, slots=True)
class Rival:
    """One rival.

    Attributes:
        name: what tables call it.
        reference: what it was named by.
        tunable: whether it is a model that could be tuned in the base's place.
        sets: test set to its scores.
        skipped: why it could not be had; empty where it was scored.
    """

    name: str
    reference: str
    tunable: bool = False
    sets: Mapping[str, RivalScores] = field(default_factory=dict)
    skipped: str = ""
