"""Stage 5: base and candidates side by side; validation queries choose, test queries tell.

The config's sets of role validation choose, by the mean over sets; where there are none, the run's own validation
queries do.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from sentence_transformers import SentenceTransformer

from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.encoder import SentenceTransformerEncoder, model_fingerprint
from multigrain.encoders.reference import base_model, encoding_precision
from multigrain.errors import EvaluationError
from multigrain.evaluation.results import (
    BASE,
    EvaluationResults,
    choose,
    selection_words,
    write_per_query,
    write_results,
)
from multigrain.evaluation.scoring import Scored, score_model
from multigrain.evaluation.sets.loading import OpenedSets, open_sets
from multigrain.evaluation.sets.retrieval_set import (
    EvaluationSet,
)
from multigrain.evaluation.sets.run_sets import domain_sets
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.stored import PER_QUERY_FILE, RESULTS_FILE, SIMILARITIES_FILE, write_similarities
from multigrain.evaluation.verdict import conclusions_of, judge_forgetting, left_to_gain, recommendation, rough
from multigrain.model.anchors import anchors
from multigrain.model.encoder import load
from multigrain.model.replacing import pooling_name
from multigrain.report.card import needs_multigrain
from multigrain.sources.store import read_document_table
from multigrain.stages.base import Stage
from multigrain.stages.context import RunContext
from multigrain.stages.heldout import check_heldout
from multigrain.stages.preflight import check_selection
from multigrain.storage.files import atomic_directory, atomic_write

_ANCHOR_TEXTS = 6
_ANCHOR_CHARACTERS = 300


def run(context: RunContext, stage: Stage) -> None:
    """Score the base model and every candidate, choose one, and copy it to `model/`."""
    stage.complete(context, lambda: _evaluate(context, list(context.config.training.candidates)))


def _evaluate(context: RunContext, names: Sequence[str]) -> dict[str, Any]:
    check_heldout(context)
    documents = read_document_table(context.run.documents_path)
    domain = OpenedSets(retrieval=tuple(domain_sets(context.config, context.run, documents)))
    others = open_sets(context.config.evaluation.sets, seed=context.config.seed)
    if not domain and not others:
        raise EvaluationError(
            "nothing to evaluate on: set evaluation.queries to titles or synthetic, or name sets under evaluation.sets"
        )
    twice = {each.name for each in domain.retrieval} & {each.name for each in context.config.evaluation.sets}
    if twice:
        raise EvaluationError(f"evaluation.sets: {twice.pop()!r} is what the run's own set is called; rename it")
    encoders: dict[str, CachedEncoder] = {}
    found = Scored()

    def score(name: str, sets: OpenedSets) -> None:
        model = _model(context, name)
        if name not in encoders:
            encoder = SentenceTransformerEncoder(model, batch_size=context.config.evaluation.batch_size)
            encoders[name] = CachedEncoder(encoder, model_fingerprint(model))
        with encoding_precision(context.config, model):
            score_model(
                name,
                model,
                encoders[name],
                sets,
                found,
                progress=context.progress,
                batch_size=context.config.evaluation.batch_size,
            )

    choosing = tuple(each for each in others.retrieval if each.role == "validation")
    for name in (BASE, *names):
        score(name, OpenedSets(retrieval=(*domain.retrieval, *choosing)))
    chosen = _choose(context, found, names)
    others = replace(others, retrieval=tuple(each for each in others.retrieval if each.role != "validation"))
    if others:
        for name in (BASE, chosen):
            score(name, others)
    for encoder in encoders.values():
        encoder.close()
    results = _results(context, found, names, chosen)
    _write(context, results, found)
    return _headline(context, results)


def _model(context: RunContext, name: str) -> SentenceTransformer:
    return base_model(context.config) if name == BASE else _candidate(context, name)


def _candidate(context: RunContext, name: str) -> SentenceTransformer:
    return load(str(context.run.candidate_path(name)), trust_remote_code=context.config.training.trust_remote_code)


def _choose(context: RunContext, found: Scored, names: Sequence[str]) -> str:
    by = _chosen_on(context, found)
    if not by:
        check_selection(context.config, ["evaluation"], none_held=True)
        return names[0]
    scores = {name: fmean(found.scores[each][name].ndcg_at_10 for each in by) for name in names}
    chosen = choose(scores)
    if len(names) > 1:
        listed = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
        context.progress.say(f"{chosen} chosen by {selection_words(by)}: {listed}")
    return chosen


def _chosen_on(context: RunContext, found: Scored) -> list[str]:
    """The names of the sets that choose, as in `validation_sets`."""
    own = [each.name for each in context.config.evaluation.choosing_sets]
    return own or [name for name, each in found.sets.items() if each.role == "validation"]


def _results(context: RunContext, found: Scored, names: Sequence[str], chosen: str) -> EvaluationResults:
    evaluation, by = context.config.evaluation, _chosen_on(context, found)
    settings = CompareSettings(evaluation.bootstrap_samples, evaluation.confidence, seed=context.config.seed)
    return EvaluationResults(
        chosen=chosen,
        models=(BASE, *names),
        sets=tuple(found.results(settings)),
        bootstrap_samples=settings.samples,
        confidence=settings.confidence,
        seed=settings.seed,
        chosen_by=selection_words(by) if by else "being the only candidate",
        forgetting_threshold=evaluation.forgetting_threshold,
        chosen_on=tuple(by),
    )


def _write(context: RunContext, results: EvaluationResults, found: Scored) -> None:
    run = context.run
    write_per_query(run.results_path / PER_QUERY_FILE, found.rows())
    write_similarities(run.results_path / SIMILARITIES_FILE, found.similarity, found.similarities)
    write_results(run.results_path / RESULTS_FILE, results)
    _write_anchors(context, results.models[1:], list(found.sets.values()))
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
        model = _candidate(context, name)
        if pooling_name(model) == "ata":
            found = [{"model": name, **asdict(each)} for each in anchors(model, texts)]
            atomic_write(path, json.dumps(found, ensure_ascii=False))
            return


def _headline(context: RunContext, results: EvaluationResults) -> dict[str, Any]:
    """The figures that a summary shows: the chosen model against the base on every set."""
    counts: dict[str, Any] = {"chosen": results.chosen}
    for each in results.sets:
        base, chosen = each.models[BASE].score, each.models[results.chosen].score
        delta = each.delta.get(results.chosen)
        counts[each.name] = {
            "role": each.role,
            "label": each.provenance,
            "metric": each.metric,
            "queries": each.queries,
            BASE: base,
            results.chosen: chosen,
            "delta": None if delta is None else {"mean": delta.mean, "low": delta.low, "high": delta.high},
        }
        kind = "validation, " if each.role == "validation" and each.name != "validation" else ""
        said = f"{each.name} ({kind}{each.provenance}" + (f", {each.queries} {each.unit})" if each.queries else ")")
        said += f": {each.metric} {base:.3f} → {chosen:.3f} with {results.chosen} ({100 * (chosen - base):+.1f} points"
        context.progress.say(said + (f" [{100 * delta.low:+.1f}, {100 * delta.high:+.1f}])" if delta else ")"))
    forgetting = judge_forgetting(results)
    for judged in forgetting:
        counts[judged.result.name]["forgetting"] = str(judged.verdict)
        context.progress.say(judged.sentence)
    if not forgetting:
        context.progress.say(
            "forgetting: not checked; name a labelled set of another domain under evaluation.sets, e.g. "
            "{name: other, path: a BEIR folder, role: forgetting}"
        )
    for line in advice(results, context.run.model_path):
        context.progress.say(line)
    return counts


def advice(results: EvaluationResults, model: Path) -> Iterator[str]:
    """What the figures come to: whether the test could tell, and what to do with the model.

    Args:
        results: of the run.
        model: where the chosen model lies.
    """
    conclusions = conclusions_of(results)
    for conclusion in conclusions:
        result = conclusion.result
        if result.role != "test" or conclusion.model != results.chosen:
            continue
        if left_to_gain(conclusion.base_score) == "nothing":
            yield f"{result.name}: the base model answers every query of it: nothing is left to gain on this set"
        elif conclusion.queries_needed is not None:
            yield (
                f"{result.name}: {result.queries} {result.unit} cannot tell {results.chosen} from {results.base}; to "
                f"be sure within a point takes about {rough(conclusion.queries_needed):,}"
            )
    decision, words = recommendation(results, conclusions)
    line = f"model: {model} holds {results.chosen}{words}"
    if decision in ("use", "untested"):
        loader = "multigrain.load" if needs_multigrain(model) else "SentenceTransformer"
        line += f"; {loader}({str(model)!r}) loads it"
    yield line
