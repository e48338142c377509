"""Stage 5: base and candidates side by side; validation queries choose, test queries tell.

The config's sets of role validation choose, by the mean over sets; where there are none, the run's own validation
queries do.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import Any

from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.facts import ModelCost, models_alike
from multigrain.encoders.models import Encoding
from multigrain.encoders.reference import encoding_precision
from multigrain.errors import EvaluationError
from multigrain.evaluation.choice import advise, choose_model, plain_choice, rival_lines
from multigrain.evaluation.cost import model_cost
from multigrain.evaluation.deployment import plain_reranking, reranking_lines
from multigrain.evaluation.enough import chance_words_of, needed_words
from multigrain.evaluation.per_query import QueryRow, write_per_query
from multigrain.evaluation.query_kinds import conclude_slices, query_kinds, slice_sentence, slice_sets
from multigrain.evaluation.reembedding import Reembedding, reembedding
from multigrain.evaluation.results import (
    BASE,
    EvaluationResults,
    SetResult,
    Slice,
    choose,
    selection_words,
    write_results,
)
from multigrain.evaluation.retrieval import DEPTH
from multigrain.evaluation.rivals import rivals_of, sample_texts, score_rivals
from multigrain.evaluation.scoring import Scored, score_model
from multigrain.evaluation.sets.loading import OpenedSets, open_sets
from multigrain.evaluation.sets.retrieval_set import SYNTHETIC_ESTIMATE, EvaluationSet
from multigrain.evaluation.sets.run_sets import domain_sets, searched_documents, seen_queries
from multigrain.evaluation.sets.searched import SearchedDocuments, sampled_texts
from multigrain.evaluation.sets.written import WrittenQuality, written_quality
from multigrain.evaluation.settings import CompareSettings, SizeSettings
from multigrain.evaluation.stored import PER_QUERY_FILE, RESULTS_FILE, SIMILARITIES_FILE, write_similarities
from multigrain.evaluation.vector_sizes import SizeTable, measure_sizes
from multigrain.evaluation.verdict import conclusions_of, judge_forgetting, left_to_gain
from multigrain.model.anchors import anchors
from multigrain.model.replacing import pooling_name
from multigrain.report.card import needs_multigrain
from multigrain.stages.base import RunContext, Stage
from multigrain.stages.label_figures import label_figures
from multigrain.stages.models import RunModels
from multigrain.stages.preflight import NOTHING_TO_EVALUATE_ON, check_heldout, check_selection
from multigrain.stages.reranking import measure_reranking
from multigrain.stages.spending import base_price, too_dear
from multigrain.storage.files import atomic_directory, atomic_write, remove

_ANCHOR_TEXTS = 6
_LENGTHS = 10_000  # documents whose lengths stand for all
_ANCHOR_CHARACTERS = 300
_ROUND_TRIP = 20
"""How far down a written query may find its document, where the audit asks for no round trip."""


def run(context: RunContext, stage: Stage) -> None:
    """Score the base model and every candidate, choose among all of them, and put that one in `model/`."""

    def work() -> dict[str, Any]:
        with closing(RunModels(context)) as models:
            return _evaluate(context, models, list(context.config.training.embedders))

    stage.complete(context, work)


def _evaluate(context: RunContext, models: RunModels, names: Sequence[str]) -> dict[str, Any]:
    check_heldout(context)
    config, run = context.config, context.run
    documents, shards = searched_documents(run), run.vectors_path / "shards"
    domain = tuple(domain_sets(config, run, documents))
    others = open_sets(config.evaluation.sets, seed=config.seed)
    if not domain and not others:
        raise EvaluationError(NOTHING_TO_EVALUATE_ON)
    if twice := {opened.name for opened in domain} & {settings.name for settings in config.evaluation.sets}:
        raise EvaluationError(f"evaluation.sets: {twice.pop()!r} is what the run's own set is called; rename it")
    encoders: dict[str, CachedEncoder] = {}
    costs: dict[str, ModelCost] = {}
    scored = Scored()
    rivals = rivals_of(config)
    one_sided = [name for name in names if config.training.resolve(name).side == "query"]
    texts = sample_texts([*_tests(domain, others)]) if rivals or one_sided else []
    tests = [*_tests(domain, others)] if rivals else []

    def score(name: str, sets: OpenedSets) -> None:
        batch_size = config.evaluation.batch_size
        model = models.model(name)
        if name not in encoders:
            encoders[name] = models.encoder(name, model, encoders.get(BASE))
        with encoding_precision(config, model):
            score_model(
                name,
                model,
                encoders[name],
                sets,
                scored,
                progress=context.progress,
                batch_size=batch_size,
                shards=shards,
            )
            if texts and name not in costs:
                here = None if models.is_served else model
                uncached = encoders[name] if here is None else SentenceTransformerEncoder(here, batch_size=batch_size)
                costs[name] = model_cost(here, uncached, texts)
        scored.note(name, models.facts(name, model), None if models.is_served else model, sets)

    choosing = tuple(opened for opened in others.retrieval if opened.role == "validation")
    if models.is_served:
        asked = (*domain, *others.retrieval)
        models.journal.reserve(
            [text for opened in asked for text in opened.queries.values()],
            [text for opened in asked for text in opened.corpus.values()],
        )
    for name in (BASE, *names):
        score(name, OpenedSets(retrieval=(*domain, *choosing)))
    own = [settings.name for settings in config.evaluation.choosing_sets]
    chosen_on = own or [opened.name for opened in scored.sets.values() if opened.role == "validation"]
    chosen = _choose(context, scored, names, chosen_on)
    tested = chosen if chosen != BASE or not names else _best_tuned(scored, names, chosen_on)
    others = replace(others, retrieval=tuple(opened for opened in others.retrieval if opened.role != "validation"))
    for name in (BASE, tested) if others else ():
        score(name, others)
    against = tuple(dict.fromkeys((BASE, chosen)))
    beside = score_rivals(
        rivals,
        tests,
        Encoding(
            config.evaluation.batch_size,
            context.embeddings or run.vectors_path,
            trust_remote_code=config.training.trust_remote_code,
            shards=shards,
        ),
        model=encoders[chosen],
        cost=costs.get(chosen, ModelCost()),
        progress=context.progress,
        too_dear=partial(too_dear, config, run, spent=models.paid or 0.0),
    )
    settings = CompareSettings(config.evaluation.bootstrap_samples, config.evaluation.confidence, seed=config.seed)
    seen = seen_queries(scored.sets.values(), run, documents) if config.evaluation.seen_documents else {}
    results = EvaluationResults(
        chosen=chosen,
        models=(BASE, *names),
        sets=tuple(
            replace(
                result,
                seen_queries=len(seen[result.name]) if result.name in seen else None,
                quality=_quality(context, result, scored),
            )
            for result in scored.results(settings)
        ),
        bootstrap_samples=settings.samples,
        confidence=settings.confidence,
        seed=settings.seed,
        chosen_by=selection_words(chosen_on) if chosen_on else "being the only candidate",
        forgetting_threshold=config.evaluation.forgetting_threshold,
        chosen_on=tuple(chosen_on),
        facts=scored.facts | beside.facts,
        rivals=beside.rivals(rivals, scored.sets, scored.scores, against, settings),
        costs={name: costs[name] for name in (BASE, *names) if name in costs} | beside.costs,
    )
    results = replace(
        results,
        reembedding=_reembedding(context, documents, costs, one_sided) if one_sided else None,
        vector_sizes=_vector_sizes(context, results, scored, encoders[chosen], settings),
        slices=_slices(results, scored, seen, settings, tested),
        reranking=measure_reranking(
            context,
            {
                name: (encoders[name], partial(_uncached, context, models, name))
                for name in dict.fromkeys((BASE, tested))
            },
            [scored.sets[each.name] for each in results.with_role("test") if _is_reranked(results, each, scored)],
            tested=tested,
            settings=settings,
        ),
    )
    for encoder in encoders.values():
        if not models.is_served or encoder is not models.journal:
            encoder.close()
    _write(context, models, results, scored, beside.rows(tests))
    remove(shards)
    return _headline(context, results, tested) | models.embedded() | label_figures(context, results, scored, tested)


def _tests(domain: Sequence[EvaluationSet], others: OpenedSets) -> Iterator[EvaluationSet]:
    yield from (opened for opened in (*domain, *others.retrieval) if opened.role == "test")


def _reembedding(
    context: RunContext, documents: SearchedDocuments, costs: Mapping[str, ModelCost], one_sided: Sequence[str]
) -> Reembedding | None:
    """What candidates that keep the base's documents spare, at the user's figures or those of this machine."""
    config, asked = context.config, context.config.evaluation.reembedding
    price = base_price(config)
    measured = costs[BASE].texts_per_second if BASE in costs else None
    return reembedding(
        sampled_texts(documents.texts, _LENGTHS),
        documents=len(documents.texts) if asked.documents is None else asked.documents,
        price=asked.price if asked.price is not None or price is None else price.prompt,
        texts_per_second=asked.texts_per_second or measured,
        needed_by=[name for name in config.training.embedders if name not in one_sided],
        spared_by=one_sided,
    )


def _is_reranked(results: EvaluationResults, result: SetResult, scored: Scored) -> bool:
    """Whether two-step search is measured on a test set: it has queries, and decides something."""
    return result.name in scored.sets and not results.is_minor(result)


def _uncached(context: RunContext, models: RunModels, name: str) -> SentenceTransformerEncoder | None:
    """A model without a cache, to be timed; None where it runs elsewhere."""
    if models.is_served:
        return None
    return SentenceTransformerEncoder(models.model(name), batch_size=context.config.evaluation.batch_size)


def _slices(
    results: EvaluationResults,
    scored: Scored,
    seen: Mapping[str, Collection[str]],
    settings: CompareSettings,
    tested: str,
) -> tuple[Slice, ...]:
    """The tested model by kind of query, on the test set that proves most and on those whose columns were named."""
    shown = [
        result.name
        for result in results.with_role("test")
        if result.name in scored.scores and (result == results.headline_set or scored.sets[result.name].kinds)
    ]
    parts = [
        (
            scored.sets[name],
            query_kinds(scored.sets[name], seen.get(name)),
            {model: scored.scores[name][model] for model in (BASE, tested)},
        )
        for name in shown
    ]
    return slice_sets(parts, settings, base=BASE)


def _vector_sizes(
    context: RunContext, results: EvaluationResults, scored: Scored, encoder: CachedEncoder, settings: CompareSettings
) -> tuple[SizeTable, ...]:
    """What smaller vectors of the chosen model lose on the test set that proves most; the whole ones are at hand."""
    config, headline = context.config, results.headline_set
    lengths = config.evaluation.vector_lengths
    if lengths == [] or headline is None or headline.name not in scored.sets:
        return ()
    chosen = scored.sets[headline.name]
    trained = () if results.chosen == BASE else tuple(config.training.resolve(results.chosen).matryoshka)
    sizes = SizeSettings(None if lengths is None else tuple(lengths), tuple(config.evaluation.vector_precisions))
    with context.progress.task(f"Trying smaller vectors of {results.chosen}", None):
        return (
            measure_sizes(
                encoder,
                chosen,
                sizes,
                settings,
                model=results.chosen,
                trained=trained,
                shards=context.run.vectors_path / "shards",
            ),
        )


def _quality(context: RunContext, result: SetResult, scored: Scored) -> WrittenQuality | None:
    """How good the set's queries are, where a language model wrote them."""
    if result.evidence != "written" or result.name not in scored.scores:
        return None
    config, manifest = context.config, context.run.manifest("synthesis")
    judged = passed = None
    if manifest is not None and config.audit.query_judge is not None and config.audit.query_judge.heldout:
        passed = int(manifest.counts["heldout_queries_written"])
        judged = passed + int(manifest.counts.get("heldout_failed", {}).get("judged_query", 0))
    ranks = (query.rank_of_first_relevant for query in scored.scores[result.name][BASE].queries)
    within = min(config.audit.round_trip_rank or _ROUND_TRIP, DEPTH)
    return written_quality(ranks, within=within, judged=judged, passed=passed)


