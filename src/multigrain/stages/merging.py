"""Merge a tuned candidate with its base; validation queries choose the share, never test queries.

They are those that choose between candidates: of several sets the mean over sets counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from sentence_transformers import SentenceTransformer

from multigrain.config import Merge, TrainingConfig
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.reference import encoding_precision
from multigrain.evaluation.retrieval import evaluate_retrieval
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.run_sets import validation_sets
from multigrain.stages.context import RunContext
from multigrain.stages.preflight import check_selection
from multigrain.training.merging import WeightMerge, merge_shares


def validation_for_merge(context: RunContext, settings: TrainingConfig) -> tuple[EvaluationSet, ...]:
    """The validation queries, where there is a share to choose; else none.

    Args:
        context: the run.
        settings: of the candidate.

    Raises:
        ConfigError: there is, and there are no validation queries.
        EvaluationError: a set cannot be read.
    """
    if not settings.chooses_share:
        return ()
    sets = validation_sets(context.config, context.run)
    if not sets:
        check_selection(context.config, ["training"], none_held=True)
    return sets


def merge_candidate(
    context: RunContext,
    model: SentenceTransformer,
    weights: WeightMerge,
    merge: Merge,
    validation: Sequence[EvaluationSet],
) -> tuple[float, dict[str, float]]:
    """Merge a tuned model in place.

    Args:
        context: the run.
        model: the tuned model.
        weights: taken of it before it was tuned.
        merge: the shares.
        validation: from `validation_for_merge`.

    Returns:
        The share of the tuned weights, and the nDCG@10 on the validation queries of every share that was tried (of
        several sets: the mean over sets); none for a fixed share.
    """
    shares = merge_shares(merge)
    scores: dict[float, float] = {}
    if validation:
        with (
            encoding_precision(context.config, model),
            context.progress.task("Choosing the share to merge", len(shares)) as task,
        ):
            for share in shares:
                weights.apply(model, share)
                encoder = SentenceTransformerEncoder(model, batch_size=context.config.evaluation.batch_size)
                scores[share] = fmean(
                    evaluate_retrieval(encoder, validation_set).ndcg_at_10 for validation_set in validation
                )
                task.advance(note=f"{share:g}: {scores[share]:.3f}")
    # Of equal scores the share that moved the base the least.
    chosen = max(scores, key=lambda share: (scores[share], -share)) if scores else shares[0]
    weights.apply(model, chosen)
    return chosen, {f"{share:g}": score for share, score in scores.items()}
