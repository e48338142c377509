"""Stage 5: base and candidates side by side; validation queries choose, test queries tell."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sentence_transformers import SentenceTransformer

from multigrain.errors import EvaluationError
from multigrain.evaluation.embedding_cache import CachedEncoder
from multigrain.evaluation.encoders import SentenceTransformerEncoder, model_fingerprint
from multigrain.evaluation.loading import load_evaluation_set
from multigrain.evaluation.results import (
    BASE,
    CHOSEN_BY,
    EvaluationResults,
    SetResult,
    choose,
    query_rows,
    summarise_set,
    write_per_query,
    write_results,
)
from multigrain.evaluation.retrieval import SetScores, evaluate_retrieval
from multigrain.evaluation.sets import (
    HUMAN_TITLES,
    SYNTHETIC_ESTIMATE,
    EvaluationSet,
    Role,
    from_documents,
    from_queries,
)
from multigrain.model.anchors import anchors
from multigrain.model.encoder import load, pooling_name
from multigrain.pipeline.context import RunContext, complete_stage
from multigrain.pipeline.identity import candidate_identity, candidate_stage_name, require_current, results_identity
from multigrain.pipeline.reference import base_model, encoding_precision
from multigrain.records import Document, Split
from multigrain.rundir import StageManifest, atomic_directory, atomic_write
from multigrain.sources.store import read_document_table
from multigrain.synthesis.heldout import read_heldout_queries

__all__ = ["domain_sets", "evaluation_stage"]

_ANCHOR_TEXTS = 6
_ANCHOR_CHARACTERS = 300


def evaluation_stage(context: RunContext) -> StageManifest:
    """Score the base model and every candidate, choose one, and copy it to `model/`."""
    names = list(context.config.training.candidates)
    for name in names:
        identity = candidate_identity(context, name)
        require_current(context, candidate_stage_name(name), identity, "multigrain train")
    return complete_stage(context, "results", results_identity(context), lambda: _evaluate(context, names))


def _evaluate(context: RunContext, names: Sequence[str]) -> dict[str, Any]:
    run = context.run
    documents = read_document_table(run.documents_path)
    domain = list(domain_sets(context, documents))
    others = [load_evaluation_set(each, seed=context.config.seed) for each in context.config.evaluation.sets]
    if not domain and not others:
        raise EvaluationError(
            "nothing to evaluate on: set evaluation.queries to titles or synthetic, or name sets under evaluation.sets"
        )
    encoders: dict[str, CachedEncoder] = {}
    scores: dict[str, dict[str, SetScores]] = {each.name: {} for each in [*domain, *others]}

    def score(name: str, sets: Sequence[EvaluationSet]) -> None:
        model = _model(context, name)
        if name not in encoders:
            encoder = SentenceTransformerEncoder(model, batch_size=context.config.evaluation.batch_size)
            encoders[name] = CachedEncoder(encoder, model_fingerprint(model))
        with (
            encoding_precision(context.config, model),
            context.progress.task(f"Evaluating {name}", len(sets)) as task,
        ):
            for each in sets:
                scores[each.name][name] = evaluate_retrieval(encoders[name], each)
                task.advance(note=f"{each.name} {scores[each.name][name].ndcg_at_10:.3f}")

    for name in (BASE, *names):
        score(name, domain)
    chosen = _choose(context, domain, scores, names)
    for name in (BASE, chosen):
        score(name, others)
    for encoder in encoders.values():
        encoder.close()
    sets = [*domain, *others]
    results = _results(context, sets, scores, names, chosen)
    _write(context, results, sets, scores)
    return _headline(context, results)


def domain_sets(context: RunContext, documents: Sequence[Document]) -> Iterator[EvaluationSet]:
    """Held-out queries over all of the run's documents."""
    if context.config.evaluation.queries == "none":
        return
    written = read_heldout_queries(context.run.heldout_queries_path)
    splits: dict[str, tuple[Split, Role]] = {
        "validation": (Split.VALIDATION, "validation"),
        "test": (Split.TEST, "test"),
    }
    for name, (split, role) in splits.items():
        held = [document for document in documents if document.split is split]
        queries = [(document.id, written[document.id]) for document in held if document.id in written]
        if queries:
            yield from_queries(queries, documents, name=name, role=role, label=SYNTHETIC_ESTIMATE)
        elif held:
            yield from_documents(documents, split, documents, name, role, label=HUMAN_TITLES)