def _choose(context: RunContext, scored: Scored, names: Sequence[str], chosen_on: Sequence[str]) -> str:
    """The model that answers validation queries best; of equal ones the base model, which needs no tuning."""
    if not chosen_on:
        check_selection(context.config, ["evaluation"], none_held_out=True)
        return next(iter(names), BASE)
    scores = _validation_scores(scored, (BASE, *names), chosen_on)
    chosen = choose(scores)
    listed = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    context.progress.say(f"{chosen} chosen by {selection_words(chosen_on)}: {listed}")
    told = any(context.config.training.resolve(name).chooses for name in names)  # while they were tuned
    if not told and (words := chance_words_of([scored.sets[name] for name in chosen_on])):
        context.progress.say(words)
    if all(scored.sets[name].provenance.startswith(SYNTHETIC_ESTIMATE) for name in chosen_on):
        context.progress.say(
            "the choice is no proof: a language model wrote the validation queries; people's queries, in a set with "
            "role: validation or role: test, tell more"
        )
    return chosen


def _best_tuned(scored: Scored, names: Sequence[str], chosen_on: Sequence[str]) -> str:
    """The candidate that comes next to the base model."""
    return choose(_validation_scores(scored, names, chosen_on))


def _validation_scores(scored: Scored, names: Sequence[str], chosen_on: Sequence[str]) -> dict[str, float]:
    return {name: fmean(scored.scores[set_name][name].ndcg_at_10 for set_name in chosen_on) for name in names}


