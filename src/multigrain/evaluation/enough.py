"""How many queries are enough: to choose a model by, and to tell two models apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.settings import SMALLEST_DIFFERENCE
from multigrain.evaluation.verdict import ABOUT_ZERO, FEWEST_FOR_NO_DIFFERENCE, Conclusion, is_within, points_allowed

ENOUGH_TO_CHOOSE: Final = 50
"""Validation queries, or clusters of them, below which a choice is near to chance [ours]: the mean difference of two
models over 50 queries is off by 2.5 points (one standard error), as much as tuning usually brings."""

_POWER: Final = 0.8  # four times in five


def chance_words(queries: int, clusters: int | None = None) -> str:
    """That validation queries are too few to choose by, and what to do; empty where they are enough.

    Args:
        queries: how many there are.
        clusters: how many clusters they form; None where that is not known.
    """
    counted = queries if clusters is None else clusters
    if not 0 < counted < ENOUGH_TO_CHOOSE:
        return ""
    of_clusters = "" if counted == queries else f" in {counted:,} clusters"
    return (
        f"{queries:,} validation queries{of_clusters} are too few to choose by: below {ENOUGH_TO_CHOOSE}, what they "
        "choose is near to chance; raise documents.validation_share, or name a labelled set with role: validation "
        "under evaluation.sets"
    )


def chance_words_of(sets: Sequence[EvaluationSet]) -> str:
    """The same of validation sets that choose together."""
    return chance_words(sum(len(each.queries) for each in sets), sum(len(set(each.clusters)) for each in sets))


def queries_to_show(conclusion: Conclusion, *, confidence: float = 0.95) -> int | None:
    """About how many queries would show the gain or loss that was measured, if it is real, four times in five.

    Args:
        conclusion: on a set.
        confidence: of its interval.

    Returns:
        None where next to nothing was measured, or where there are as many queries.
    """
    difference, queries = conclusion.difference, conclusion.result.queries
    if abs(difference.mean) < ABOUT_ZERO:
        return None
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    widths = (difference.high - difference.low) / 2 / abs(difference.mean)
    needed = math.ceil(queries * ((z + NormalDist().inv_cdf(_POWER)) / z * widths) ** 2)
    return needed if needed > queries else None


def needed_words(conclusion: Conclusion, *, confidence: float = 0.95, smallest: float = SMALLEST_DIFFERENCE) -> str:
    """What it would take to tell the two models apart, in words; empty where there are enough queries.

    Args:
        conclusion: on a set.
        confidence: of its interval.
        smallest: the smallest difference that matters, with which it was concluded.
    """
    result, difference, allowed = conclusion.result, conclusion.difference, points_allowed(smallest)
    if conclusion.queries_needed is None:
        return ""
    if is_within(difference, smallest):
        of_clusters = bool(result.cluster_words)
        counted = f"{result.counted:,} {'clusters of ' if of_clusters else ''}{result.unit}"
        more = f", about {rough(conclusion.queries_needed):,} {result.unit}" if of_clusters else ""
        return (
            f"the interval is within {allowed}, but {counted} are too few to say that nothing differs: that takes "
            f"{FEWEST_FOR_NO_DIFFERENCE}{more}"
        )
    if few := result.few_words(difference):
        more = "queries about more documents" if result.cluster_words else f"more {result.unit}"
        return f"{few} to say how many it would take: test on {more}"
    words = f"to be sure within {allowed} takes about {rough(conclusion.queries_needed):,}"
    shown = queries_to_show(conclusion, confidence=confidence)
    if shown is None or shown > conclusion.queries_needed:
        return words
    change = "gain" if difference.mean > 0 else "loss"
    points = f"{100 * abs(difference.mean):.1f} points"
    return f"{words}, to show a {change} of {points}, if it is real, about {rough(shown):,}"


def rough(count: int) -> int:
    """Two significant digits of an estimate."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return round(count / step) * step
