"""What arms of rerankers sort again: the documents that one first stage finds for every query, alike for all arms."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from sentence_transformers import CrossEncoder

from multigrain.ablation.matrix import OF_BASE, SortedAgain
from multigrain.config import Config
from multigrain.encoders.batches import pair_tokens
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.cross_encoder import pair_logits
from multigrain.encoders.facts import BM25, HYBRID
from multigrain.encoders.models import Encoding, open_encoder, parse_model
from multigrain.encoders.reference import base_encoder, base_model, encoding_precision
from multigrain.evaluation.reranking import Ranking, rank_first, rerank
from multigrain.evaluation.results import BASE
from multigrain.evaluation.retrieval import BM25Retriever, DenseRetriever, HybridRetriever, Retriever, score_ranking
from multigrain.evaluation.scoring import Scored
from multigrain.evaluation.sets.retrieval_set import EvaluationSet


@dataclass(frozen=True)
class Found:
    """What the first stage finds on one set.

    Attributes:
        asked: the set.
        ranking: as deep as is sorted again, and ten documents at least.
    """

    asked: EvaluationSet
    ranking: Ranking


def find_first(
    settings: SortedAgain, config: Config, sets: tuple[EvaluationSet, ...], *, cache: Path
) -> tuple[Found, ...]:
    """Ask the first stage all queries.

    Args:
        settings: which, and how deep.
        config: of the reference arm.
        sets: whose queries.
        cache: a folder that keeps vectors.

    Raises:
        ModelError: it cannot be loaded.
    """
    with ExitStack() as stack:
        retriever = _retriever(settings.first_stage, config, cache, stack)
        return tuple(Found(asked, rank_first(retriever, asked, settings.depth)) for asked in sets)


def _retriever(name: str, config: Config, cache: Path, stack: ExitStack) -> Retriever:
    if name == BM25:
        return BM25Retriever()
    if name not in OF_BASE:
        encoding = Encoding(config.evaluation.batch_size, cache, trust_remote_code=config.training.trust_remote_code)
        encoder, _ = stack.enter_context(open_encoder(parse_model(name), encoding))
        return DenseRetriever(encoder)
    model = base_model(config)
    stack.enter_context(encoding_precision(config, model))
    of_base = base_encoder(config, model)
    dense = DenseRetriever(stack.enter_context(closing(CachedEncoder(of_base, of_base.fingerprint, cache))))
    return HybridRetriever((BM25Retriever(), dense)) if name == HYBRID else dense


def scored_alone(found: tuple[Found, ...]) -> Scored:
    """The first stage's own scores."""
    scored = Scored()
    for each in found:
        scored.keep_retrieval(BASE, each.asked, score_ranking(each.ranking, each.asked))
    return scored


def scored_again(name: str, model: CrossEncoder, found: tuple[Found, ...], depth: int) -> Scored:
    """The scores of what a reranker makes of it.

    Args:
        name: the arm's.
        model: its reranker.
        found: by the first stage.
        depth: how many documents of each query are sorted again.
    """
    scored, tokens = Scored(), pair_tokens(model.device)
    for each in found:
        scores = rerank(
            lambda pairs: pair_logits(model, pairs, batch_tokens=tokens).tolist(), each.ranking, each.asked, depth
        )
        scored.keep_retrieval(name, each.asked, scores)
    return scored