def _model(context: RunContext, name: str) -> SentenceTransformer:
    return base_model(context.config) if name == BASE else load(str(context.run.candidate_path(name)))


def _choose(
    context: RunContext, sets: Sequence[EvaluationSet], scores: dict[str, dict[str, SetScores]], names: Sequence[str]
) -> str:
    validation = [scores[each.name] for each in sets if each.role == "validation"]
    if not validation:
        if len(names) > 1:
            raise EvaluationError(
                f"{len(names)} candidates, and no validation queries to choose by: set documents.validation_share "
                "above 0, or train one candidate"
            )
        return names[0]
    chosen = choose({name: validation[0][name].ndcg_at_10 for name in names})
    if validation[0][chosen].ndcg_at_10 <= validation[0][BASE].ndcg_at_10:
        context.progress.say("evaluation: no candidate beats the base model on the validation queries")
    return chosen


def _results(
    context: RunContext,
    sets: Sequence[EvaluationSet],
    scores: dict[str, dict[str, SetScores]],
    names: Sequence[str],
    chosen: str,
) -> EvaluationResults:
    settings = context.config.evaluation
    return EvaluationResults(
        chosen=chosen,
        models=(BASE, *names),
        sets=tuple(
            summarise_set(
                each,
                scores[each.name],
                samples=settings.bootstrap_samples,
                confidence=settings.confidence,
                seed=context.config.seed,
            )
            for each in sets
        ),
        bootstrap_samples=settings.bootstrap_samples,
        confidence=settings.confidence,
        seed=context.config.seed,
        chosen_by=CHOSEN_BY if any(each.role == "validation" for each in sets) else "being the only candidate",
    )


def _write(
    context: RunContext,
    results: EvaluationResults,
    sets: Sequence[EvaluationSet],
    scores: dict[str, dict[str, SetScores]],
) -> None:
    run = context.run
    write_per_query(
        run.results_path / "per_query.parquet",
        [row for each in sets for name, found in scores[each.name].items() for row in query_rows(each, name, found)],
    )
    write_results(run.results_path / "evaluation.json", results)
    _write_anchors(context, results.models[1:], sets)
    with atomic_directory(run.model_path) as folder:
        # Links where the file system has them: the chosen model costs no disk of its own.
        shutil.copytree(run.candidate_path(results.chosen), folder, dirs_exist_ok=True, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _write_anchors(context: RunContext, names: Sequence[str], sets: Sequence[EvaluationSet]) -> None:
    """Anchor tokens of a few texts under the first candidate with ATA pooling, where there is one."""
    path = context.run.results_path / "anchors.json"
    path.unlink(missing_ok=True)  # of other candidates, before this stage was redone
    texts = [text for each in sets[:1] for text in list(each.queries.values())[: _ANCHOR_TEXTS // 2]]
    texts += [
        text[:_ANCHOR_CHARACTERS] for each in sets[:1] for text in list(each.corpus.values())[: _ANCHOR_TEXTS // 2]
    ]
    for name in names:
        model = load(str(context.run.candidate_path(name)))
        if pooling_name(model) == "ata":
            found = [{"model": name, **asdict(each)} for each in anchors(model, texts)]
            atomic_write(path, json.dumps(found, ensure_ascii=False))
            return


def _headline(context: RunContext, results: EvaluationResults) -> dict[str, Any]:
    """The figures that a summary shows: the chosen model against the base on every set."""
    sets: dict[str, SetResult] = {each.name: each for each in results.sets}
    counts: dict[str, Any] = {"chosen": results.chosen}
    for name, each in sets.items():
        delta = each.delta[results.chosen]
        counts[name] = {
            "role": each.role,
            "label": each.label,
            "queries": each.queries,
            BASE: each.models[BASE].ndcg_at_10,
            results.chosen: each.models[results.chosen].ndcg_at_10,
            "delta": {"mean": delta.mean, "low": delta.low, "high": delta.high},
        }
        context.progress.say(
            f"{name} ({each.label}, {each.queries} queries): nDCG@10 {each.models[BASE].ndcg_at_10:.3f} → "
            f"{each.models[results.chosen].ndcg_at_10:.3f} with {results.chosen} "
            f"({100 * delta.mean:+.1f} points [{100 * delta.low:+.1f}, {100 * delta.high:+.1f}])"
        )
    return counts
