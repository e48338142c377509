"""Comparisons in words: what a person reads in the terminal and pastes into a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from multigrain.display.text import one_line
from multigrain.evaluation.compare import CompareSettings, Conclusion, QueryChange, Verdict

__all__ = ["describe_change", "describe_conclusion", "rough"]

_EXCERPT: Final = 160


def describe_conclusion(conclusion: Conclusion, *, compared: int, settings: CompareSettings) -> str:
    """One sentence: who is better, by how much, how surely.

    Args:
        conclusion: what to say.
        compared: how many differences were concluded together (named where p-values were corrected).
        settings: what it was concluded with.
    """
    measured, difference = conclusion.measured, conclusion.measured.difference
    unit = "pairs" if measured.wins is None else "queries"
    about = ", ".join(part for part in (measured.label, f"{measured.queries:,} {unit}") if part)
    figures = (
        f"{measured.metric} {measured.base_score:.3f} → {measured.score:.3f} ({100 * difference.mean:+.1f} points, "
        f"{100 * settings.confidence:g}% interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
    )
    chance = f"p = {conclusion.adjusted_p:.2g}" + (f", corrected for {compared} comparisons" if compared > 1 else "")
    parts = [figures, chance]
    if measured.wins is not None and measured.losses is not None:
        ties = measured.queries - measured.wins - measured.losses
        parts.append(f"wins {measured.wins}, losses {measured.losses}, ties {ties}")
    return f"{measured.set} ({about}): {_claim(conclusion, settings.smallest)}. {'; '.join(parts)}."


def describe_change(change: QueryChange, text_of: Callable[[str], str | None]) -> list[str]:
    """A query under both models, in a few lines with texts.

    Args:
        change: the query.
        text_of: a document's text by its id; None where it is not at hand.
    """
    lines = [
        f"{one_line(change.query)!r}: nDCG@10 {change.base_ndcg:.2f} → {change.ndcg:.2f}, "
        f"first answer at {_rank(change.base_rank)} → {_rank(change.rank)}"
    ]
    if change.relevant_ids:
        lines.append(f"  answer      {_document(change.relevant_ids[0], text_of)}")
    if change.base_top_id is not None and change.base_top_id not in change.relevant_ids:
        lines.append(f"  base's top  {_document(change.base_top_id, text_of)}")
    if change.top_id is not None and change.top_id not in change.relevant_ids:
        lines.append(f"  its top     {_document(change.top_id, text_of)}")
    return lines


def _claim(conclusion: Conclusion, smallest: float) -> str:
    model, base = conclusion.measured.model, conclusion.measured.base
    if conclusion.verdict is Verdict.EQUAL:
        return f"no difference that matters between {model} and {base}"
    if conclusion.verdict is not Verdict.UNDECIDED:
        return f"{model} is {conclusion.verdict.value} than {base}"
    said = f"not enough queries to tell {model} from {base}"
    if conclusion.queries_needed is None:
        return said
    margin = f"{100 * smallest:g} point" + ("" if smallest == 0.01 else "s")
    return f"{said}; to be sure within {margin} takes about {rough(conclusion.queries_needed):,}"


def rough(count: int) -> int:
    """Two significant digits: it is an estimate."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return round(count / step) * step


def _rank(rank: int | None) -> str:
    return f"rank {rank}" if rank is not None else "no rank"


def _document(key: str, text_of: Callable[[str], str | None]) -> str:
    text = text_of(key)
    name = one_line(key, 60)
    return f"{name}: {one_line(text, _EXCERPT)}" if text is not None else name
