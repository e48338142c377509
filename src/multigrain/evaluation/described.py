"""A conclusion in one sentence, and as JSON-like values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from multigrain.evaluation.enough import needed_words
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.verdict import Conclusion, Verdict


def describe_conclusion(conclusion: Conclusion, settings: CompareSettings) -> str:
    """One sentence: who is better, by how much, how surely.

    Args:
        conclusion: what to say.
        settings: what it was concluded with.
    """
    result, difference = conclusion.result, conclusion.difference
    size = f"{result.queries:,} {result.unit}"
    about = ", ".join(part for part in (result.provenance, size, result.cluster_words) if part)
    figures = (
        f"{result.metric} {conclusion.base_score:.3f} → {conclusion.score:.3f} ({100 * difference.mean:+.1f} points, "
        f"{100 * settings.confidence:g}% interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
    )
    correction = f", corrected for {conclusion.compared} comparisons" if conclusion.compared > 1 else ""
    parts = [figures, f"p = {conclusion.adjusted_p:.2g}{correction}"]
    if conclusion.wins is not None and conclusion.losses is not None:
        ties = result.queries - conclusion.wins - conclusion.losses
        parts.append(f"wins {conclusion.wins}, losses {conclusion.losses}, ties {ties}")
    return f"{result.name} ({about}): {_claim(conclusion, settings)}. {'; '.join(parts)}."


def _claim(conclusion: Conclusion, settings: CompareSettings) -> str:
    model, base = conclusion.model, conclusion.base
    if conclusion.verdict is Verdict.EQUAL:
        return f"no difference that matters between {model} and {base}"
    if conclusion.is_claimed:
        return f"{model} is {conclusion.verdict.value} than {base}"
    words = f"not enough queries to tell {model} from {base}"
    needed = needed_words(conclusion, confidence=settings.confidence, smallest=settings.smallest)
    return f"{words}; {needed}" if needed else words


def plain_conclusion(conclusion: Conclusion) -> dict[str, Any]:
    """A conclusion as JSON-like values."""
    return {
        "set": conclusion.result.name,
        "role": conclusion.result.role,
        "label": conclusion.result.provenance,
        "metric": conclusion.result.metric,
        "base": conclusion.base,
        "model": conclusion.model,
        "queries": conclusion.result.queries,
        "base_score": conclusion.base_score,
        "score": conclusion.score,
        "difference": asdict(conclusion.difference),
        "wins": conclusion.wins,
        "losses": conclusion.losses,
        "adjusted_p": conclusion.adjusted_p,
        "verdict": conclusion.verdict.value,
        "queries_needed": conclusion.queries_needed,
    }
