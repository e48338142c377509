"""Training a reranker: what stage 4 does differently for a model that scores pairs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

from sentence_transformers import CrossEncoder

from multigrain.config import TrainingConfig
from multigrain.config.candidates import candidate_named
from multigrain.encoders.batches import pair_tokens
from multigrain.encoders.cross_encoder import pair_logits
from multigrain.encoders.reference import encoding_precision
from multigrain.evaluation.reranking import Ranking, rank_first, rerank
from multigrain.evaluation.results import BASE
from multigrain.evaluation.retrieval import DenseRetriever
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, sample
from multigrain.model.reranker import build_reranker, describe_reranker, save_reranker
from multigrain.stages.attempts import LOG_FILE, Attempt, Outcome, Pools, training_rows
from multigrain.stages.models import RunModels
from multigrain.stages.selection import Looks
from multigrain.storage.files import atomic_directory
from multigrain.storage.rundir import RunDirectory
from multigrain.training.moved import WeightsBefore
from multigrain.training.processes import is_main_process

_QUERIES: Final = 100  # of each validation set that are asked while a reranker is tuned
_DEPTH: Final = 20  # documents that are sorted again for each


def as_trained(run: RunDirectory, settings: TrainingConfig) -> TrainingConfig:
    """The settings with the base's folder, where it is a candidate of the run."""
    named = candidate_named(settings.base_model)
    return settings if named is None else settings.model_copy(update={"base_model": str(run.candidate_path(named))})


@dataclass(frozen=True)
class RerankerAttempt(Attempt):
    """A reranker, tuned once with one learning rate."""

    def _tune(self, validation: Pools) -> Outcome:
        context, settings = self.context, self.settings
        examples = training_rows(context.run, settings)
        model = build_reranker(settings, seed=context.config.seed)
        context.progress.say(f"{self.title}: {describe_reranker(model)}")
        every = settings.looks_after(settings.steps_for(len(examples)))
        lists = self._lists(validation.whole) if validation.whole and is_main_process() else []
        looks = None

        def score() -> float:
            return fmean(_validation_score(model, asked, ranking) for asked, ranking in lists)

        if every is not None and validation.whole:
            looks = Looks(model, score, every, self.kept_path)
        before = WeightsBefore(model)
        log, counts = self.train(model, examples, [] if looks is None else [looks])
        if not is_main_process():
            return Outcome(counts, None)
        log, best = self.keep_best(looks, log, counts)
        if best is None and self.variants > 1:
            best = score()
        log = replace(log, weights_moved=before.moved(model))
        with atomic_directory(self.model_path) as folder:
            save_reranker(model, folder)
            log.save(folder / LOG_FILE)
        return Outcome(counts, best)

    def _lists(self, sets: Sequence[EvaluationSet]) -> list[tuple[EvaluationSet, Ranking]]:
        """What the base embedder finds for a sample of each set's queries."""
        config = self.context.config
        limit = 5 * self.settings.validation_documents
        lists: list[tuple[EvaluationSet, Ranking]] = []
        with closing(RunModels(self.context)) as models:
            model = models.model(BASE)
            with closing(models.encoder(BASE, model)) as encoder, encoding_precision(config, model):
                for whole in sets:
                    asked = sample(whole, max_queries=_QUERIES, max_documents=limit, seed=config.seed)
                    lists.append((asked, rank_first(DenseRetriever(encoder), asked, _DEPTH)))
        return lists


def _validation_score(model: CrossEncoder, asked: EvaluationSet, ranking: Ranking) -> float:
    """nDCG@10 of a reranker over what a first stage found."""
    tokens = pair_tokens(model.device)
    return rerank(
        lambda pairs: pair_logits(model, pairs, batch_tokens=tokens).tolist(), ranking, asked, _DEPTH
    ).ndcg_at_10
