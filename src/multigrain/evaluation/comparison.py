"""A whole comparison: of results that are there already, or of models that are scored for it; its table and values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from multigrain.display.progress import Progress
from multigrain.display.tables import Table
from multigrain.encoders.facts import models_alike
from multigrain.errors import EvaluationError
from multigrain.evaluation.choice import plain_rivals
from multigrain.evaluation.deployment import plain_reranking, reranking_lines
from multigrain.evaluation.described import describe_conclusion, plain_conclusion
from multigrain.evaluation.enough import needed_words
from multigrain.evaluation.metrics import metric_title
from multigrain.evaluation.per_query import QueryRow, write_per_query
from multigrain.evaluation.query_changes import (
    QueryChanges,
    RowTable,
    clusters_of,
    pair_queries,
    rows_by_query,
    scores_of,
    summarise_changes,
)
from multigrain.evaluation.query_kinds import query_kinds, slice_lines, slice_sets
from multigrain.evaluation.results import (
    EvaluationResults,
    ModelScores,
    SetResult,
    plain_set,
    plain_slice,
    summarise_similarity,
    unselected_results,
)
from multigrain.evaluation.sets.sts import Floats, SimilaritySet
from multigrain.evaluation.settings import SMALLEST_DIFFERENCE, CompareSettings, SizeSettings
from multigrain.evaluation.significance import PairedDifference, compare_paired
from multigrain.evaluation.stored import (
    COMPARISON_FILE,
    PER_QUERY_FILE,
    RERANKED_FILE,
    SIMILARITIES_FILE,
    StoredResults,
    open_results,
    write_similarities,
)
from multigrain.evaluation.vector_sizes import plain_table, size_lines
from multigrain.evaluation.verdict import Conclusion, Forgetting, conclude, conclusion_on, judge_forgetting
from multigrain.storage.files import atomic_write

if TYPE_CHECKING:  # it loads torch and MTEB, which comparing stored results does not need
    from multigrain.encoders.models import Encoding, ModelSpec
    from multigrain.evaluation.reranking import Reranker
    from multigrain.evaluation.sets.loading import OpenedSets

_NOTHING: Final = "Nothing to compare: no set was scored for more than one model."
_IN_A_SENTENCE = ("condensed", "judged_at_10")
"""Metrics that are explained where they are told."""


@dataclass(frozen=True)
class Comparison:
    """Results with what is needed to tell them query by query.

    Attributes:
        results: every set with every model's scores and differences from the base.
        smallest: the smallest difference that matters.
        rows: the per-query results behind them.
        texts: set to document id to text, as far as texts are at hand.
        similarity: the similarity sets by name.
        similarities: similarity set to model to its similarity of each pair.
        reranked: the per-query results of two-step search, by pipeline.
    """

    results: EvaluationResults
    smallest: float = SMALLEST_DIFFERENCE
    rows: Sequence[QueryRow] = ()
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    similarity: Mapping[str, SimilaritySet] = field(default_factory=dict)
    similarities: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    reranked: Sequence[QueryRow] = ()

    @property
    def settings(self) -> CompareSettings:
        """How the models were compared."""
        results = self.results
        return CompareSettings(results.bootstrap_samples, results.confidence, self.smallest, results.seed)

    @cached_property
    def conclusions(self) -> tuple[Conclusion, ...]:
        """One for each set and model, in order; all of them concluded together."""
        results = self.results
        concluded = conclude(results.sets, base=results.base, confidence=results.confidence, smallest=self.smallest)
        changes = ((conclusion, self.changes(conclusion, 0)) for conclusion in concluded)
        return tuple(
            conclusion if moved is None else replace(conclusion, wins=moved.better, losses=moved.worse)
            for conclusion, moved in changes
        )

    @property
    def tasks(self) -> dict[str, dict[str, float]]:
        """MTEB task to model to its main score, for tasks that have one number and no queries."""
        return {
            result.name: {model: scores.score for model, scores in result.models.items()}
            for result in self.results.sets
            if not result.queries
        }

    def changes(self, conclusion: Conclusion, limit: int) -> QueryChanges | None:
        """How the queries behind a conclusion moved; None where queries have no score of their own."""
        name = conclusion.result.name
        base = conclusion.base
        if not {(name, base), (name, conclusion.model)} <= self._by_query.keys():
            return None
        changes = pair_queries(self._by_query, set_name=name, base=base, model=conclusion.model)
        return summarise_changes(changes, limit=limit)

    @property
    def forgetting(self) -> list[Forgetting]:
        """Every other model on every forgetting set."""
        return judge_forgetting(self.results, self.results.models)

    @cached_property
    def _by_query(self) -> RowTable:
        return rows_by_query(self.rows)

    def __str__(self) -> str:
        return "\n".join(sentences(self)) or _NOTHING

    def _repr_html_(self) -> str:
        rows = [
            [
                f"{conclusion.result.name}: {conclusion.model}",
                f"{conclusion.result.queries:,}",
                f"{conclusion.base_score:.3f} → {conclusion.score:.3f}",
                f"{100 * conclusion.difference.mean:+.1f} "
                f"[{100 * conclusion.difference.low:+.1f}, {100 * conclusion.difference.high:+.1f}]",
                f"{conclusion.adjusted_p:.2g}",
                conclusion.verdict.value,
            ]
            for conclusion in self.conclusions
        ]
        columns = ["set: model", "queries", "base → model", "points [interval]", "p", "verdict"]
        title = f"Compared with {self.results.base}" if rows else "Comparison"
        return Table(title, columns, rows, list(sentences(self)) or [_NOTHING])._repr_html_()


def sentences(comparison: Comparison) -> Iterator[str]:
    """What it comes to: a sentence for each conclusion, in their order, then one for each task."""
    for conclusion in comparison.conclusions:
        yield describe_conclusion(conclusion, comparison.settings)
    for task, scores in comparison.tasks.items():
        shown = ", ".join(f"{model} {score:.3f}" for model, score in scores.items())
        yield f"{task} (MTEB's score, one number without an interval): {shown}."


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
    yield from slice_lines(comparison.results)
    for table in comparison.results.vector_sizes:
        yield ""
        yield from size_lines(table)
    if comparison.results.reranking:
        yield ""
        yield from reranking_lines(comparison.results)


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
    queries = " ".join(filter(None, (f"{result.queries:,} {result.unit}", result.cluster_words)))
    parts = [queries] if result.queries else []
    return ", ".join([*parts, f"{result.documents:,} documents"] if result.documents else parts)


def _notes(comparison: Comparison) -> Iterator[str]:
    settings, base = comparison.settings, comparison.results.base
    yield from fact_lines(comparison.results)
    if comparison.conclusions:
        percent, alpha = f"{100 * settings.confidence:g}%", f"{1 - settings.confidence:.2g}"
        yield (
            f"Differences from {base} in points (hundredths), with paired {percent} intervals; "
            f"* the interval stays clear of zero, and p < {alpha} by a paired randomisation test, Holm-corrected over "
            "the table."
        )
    for conclusion in comparison.conclusions:
        if conclusion.queries_needed is not None:
            yield (
                f"{conclusion.result.name}: not enough queries to tell {conclusion.model} from {conclusion.base}; "
                f"{needed_words(conclusion, confidence=settings.confidence, smallest=settings.smallest)}."
            )
    for result in comparison.results.sets:
        yield from (f"{result.name}: {note}." for note in result.remarks)
        if result.evidence == "written":
            yield (
                f"{result.name}: {result.provenance}. A language model wrote its queries; it proves less than "
                "people's would."
            )
        if further := [name for name in result.metric_names if name not in _IN_A_SENTENCE]:
            figures = (f"{metric_title(name)} {_by_model(result, name)}" for name in further)
            yield f"{result.name}: {'; '.join(figures)}."
        yield from _unjudged(result)


def fact_lines(results: EvaluationResults) -> Iterator[str]:
    """How each model was used; those that were used in the same way share a line."""
    for models, facts in models_alike(results.facts).items():
        yield f"{models}: {facts}."


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


def compare_stored(path: Path, *, base: str, smallest: float = SMALLEST_DIFFERENCE, **resampling: Any) -> Comparison:
    """Compare the models of a run directory, or of a results folder.

    What was compared when the results were written stands as it was written; another base or other settings resample.

    Args:
        path: a run directory that was evaluated, or a folder with per_query.parquet.
        base: the model that the others are compared with.
        smallest: the smallest difference that matters.
        resampling: samples, confidence or seed, where they differ from those of the stored results.

    Raises:
        EvaluationError: there are no results, or none of the base model.
    """
    stored = open_results(path)
    results = stored.results
    written = CompareSettings(results.bootstrap_samples, results.confidence, smallest, results.seed)
    settings = replace(written, **resampling)
    if base != results.base or settings != written or not results.sets:
        results = _compared_again(stored, base, settings)
    texts = dict.fromkeys(_searched(stored.rows, stored.texts), stored.texts)
    return Comparison(results, smallest, stored.rows, texts, stored.similarity, stored.similarities)


def compare_models(
    models: Sequence[ModelSpec],
    sets: OpenedSets,
    *,
    encoding: Encoding,
    settings: CompareSettings,
    forgetting_threshold: float = 0.01,
    progress: Progress | None = None,
    vector_sizes: SizeSettings | None = None,
    rerankers: Sequence[Reranker] = (),
    depths: Sequence[int] = (),
) -> Comparison:
    """Score models on sets and compare them with the first of them.

    Args:
        models: the base first.
        sets: what to score on.
        encoding: how models are loaded and texts encoded.
        settings: how to compare.
        forgetting_threshold: what a model may lose on a forgetting set, on a scale of 0 to 1.
        progress: who is told.
        vector_sizes: which smaller vectors are tried; None for none.
        rerankers: what sorts again what the models find on retrieval sets.
        depths: how many documents of each query are sorted again.

    Raises:
        EvaluationError: see `score_models`; or every length is more than a model gives.
        ModelError: a model cannot be loaded, or needs remote code.
    """
    from multigrain.evaluation.rerank_models import rerank_models
    from multigrain.evaluation.scoring import score_models

    sizes = None if vector_sizes is None else (vector_sizes, settings)
    scored = score_models(models, sets, encoding, progress=progress, vector_sizes=sizes)
    names = [model.name for model in models]
    parts = [(each, query_kinds(each), scored.scores[each.name]) for each in scored.sets.values() if each.kinds]
    tables, reranked = rerank_models(models, sets, encoding, rerankers, depths, settings, progress=progress)
    return Comparison(
        results=unselected_results(
            names,
            scored.results(settings, base=names[0]),
            settings,
            forgetting_threshold=forgetting_threshold,
            facts=scored.facts,
            vector_sizes=scored.vector_sizes,
            slices=slice_sets(parts, settings, base=names[0]),
            reranking=tables,
        ),
        smallest=settings.smallest,
        rows=list(scored.rows()),
        texts={name: evaluation_set.corpus for name, evaluation_set in scored.sets.items()},
        similarity=scored.similarity,
        similarities=scored.similarities,
        reranked=reranked,
    )


def _compared_again(stored: StoredResults, base: str, settings: CompareSettings) -> EvaluationResults:
    """Every set that holds the base model, its differences made anew from what each query and pair came to."""
    rivals = {rival.name for rival in stored.results.rivals} - {base}  # not the run's: no part of its family
    table = rows_by_query([row for row in stored.rows if row.model not in rivals])
    models = dict.fromkeys(model for _, model in table)
    for similarities in stored.similarities.values():
        models |= dict.fromkeys(similarities)
    if base not in models:
        raise EvaluationError(f"no model {base!r} in these results; they hold {', '.join(models) or 'none'}")
    stored_sets = {result.name: result for result in stored.results.sets}
    sets = []
    for name in dict.fromkeys(name for name, model in table if model == base):
        role, provenance = stored.about.get(name, (None, None))
        by_model = {model: rows for (set_name, model), rows in table.items() if set_name == name}
        scores = {model: float(np.mean([row.ndcg_at_10 for row in rows.values()])) for model, rows in by_model.items()}
        result = stored_sets.get(name) or SetResult(
            name,
            role,
            provenance,
            len(by_model[base]),
            None,
            {model: ModelScores(scores[model]) for model in scores},
            {},
        )
        # What is never judged is not resampled.
        delta = {} if result.role == "validation" else _differences(table, name, base, settings)
        models_there = {base: ModelScores(scores[base]), **result.models}  # a rival is not among those of the run
        sets.append(replace(result, models=models_there, delta=delta))
    for name, similarity_set in stored.similarity.items():
        if base in stored.similarities[name]:
            sets.append(summarise_similarity(similarity_set, stored.similarities[name], settings, base=base))
    names = dict.fromkeys([base, *(model for result in sets for model in result.models)])
    return unselected_results(
        names,
        sets,
        settings,
        forgetting_threshold=stored.results.forgetting_threshold,
        facts=stored.results.facts,
        vector_sizes=stored.results.vector_sizes,
        reranking=stored.results.reranking,
    )


def _differences(table: RowTable, set_name: str, base: str, settings: CompareSettings) -> dict[str, PairedDifference]:
    return {
        model: compare_paired(
            *scores_of(changes := pair_queries(table, set_name=set_name, base=base, model=model)),
            settings,
            clusters_of(changes),
        )
        for name, model in table
        if name == set_name and model != base
    }


def _searched(rows: Sequence[QueryRow], texts: Mapping[str, str]) -> list[str]:
    """The sets that search these documents: those that name no other. Sets from elsewhere may use the same ids."""
    elsewhere = {row.set for row in rows if not all(key in texts for key in (*row.relevant_ids, *row.top_ids))}
    return [name for name in dict.fromkeys(row.set for row in rows) if name not in elsewhere]


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values, as `--json` prints them."""
    return {
        "settings": asdict(comparison.settings),
        "sets": {
            conclusion.result.name: {"role": conclusion.result.role, "label": conclusion.result.provenance}
            for conclusion in comparison.conclusions
        },
        "comparisons": [plain_conclusion(conclusion) for conclusion in comparison.conclusions],
        "tasks": comparison.tasks,
        "models": list(comparison.results.models),
        "facts": {name: asdict(facts) for name, facts in comparison.results.facts.items()},
        "forgetting_threshold": comparison.results.forgetting_threshold,
        **plain_rivals(comparison.results, comparison.conclusions),
        "scores": [plain_set(result) for result in comparison.results.sets],
        "slices": list(map(plain_slice, comparison.results.slices)),
        "vector_sizes": list(map(plain_table, comparison.results.vector_sizes)),
        "reranking": plain_reranking(comparison.results),
        "forgetting": [
            {
                "set": judged.result.name,
                "model": judged.model,
                "verdict": judged.verdict,
                "change": judged.change,
                "sentence": judged.sentence,
            }
            for judged in comparison.forgetting
        ],
    }


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write what `compare FOLDER` needs; of two-step search every pipeline's queries too, in a file of their own."""
    write_per_query(folder / PER_QUERY_FILE, comparison.rows)
    if comparison.reranked:
        write_per_query(folder / RERANKED_FILE, comparison.reranked)
    write_similarities(folder / SIMILARITIES_FILE, comparison.similarity, comparison.similarities)
    values = comparison_values(comparison)
    atomic_write(folder / COMPARISON_FILE, json.dumps(values, indent=2, ensure_ascii=False))
