"""Stage 4: train every candidate on the graded data set, and merge it with its base unless the config says otherwise.

Validation queries choose the learning rate, a query adapter's rank, the step and the share to merge, never test
queries.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from sentence_transformers import SentenceTransformer

from multigrain.config import Merge, TrainingConfig
from multigrain.display.progress import Progress
from multigrain.errors import ModelError
from multigrain.evaluation.enough import chance_words_of
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.run_sets import validation_sets
from multigrain.model.encoder import reading_at_most
from multigrain.records import GradedExample
from multigrain.stages.attempts import LOG_FILE, Attempt, Outcome, Pools, checkpoint_folder, training_rows
from multigrain.stages.base import RunContext, Stage, complete_stage
from multigrain.stages.fingerprints import (
    any_candidate,
    candidate_fingerprint,
    candidate_folder,
    teachers_of,
)
from multigrain.stages.models import RunModels
from multigrain.stages.observing import CurveWatch
from multigrain.stages.preflight import check_selection
from multigrain.stages.reranker import RerankerAttempt, as_trained
from multigrain.stages.selection import Looks, scores_in_words
from multigrain.stages.teachers import score_rows_by
from multigrain.stages.trainees import Trainee, open_trainee
from multigrain.stages.variants import best_by, variants_of
from multigrain.storage.files import atomic_directory
from multigrain.storage.shards import is_table
from multigrain.training.checkpoints import abandoned_checkpoints
from multigrain.training.curves import sample_of_rows, sample_size
from multigrain.training.log import read_log
from multigrain.training.merging import WeightMerge, merge_shares
from multigrain.training.moved import WeightsBefore
from multigrain.training.notices import notices_of
from multigrain.training.processes import as_main_says, is_main_process


def run(context: RunContext, _: Stage) -> None:
    """Train the config's candidates, one after another."""
    if is_main_process():
        _tidy(context)
    for name in context.config.training.in_order:
        run_candidate(context, name)


def run_candidate(context: RunContext, name: str, *, data: RunContext | None = None) -> None:
    """Train one candidate on a data set that is complete and current.

    Args:
        context: the run.
        name: the candidate.
        data: the context that made the data set, where candidates of other seeds are trained on it too.
    """
    fingerprint = candidate_fingerprint(context, name, data=data)
    settings = as_trained(context.run, context.config.training.resolve(name))
    folder = candidate_folder(name)
    if is_main_process():
        if any_candidate(teachers := teachers_of(settings)):
            score_rows_by(context, teachers, data=data)
        complete_stage(
            context,
            folder,
            fingerprint,
            lambda: _train(context, name, settings, fingerprint),
            decides=lambda other: candidate_fingerprint(other, name, data=data),
        )
    elif not context.run.is_complete(folder, fingerprint):
        # It trains along; the main process alone decides, writes and reports.
        _train(context, name, settings, fingerprint)


def _train(context: RunContext, name: str, settings: TrainingConfig, fingerprint: str) -> dict[str, Any]:
    seen = _validation(context, settings)
    validation = seen if settings.chooses else ()
    variants = variants_of(settings, choose=bool(validation))
    kind = RerankerAttempt if settings.kind == "reranker" else _EmbedderAttempt
    attempts: list[Attempt] = [kind(context, name, variant, fingerprint, len(variants)) for variant in variants]
    kept = as_main_says([attempt.is_kept for attempt in attempts])
    if is_main_process() and (words := chance_words_of(validation)):
        context.progress.say(f"{name}: {words}")
    with closing(RunModels(context)) as models:
        pools = Pools(context, settings, validation, seen, models)
        outcomes = [each.kept() if done else each.tune(pools) for each, done in zip(attempts, kept, strict=True)]
    if not is_main_process():
        return outcomes[0].counts
    # Of equal scores the lowest rate, then the lowest rank: it moved the base the least.
    scored = {
        (variant.rate, variant.rank): outcome.score or 0.0 for variant, outcome in zip(variants, outcomes, strict=True)
    }
    best = min(range(len(variants)), key=lambda place: (-(outcomes[place].score or 0.0), variants[place].order))
    counts = outcomes[best].counts
    with atomic_directory(context.run.candidate_path(name)) as folder:
        shutil.copytree(attempts[best].model_path, folder, dirs_exist_ok=True)
        log = read_log(folder / LOG_FILE)
        if len(variants) > 1:
            by_rate, by_rank = (best_by(scored, part) for part in (0, 1))
            if len(by_rate) > 1:
                rate = variants[best].rate
                counts |= {"learning_rate": rate, "rates_by_validation": by_rate}
                context.progress.say(
                    f"{name}: learning rate {rate:g} chosen by validation nDCG@10 ({scores_in_words(by_rate)})"
                )
                log = replace(log, rates=by_rate)
            if len(by_rank) > 1:
                rank = variants[best].rank
                counts |= {"rank": rank, "ranks_by_validation": by_rank}
                context.progress.say(f"{name}: rank {rank} chosen by validation nDCG@10 ({scores_in_words(by_rank)})")
                log = replace(log, ranks=by_rank)
            log.save(folder / LOG_FILE)
        for notice in log.notices:
            context.progress.say(f"{name}: {notice.words}")
        counts |= {"notices": [notice.name for notice in log.notices]}
    for attempt in attempts:
        attempt.clear()
    return counts