def _write(
    context: RunContext,
    models: RunModels,
    results: EvaluationResults,
    scored: Scored,
    of_rivals: Iterable[QueryRow],
) -> None:
    run = context.run
    write_per_query(run.results_path / PER_QUERY_FILE, chain(scored.rows(), of_rivals))
    write_similarities(run.results_path / SIMILARITIES_FILE, scored.similarity, scored.similarities)
    write_results(run.results_path / RESULTS_FILE, results)
    _write_anchors(context, models, results.models[1:], next(iter(scored.sets.values()), None))
    with atomic_directory(run.model_path) as folder:
        if results.chosen == BASE:
            models.save_base(folder)
            return
        # Links where the file system has them: the chosen model costs no disk of its own.
        shutil.copytree(run.candidate_path(results.chosen), folder, dirs_exist_ok=True, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _write_anchors(
    context: RunContext, run_models: RunModels, names: Sequence[str], shown: EvaluationSet | None
) -> None:
    """Anchor tokens of a few texts of a set under the first candidate with ATA pooling, where there is one."""
    path = context.run.results_path / "anchors.json"
    path.unlink(missing_ok=True)  # of other candidates, before this stage was redone
    models = ((name, run_models.model(name)) for name in names)
    name, model = next(((name, model) for name, model in models if pooling_name(model) == "ata"), ("", None))
    if model is None:
        return
    queries, passages = ([], []) if shown is None else (shown.queries.values(), shown.corpus.values())
    texts = [
        *islice(queries, _ANCHOR_TEXTS // 2),
        *(passage[:_ANCHOR_CHARACTERS] for passage in islice(passages, _ANCHOR_TEXTS // 2)),
    ]
    tokens = [{"model": name, **asdict(anchored)} for anchored in anchors(model, texts)]
    atomic_write(path, json.dumps(tokens, ensure_ascii=False))


def _headline(context: RunContext, results: EvaluationResults, tested: str) -> dict[str, Any]:
    """The figures that a summary shows: the chosen model, or the tuned one that came next, against the base."""
    counts: dict[str, Any] = {"chosen": results.chosen}
    for names, facts in models_alike({name: results.facts[name] for name in (BASE, tested)}).items():
        context.progress.say(f"{names}: {facts}")
    for result in results.shown:
        base, score = result.models[BASE].score, result.models[tested].score
        delta = result.delta.get(tested)
        counts[result.name] = {
            "role": result.role,
            "label": result.provenance,
            "metric": result.metric,
            "queries": result.queries,
            BASE: base,
            tested: score,
            "delta": None if delta is None else {"mean": delta.mean, "low": delta.low, "high": delta.high},
        }
        kind = "validation, " if result.role == "validation" and result.name != "validation" else ""
        kind = "decides nothing, " if results.is_minor(result) else kind
        size = f", {result.queries} {result.unit}" if result.queries else ""
        size += f" {result.cluster_words}".rstrip() + (f", {result.seen_words}" if result.seen_words else "")
        interval = f" [{100 * delta.low:+.1f}, {100 * delta.high:+.1f}]" if delta else ""
        interval += f", {few}" if (few := result.few_words(delta)) else ""
        context.progress.say(
            f"{result.name} ({kind}{result.provenance}{size}): {result.metric} {base:.3f} → {score:.3f} with "
            f"{tested} ({100 * (score - base):+.1f} points{interval})"
        )
        for note in result.remarks:
            context.progress.say(f"{result.name}: {note}")
    forgetting = judge_forgetting(results, [tested])
    for judged in forgetting:
        counts[judged.result.name]["forgetting"] = str(judged.verdict)
        context.progress.say(judged.sentence)
    if not forgetting:
        context.progress.say(
            "forgetting: not checked; name a labelled set of another domain under evaluation.sets, e.g. "
            "{name: other, path: a BEIR folder, role: forgetting}"
        )
    counts["choice"] = plain_choice(choose_model(results, conclusions_of(results)))
    if concluded := conclude_slices(results, tested):
        context.progress.say(slice_sentence(concluded, tested))
    for table in results.vector_sizes:
        context.progress.say(table.sentence)
    if results.reembedding is not None:
        counts["reembedding"] = asdict(results.reembedding)
        context.progress.say(f"embedding again: {results.reembedding.sentence}")
    if results.reranking:
        counts["reranking"] = {table["set"]: table["deploy"] for table in plain_reranking(results)}
    for line in (*rival_lines(results), *reranking_lines(results), *advice(results, context.run.model_path)):
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
        if result.role != "test" or conclusion.model != results.chosen or results.is_minor(result):
            continue
        if left_to_gain(conclusion.base_score) == "nothing":
            yield f"{result.name}: the base model answers every query of it: nothing is left to gain on this set"
        elif conclusion.queries_needed is not None:
            needed = needed_words(conclusion, confidence=results.confidence)
            counted = f"{result.queries} {result.unit}"
            yield f"{result.name}: {counted} cannot tell {results.chosen} from {results.base}; {needed}"
    if results.rivals and (verdict := choose_model(results, conclusions)) is not None:
        yield f"choice: {verdict}"
    decision, words = advise(results, conclusions)
    line = f"model: {model} holds {results.chosen}{words}"
    if decision in ("use", "untested", "base"):
        loader = "multigrain.load" if needs_multigrain(model) else "SentenceTransformer"
        line += f"; {loader}({str(model)!r}) loads it"
    yield line
