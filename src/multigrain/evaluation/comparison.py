"""A whole comparison: of results that are there already, or of models that are scored for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from multigrain.display.progress import Progress
from multigrain.display.tables import Table
from multigrain.evaluation.compare import (
    CompareSettings,
    Conclusion,
    SetInfo,
    conclude,
    measure_rows,
    measure_similarities,
    plain,
)
from multigrain.evaluation.messages import describe_conclusion
from multigrain.evaluation.results import QueryRow, write_per_query
from multigrain.evaluation.similarity_table import write_similarities
from multigrain.evaluation.stored import COMPARISON_FILE, PER_QUERY_FILE, SIMILARITIES_FILE, open_results
from multigrain.storage.files import atomic_write

if TYPE_CHECKING:  # it loads torch and MTEB, which comparing stored results does not need
    from multigrain.encoders.models import Encoding, ModelSpec
    from multigrain.evaluation.scoring import Scored
    from multigrain.evaluation.sets.loading import OpenedSets

__all__ = ["Comparison", "compare_models", "compare_stored", "sentences", "summarise", "write_comparison"]

_NOTHING: Final = "Nothing to compare: no set was scored for more than one model."


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        settings: how it was made.
        conclusions: one for each set and model, in order.
        rows: the per-query results behind them.
        texts: set to document id to text, as far as texts are at hand.
        tasks: MTEB task to model to its main score, for tasks that have one number and no queries.
        scored: all sets with all models' scores, where models were scored for this comparison.
    """

    settings: CompareSettings
    conclusions: list[Conclusion]
    rows: list[QueryRow]
    texts: Mapping[str, Mapping[str, str]]
    tasks: Mapping[str, Mapping[str, float]]
    scored: Scored | None = None

    def __str__(self) -> str:
        return "\n".join(sentences(self)) or _NOTHING

    def _repr_html_(self) -> str:
        rows = [
            [
                f"{each.measured.set}: {each.measured.model}",
                f"{each.measured.queries:,}",
                f"{each.measured.base_score:.3f} → {each.measured.score:.3f}",
                f"{100 * each.measured.difference.mean:+.1f} "
                f"[{100 * each.measured.difference.low:+.1f}, {100 * each.measured.difference.high:+.1f}]",
                f"{each.adjusted_p:.2g}",
                each.verdict.value,
            ]
            for each in self.conclusions
        ]
        columns = ["set: model", "queries", "base → model", "points [interval]", "p", "verdict"]
        title = f"Compared with {self.conclusions[0].measured.base}" if rows else "Comparison"
        return Table(title, columns, rows, list(sentences(self)) or [_NOTHING])._repr_html_()


def sentences(comparison: Comparison) -> Iterator[str]:
    """What it comes to: a sentence for each conclusion, in their order, then one for each task."""
    for each in comparison.conclusions:
        yield describe_conclusion(each, compared=len(comparison.conclusions), settings=comparison.settings)
    for task, scores in comparison.tasks.items():
        shown = ", ".join(f"{model} {score:.3f}" for model, score in scores.items())
        yield f"{task} (MTEB's score, one number without an interval): {shown}."


def compare_stored(path: Path, *, base: str, settings: CompareSettings) -> Comparison:
    """Compare the models of a run directory, or of a results folder.

    Args:
        path: a run directory that was evaluated, or a folder with per_query.parquet.
        base: the model that the others are compared with.
        settings: how to compare.

    Raises:
        EvaluationError: there are no results, or none of the base model.
    """
    stored = open_results(path)
    measured = measure_rows(stored.rows, base=base, sets=stored.sets, settings=settings) if stored.rows else []
    for name, each in stored.similarity.items():
        if base in stored.similarities[name]:
            measured += measure_similarities(each, stored.similarities[name], base=base, settings=settings)
    texts = dict.fromkeys(_searched(stored.rows, stored.texts), stored.texts)
    return Comparison(settings, conclude(measured, settings), stored.rows, texts, {})


def compare_models(
    models: Sequence[ModelSpec],
    sets: OpenedSets,
    *,
    encoding: Encoding,
    settings: CompareSettings,
    progress: Progress | None = None,
) -> Comparison:
    """Score models on sets and compare them with the first of them.

    Raises:
        EvaluationError: see `score_models`.
        ModelError: a model cannot be loaded, or needs remote code.
    """
    from multigrain.evaluation.models import score_models

    found = score_models(models, sets, encoding, progress=progress)
    base = models[0].name
    infos = {name: SetInfo(each.role, each.label) for name, each in found.sets.items()}
    rows = list(found.rows())
    measured = measure_rows(rows, base=base, sets=infos, settings=settings) if base in _models(rows) else []
    for name, each in found.similarity.items():
        if base in found.similarities[name]:
            measured += measure_similarities(each, found.similarities[name], base=base, settings=settings)
    return Comparison(
        settings=settings,
        conclusions=conclude(measured, settings),
        rows=rows,
        texts={name: each.corpus for name, each in found.sets.items()},
        tasks={
            task: {model: score.score for model, score in by_model.items()} for task, by_model in found.tasks.items()
        },
        scored=found,
    )


def _models(rows: Sequence[QueryRow]) -> set[str]:
    return {row.model for row in rows}


def _searched(rows: Sequence[QueryRow], texts: Mapping[str, str]) -> list[str]:
    """The sets that search these documents: those that name no other. Sets from elsewhere may use the same ids."""
    elsewhere = {row.set for row in rows if not all(key in texts for key in (*row.relevant_ids, *row.top_ids))}
    return [name for name in dict.fromkeys(row.set for row in rows) if name not in elsewhere]


def summarise(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values, as `--json` prints them."""
    known = {each.measured.set: each.measured for each in comparison.conclusions}
    return {
        "settings": asdict(comparison.settings),
        "sets": {name: {"role": each.role, "label": each.label} for name, each in known.items()},
        "comparisons": [plain(each) for each in comparison.conclusions],
        "tasks": {task: dict(scores) for task, scores in comparison.tasks.items()},
    }


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write comparison.json, per_query.parquet and similarities.parquet: what `compare FOLDER` needs."""
    write_per_query(folder / PER_QUERY_FILE, comparison.rows)
    if comparison.scored is not None:
        write_similarities(folder / SIMILARITIES_FILE, comparison.scored.similarity, comparison.scored.similarities)
    atomic_write(folder / COMPARISON_FILE, json.dumps(summarise(comparison), indent=2, ensure_ascii=False))