@dataclass(frozen=True)
class _EmbedderAttempt(Attempt):
    """An embedder, tuned once with one learning rate."""

    def _tune(self, validation: Pools) -> Outcome:
        with open_trainee(self.context, self.settings, validation.models) as trainee:
            return self._tune_trainee(trainee, validation)

    def _tune_trainee(self, trainee: Trainee, validation: Pools) -> Outcome:
        context, settings, model = self.context, self.settings, trainee.model
        examples = training_rows(context.run, settings)
        context.progress.say(f"{self.title}: {trainee.words}")
        if trainee.prepare is not None:
            trainee.prepare(examples)
        steps = settings.steps_for(len(examples))
        pools = validation.of(model)
        looks = self._looks(model, validation, steps) if validation.whole else None
        curves = self._curves(model, validation, examples, steps)
        before = WeightsBefore(model)
        merge = settings.merge_where(choose=bool(validation.whole))
        weights = self._weights(model, merge)
        with reading_at_most(model, settings.max_seq_length):
            log, counts = self.train(model, examples, [watch for watch in (curves, looks) if watch is not None])
        if not is_main_process():
            return Outcome(counts, None)
        taken = log.history[-1].step
        log, score = self.keep_best(looks, log, counts)
        if weights is not None and merge is not None:
            shares = merge_shares(merge, identity=settings.query_adapter is not None)
            share, scores = _merge(model, weights, shares, validation if pools else None, context.progress)
            tried = scores_in_words(scores)
            context.progress.say(
                f"{self.title}: merged {share:g} of the tuned weights with {1 - share:g} of the base's"
                + (f" (validation nDCG@10 by share {tried})" if tried else "")
            )
            log = replace(log, merged=share)
            counts |= {"merged": share, "merged_by_validation": scores}
            score = max(scores.values(), default=score)
        elif score is None and self.variants > 1:
            score = validation.score(model)
        kept_step = taken if log.kept_step is None else log.kept_step
        changed = kept_step != taken or log.merged not in (None, 1.0)
        seen = None if curves is None else curves.curves(kept_step, changed=changed)
        # An adapter begins at nothing, which no change is a share of.
        moved = before.moved(model) if settings.query_adapter is None else None
        log = replace(log, weights_moved=moved, curves=seen)
        log = replace(log, notices=notices_of(log))
        with atomic_directory(self.model_path) as folder:
            trainee.save(folder)
            log.save(folder / LOG_FILE)
        return Outcome(counts, score)

    def _weights(self, model: SentenceTransformer, merge: Merge | None) -> WeightMerge | None:
        if merge is None:
            return None
        try:
            return WeightMerge(model)
        except ModelError as error:
            if merge != "auto":
                raise
            self.context.progress.say(f"{self.title}: merged with nothing: {error}")
            return None

    def _curves(
        self,
        model: SentenceTransformer,
        validation: Pools,
        examples: Sequence[GradedExample],
        steps: int,
    ) -> CurveWatch | None:
        if self.settings.fsdp:  # what is tuned then lies in shards, and this model waits for them
            return None
        config = self.context.config
        rows, every = sample_size(steps, self.settings.batch_size)
        asked = None
        if is_main_process():
            asked = validation.sample(rows) or sample_of_rows(examples, rows, seed=config.seed)
        return CurveWatch(model, asked, config, self.settings.max_seq_length, every, self.kept_path / "curves.json")

    def _looks(self, model: SentenceTransformer, validation: Pools, steps: int) -> Looks | None:
        every = self.settings.looks_after(steps)
        if every is None:
            return None
        return Looks(model, lambda: validation.score(model), every, self.kept_path)


def _tidy(context: RunContext) -> None:
    """Name the checkpoints of other settings, which nothing goes on from; remove them where stages are redone."""
    training = context.config.training
    current = tuple(
        checkpoint_folder(name, candidate_fingerprint(context, name), training) for name in training.candidates
    )
    abandoned = abandoned_checkpoints(context.run.checkpoints_path, current)
    if not abandoned:
        return
    size = sum(path.stat().st_size for folder in abandoned for path in folder.rglob("*") if path.is_file())
    listed = ", ".join(folder.name for folder in abandoned)
    if context.redo:
        for folder in abandoned:
            shutil.rmtree(folder)
        context.progress.say(f"checkpoints of other settings removed: {listed} ({size / 1e6:,.0f} MB)")
    else:
        context.progress.say(
            f"checkpoints of other settings are kept in {context.run.checkpoints_path}: {listed} "
            f"({size / 1e6:,.0f} MB); --redo removes them"
        )


def _validation(context: RunContext, settings: TrainingConfig) -> tuple[EvaluationSet, ...]:
    """The validation queries, where there are any."""
    if not settings.chooses and not is_table(context.run.documents_path):
        return ()
    sets = validation_sets(context.config, context.run)
    if settings.chooses and not sets:
        check_selection(context.config, ["training"], none_held_out=True)
    return sets


def _merge(
    model: SentenceTransformer,
    weights: WeightMerge,
    shares: Sequence[float],
    validation: Pools | None,
    progress: Progress,
) -> tuple[float, dict[str, float]]:
    """Merge a tuned model in place, with the weights that were taken of it before, at the best of some shares.

    Returns:
        The share of the tuned weights, and the nDCG@10 on the validation queries of every share that was tried (of
        several sets: the mean over sets); none for a fixed share.
    """
    scores: dict[float, float] = {}
    if validation is not None and len(shares) > 1:
        with progress.task("Choosing the share to merge", len(shares)) as task:
            for share in shares:
                weights.apply(model, share)
                scores[share] = validation.score(model)
                task.advance(note=f"{share:g}: {scores[share]:.3f}")
    # Of equal scores the share that moved the base the least.
    chosen = max(scores, key=lambda share: (scores[share], -share)) if scores else shares[0]
    weights.apply(model, chosen)
    return chosen, {f"{share:g}": score for share, score in scores.items()}
