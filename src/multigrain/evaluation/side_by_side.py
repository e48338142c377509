"""Any number of models on any number of sets in one table, with what may be said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from multigrain.display.tables import markdown_table
from multigrain.evaluation.compare import CompareSettings, Conclusion, Verdict
from multigrain.evaluation.comparison import Comparison, summarise
from multigrain.evaluation.forgetting import Forgetting, judge_forgetting
from multigrain.evaluation.results import SetResult
from multigrain.evaluation.sets.retrieval_set import SYNTHETIC_ESTIMATE

__all__ = ["SideBySide", "side_by_side", "table_lines", "table_values"]

_CLAIMED: Final = (Verdict.BETTER, Verdict.WORSE)


@dataclass(frozen=True)
class SideBySide:
    """A table, ready to print.

    Attributes:
        models: the columns, the base first.
        sets: the rows.
        comparison: what the figures were compared with.
        forgetting: every other model on every forgetting set.
    """

    models: tuple[str, ...]
    sets: tuple[SetResult, ...]
    comparison: Comparison
    forgetting: tuple[Forgetting, ...]


def side_by_side(comparison: Comparison, *, models: Sequence[str], threshold: float) -> SideBySide:
    """Put a comparison of models that were just scored into a table.

    Args:
        comparison: from `compare_models`.
        models: all models, the base first.
        threshold: what a model may lose on a forgetting set.
    """
    if comparison.scored is None:
        raise ValueError("only models that were scored for it stand side by side")
    settings, base = comparison.settings, models[0]
    sets = tuple(
        comparison.scored.results(
            base=base, samples=settings.samples, confidence=settings.confidence, seed=settings.seed
        )
    )
    judged = [each for name in models for each in judge_forgetting(sets, model=name, threshold=threshold, base=base)]
    return SideBySide(tuple(models), sets, comparison, tuple(judged))


def table_values(table: SideBySide) -> dict[str, Any]:
    """The table as plain values, as `--json` prints them."""
    return {
        "models": list(table.models),
        "scores": [asdict(each) for each in table.sets],
        "forgetting": [asdict(each) for each in table.forgetting],
        **summarise(table.comparison),
    }


def table_lines(table: SideBySide) -> Iterator[str]:
    """A Markdown table, readable as it is, and the notes that belong to it."""
    claimed = {
        (each.measured.set, each.measured.model) for each in table.comparison.conclusions if each.verdict in _CLAIMED
    }
    rows = [["set", "metric", "size", *table.models]]
    rows += [
        [
            f"{each.name}{' (forgetting)' if each.role == 'forgetting' else ''}",
            each.metric,
            _size(each),
            *(_cell(each, name, (each.name, name) in claimed) for name in table.models),
        ]
        for each in table.sets
    ]
    yield from markdown_table(rows)
    yield ""
    yield from _notes(table, table.comparison.settings)


def _cell(result: SetResult, name: str, is_claimed: bool) -> str:
    if name not in result.models:
        return "–"
    scores, delta = result.models[name], result.delta.get(name)
    if delta is None:
        return f"{scores.score:.3f}"
    return (
        f"{scores.score:.3f} {100 * delta.mean:+.1f}{'*' if is_claimed else ''} "
        f"[{100 * delta.low:+.1f}, {100 * delta.high:+.1f}]"
    )


def _size(result: SetResult) -> str:
    parts = [f"{result.queries:,} {result.unit}"] if result.queries else []
    return ", ".join([*parts, f"{result.documents:,} documents"] if result.documents else parts)


def _notes(table: SideBySide, settings: CompareSettings) -> Iterator[str]:
    if any(each.delta for each in table.sets):
        percent, alpha = f"{100 * settings.confidence:g}%", f"{1 - settings.confidence:.2g}"
        yield (
            f"Differences from {table.models[0]} in points (hundredths), with paired {percent} bootstrap intervals; "
            f"* p < {alpha} by a paired randomisation test, Holm-corrected over the table."
        )
    yield from _undecided(table.comparison.conclusions)
    for each in table.sets:
        if SYNTHETIC_ESTIMATE in each.label:
            yield f"{each.name}: {each.label}. A language model wrote its queries; it proves less than people's would."
        yield from _further(each)
        yield from _unjudged(each)
    yield from (f"{each.sentence}." for each in table.forgetting)


def _undecided(conclusions: Sequence[Conclusion]) -> Iterator[str]:
    for each in conclusions:
        if each.verdict is Verdict.UNDECIDED and each.queries_needed is not None:
            found = each.measured
            yield (
                f"{found.set}: not enough queries to tell {found.model} from {found.base}; "
                f"about {each.queries_needed:,} would do."
            )


def _further(result: SetResult) -> Iterator[str]:
    parts = []
    for metric, key in (("recall@10", "recall_at_10"), ("recall@100", "recall_at_100"), ("MRR@10", "mrr_at_10")):
        found = {name: getattr(scores, key) for name, scores in result.models.items()}
        known = {name: value for name, value in found.items() if value is not None}
        if known:
            parts.append(f"{metric} {', '.join(f'{name} {value:.3f}' for name, value in known.items())}")
    if parts:
        yield f"{result.name}: {'; '.join(parts)}."


def _unjudged(result: SetResult) -> Iterator[str]:
    judged: Mapping[str, float] = {
        name: scores.judged_at_10 for name, scores in result.models.items() if scores.judged_at_10 is not None
    }
    if not judged or min(judged.values()) >= 1:
        return
    shares = ", ".join(f"{name} {share:.0%}" for name, share in judged.items())
    condensed = ", ".join(f"{name} {scores.condensed or 0:.3f}" for name, scores in result.models.items())
    yield (
        f"{result.name}: of the first ten documents that each model found, somebody judged: {shares}. The others "
        f"count as not relevant; leaving them out gives nDCG@10 {condensed}."
    )
