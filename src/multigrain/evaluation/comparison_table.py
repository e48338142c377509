"""Any number of models on any number of sets in one Markdown table, with the notes that belong to it."""

from __future__ import annotations

from collections.abc import Iterator

from multigrain.evaluation.comparison import Comparison
from multigrain.evaluation.metrics import metric_title
from multigrain.evaluation.results import SetResult
from multigrain.evaluation.sets.retrieval_set import SYNTHETIC_ESTIMATE
from multigrain.evaluation.verdict import conclusion_on

_IN_A_SENTENCE = ("condensed", "judged_at_10")
"""Metrics that are explained where they are told."""


def table_lines(comparison: Comparison) -> Iterator[str]:
    """A Markdown table, readable as it is, and its notes."""
    models = comparison.results.models
    rows = [["set", "metric", "size", *models]]
    rows += [
        [
            f"{result.name}{' (forgetting)' if result.role == 'forgetting' else ''}",
            result.metric,
            _size(result),
            *(_cell(comparison, result, model) for model in models),
        ]
        for result in comparison.results.sets
    ]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for number, row in enumerate(cells):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    yield ""
    yield from _notes(comparison)
    yield from (f"{judged.sentence}." for judged in comparison.forgetting)


def _cell(comparison: Comparison, result: SetResult, model: str) -> str:
    if model not in result.models:
        return "–"
    score = f"{result.models[model].score:.3f}"
    if model not in result.delta:
        return score
    delta, conclusion = result.delta[model], conclusion_on(comparison.conclusions, result.name, model)
    star = "*" if conclusion is not None and conclusion.is_claimed else ""
    return f"{score} {100 * delta.mean:+.1f}{star} [{100 * delta.low:+.1f}, {100 * delta.high:+.1f}]"


def _size(result: SetResult) -> str:
    parts = [f"{result.queries:,} {result.unit}"] if result.queries else []
    return ", ".join([*parts, f"{result.documents:,} documents"] if result.documents else parts)


def _notes(comparison: Comparison) -> Iterator[str]:
    settings, base = comparison.settings, comparison.results.base
    if comparison.conclusions:
        percent, alpha = f"{100 * settings.confidence:g}%", f"{1 - settings.confidence:.2g}"
        yield (
            f"Differences from {base} in points (hundredths), with paired {percent} bootstrap intervals; "
            f"* the interval stays clear of zero, and p < {alpha} by a paired randomisation test, Holm-corrected over "
            "the table."
        )
    for conclusion in comparison.conclusions:
        if conclusion.queries_needed is not None:
            yield (
                f"{conclusion.result.name}: not enough queries to tell {conclusion.model} from {conclusion.base}; "
                f"about {conclusion.queries_needed:,} would do."
            )
    for result in comparison.results.sets:
        if SYNTHETIC_ESTIMATE in (result.provenance or ""):
            yield (
                f"{result.name}: {result.provenance}. A language model wrote its queries; it proves less than "
                "people's would."
            )
        yield from _further(result)
        yield from _unjudged(result)


def _further(result: SetResult) -> Iterator[str]:
    parts = [
        f"{metric_title(name)} {_by_model(result, name)}" for name in result.metric_names if name not in _IN_A_SENTENCE
    ]
    if parts:
        yield f"{result.name}: {'; '.join(parts)}."


def _unjudged(result: SetResult) -> Iterator[str]:
    judged = [scores.metrics.get("judged_at_10", 1.0) for scores in result.models.values()]
    if min(judged) < 1:
        yield (
            f"{result.name}: of the first ten documents that each model found, somebody judged: "
            f"{_by_model(result, 'judged_at_10', '.0%')}. The others count as not relevant; leaving them out gives "
            f"nDCG@10 {_by_model(result, 'condensed')}."
        )


def _by_model(result: SetResult, metric: str, form: str = ".3f") -> str:
    return ", ".join(
        f"{model} {scores.metrics[metric]:{form}}"
        for model, scores in result.models.items()
        if metric in scores.metrics
    )
