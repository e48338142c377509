"""Comparisons in words: what a person reads in the terminal and pastes into a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from multigrain.display.text import one_line
from multigrain.evaluation.query_changes import QueryChange
from multigrain.evaluation.results import QueryRow
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.verdict import Conclusion, Verdict, points_allowed, rough

_EXCERPT: Final = 160


def describe_conclusion(conclusion: Conclusion, settings: CompareSettings) -> str:
    """One sentence: who is better, by how much, how surely.

    Args:
        conclusion: what to say.
        settings: what it was concluded with.
    """
    result, difference = conclusion.result, conclusion.difference
    about = ", ".join(part for part in (result.provenance, f"{result.queries:,} {result.unit}") if part)
    figures = (
        f"{result.metric} {conclusion.base_score:.3f} → {conclusion.score:.3f} ({100 * difference.mean:+.1f} points, "
        f"{100 * settings.confidence:g}% interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
    )
    correction = f", corrected for {conclusion.compared} comparisons" if conclusion.compared > 1 else ""
    parts = [figures, f"p = {conclusion.adjusted_p:.2g}{correction}"]
    if conclusion.wins is not None and conclusion.losses is not None:
        ties = result.queries - conclusion.wins - conclusion.losses
        parts.append(f"wins {conclusion.wins}, losses {conclusion.losses}, ties {ties}")
    return f"{result.name} ({about}): {_claim(conclusion, settings.smallest)}. {'; '.join(parts)}."


def describe_change(change: QueryChange, text_of: Callable[[str], str | None]) -> list[str]:
    """A query under both models, in a few lines with texts.

    Args:
        change: the query.
        text_of: a document's text by its id; None where it is not at hand.
    """
    before, after = change.before, change.after
    lines = [
        f"{one_line(before.query)!r}: nDCG@10 {before.ndcg_at_10:.2f} → {after.ndcg_at_10:.2f}, "
        f"first answer at {_rank(before)} → {_rank(after)}"
    ]
    if before.relevant_ids:
        lines.append(f"  answer      {_document(before.relevant_ids[0], text_of)}")
    for title, row in (("base's top", before), ("its top", after)):
        if row.top_ids and row.top_ids[0] not in before.relevant_ids:
            lines.append(f"  {title:11} {_document(row.top_ids[0], text_of)}")
    return lines


def _claim(conclusion: Conclusion, smallest: float) -> str:
    model, base = conclusion.model, conclusion.base
    if conclusion.verdict is Verdict.EQUAL:
        return f"no difference that matters between {model} and {base}"
    if conclusion.is_claimed:
        return f"{model} is {conclusion.verdict.value} than {base}"
    words = f"not enough queries to tell {model} from {base}"
    if conclusion.queries_needed is None:
        return words
    return f"{words}; to be sure within {points_allowed(smallest)} takes about {rough(conclusion.queries_needed):,}"


def _rank(row: QueryRow) -> str:
    rank = row.rank_of_first_relevant
    return f"rank {rank}" if rank is not None else "no rank"


def _document(key: str, text_of: Callable[[str], str | None]) -> str:
    text = text_of(key)
    name = one_line(key, 60)
    return f"{name}: {one_line(text, _EXCERPT)}" if text is not None else name
