"""Merge a tuned candidate with its base; validation queries choose the share, never test queries."""

from __future__ import annotations

from dataclasses import dataclass

from sentence_transformers import SentenceTransformer

from multigrain.config import Merge
from multigrain.errors import ConfigError
from multigrain.evaluation.encoders import SentenceTransformerEncoder
from multigrain.evaluation.retrieval import evaluate_retrieval
from multigrain.evaluation.sets import EvaluationSet
from multigrain.pipeline.context import RunContext
from multigrain.pipeline.evaluation import domain_sets
from multigrain.pipeline.reference import encoding_precision
from multigrain.sources.store import read_document_table
from multigrain.training.merging import WeightMerge, merge_shares

__all__ = ["ChosenMerge", "merge_candidate", "validation_for_merge"]


@dataclass(frozen=True)
class ChosenMerge:
    """What was merged.

    Attributes:
        share: of the tuned weights.
        validation: nDCG@10 on the validation queries of every share that was tried; empty for a fixed share.
    """

    share: float
    validation: dict[str, float]


def validation_for_merge(context: RunContext, merge: Merge) -> EvaluationSet | None:
    """The validation queries, where there is a share to choose.

    Raises:
        ConfigError: there is, and there are no validation queries.
    """
    if len(merge_shares(merge)) == 1:
        return None
    for each in domain_sets(context, read_document_table(context.run.documents_path)):
        if each.role == "validation":
            return each
    raise ConfigError(
        f"training.merge: {merge} needs validation queries to choose by: set documents.validation_share above 0 (and "
        "evaluation.queries to other than none), or give one share"
    )


def merge_candidate(
    context: RunContext,
    model: SentenceTransformer,
    weights: WeightMerge,
    merge: Merge,
    validation: EvaluationSet | None,
) -> ChosenMerge:
    """Merge a tuned model in place.

    Args:
        context: the run.
        model: the tuned model.
        weights: taken of it before it was tuned.
        merge: the shares.
        validation: from `validation_for_merge`.
    """
    shares = merge_shares(merge)
    scores: dict[float, float] = {}
    if validation is not None:
        with (
            encoding_precision(context.config, model),
            context.progress.task("Choosing the share to merge", len(shares)) as task,
        ):
            for share in shares:
                weights.apply(model, share)
                encoder = SentenceTransformerEncoder(model, batch_size=context.config.evaluation.batch_size)
                scores[share] = evaluate_retrieval(encoder, validation).ndcg_at_10
                task.advance(note=f"{share:g}: {scores[share]:.3f}")
    # Of equal scores the share that moved the base the least.
    chosen = max(scores, key=lambda share: (scores[share], -share)) if scores else shares[0]
    weights.apply(model, chosen)
    return ChosenMerge(chosen, {f"{share:g}": score for share, score in scores.items()})
