"""What an export of a reranker costs in nDCG@10: the first documents of BM25, sorted again by both forms."""

from __future__ import annotations

from typing import Final

from multigrain.evaluation.reranking import rank_first, rerank
from multigrain.evaluation.retrieval import BM25Retriever
from multigrain.export.cost import Cost, cost_of
from multigrain.export.job import RerankerJob
from multigrain.export.reranker.parity import PairLogits

DEPTH: Final = 30
"""Documents of each query that are sorted again."""


def measure_pair_costs(job: RerankerJob, before: PairLogits, after: PairLogits, form: str) -> tuple[Cost, ...]:
    """The cost on each of a job's sets.

    Args:
        job: names the sets, each of at least two queries, and who is told.
        before: the reranker.
        after: what was made of it.
        form: what progress calls that.

    Raises:
        EvaluationError: fewer than two queries.
    """
    costs = []
    for chosen in job.sets:
        with job.progress.task(f"Measuring {form} on {chosen.name}", None):
            ranking = rank_first(BM25Retriever(), chosen, DEPTH)
            scores = [
                rerank(lambda pairs, each=each: each.logits(pairs).tolist(), ranking, chosen, DEPTH)  # type: ignore[misc]
                for each in (before, after)
            ]
        costs.append(cost_of(chosen, *scores))
    return tuple(costs)
