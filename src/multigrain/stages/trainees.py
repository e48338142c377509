"""Candidates while they are tuned: a whole model, or an adapter behind vectors that the base model gave once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sentence_transformers import SentenceTransformer

from multigrain.config import QueryAdapterConfig, TrainingConfig
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.protocol import Encoder
from multigrain.encoders.reference import base_encoder, base_model
from multigrain.encoders.served import SERVED
from multigrain.encoders.stored import model_of
from multigrain.errors import ModelError
from multigrain.model.encoder import build_candidate, describe_encoder, save_candidate
from multigrain.model.query_adapter import QueryAdapter
from multigrain.model.query_side import require_unit_queries, with_query_adapter
from multigrain.records import GradedExample
from multigrain.stages.base import RunContext
from multigrain.stages.models import RunModels
from multigrain.training.processes import process_count

_ROWS_A_TURN = 2_000


@dataclass(frozen=True)
class Trainee:
    """A candidate while it is tuned.

    Attributes:
        model: what the trainer tunes, in place.
        words: what it is, in a line.
        save: writes it, tuned, into an empty folder as it is used.
        prepare: embeds what training will read, where that is done once.
    """

    model: SentenceTransformer
    words: str
    save: Callable[[Path], None]
    prepare: Callable[[Sequence[GradedExample]], None] = lambda examples: None


@contextmanager
def open_trainee(context: RunContext, settings: TrainingConfig) -> Iterator[Trainee]:
    """A candidate before it is tuned.

    Args:
        context: the run.
        settings: the candidate's (`TrainingConfig.resolve`), with one rank where it is an adapter.

    Raises:
        ModelError: as `build_candidate`; or an adapter cannot be had behind the base.
    """
    if settings.query_adapter is None:
        model = build_candidate(settings, seed=context.config.seed)
        yield Trainee(
            model, describe_encoder(model, settings.base_model), lambda folder: save_candidate(model, folder, settings)
        )
        return
    if process_count() > 1:
        raise ModelError("query_adapter takes seconds on one process, and is not trained by several; use one")
    if settings.base_model.startswith(SERVED):
        with closing(RunModels(context)) as models:
            yield _behind_endpoint(context, models, settings.query_adapter)
        return
    base = base_model(context.config)
    try:
        require_unit_queries(base)
    except ModelError as error:
        raise ModelError(f"{settings.base_model}: {error}") from None
    of_base = base_encoder(context.config, base)
    with closing(CachedEncoder(of_base, of_base.fingerprint, context.vectors)) as encoder:
        adapter = new_adapter(settings.query_adapter, encoder, seed=context.config.seed)

        def save(folder: Path) -> None:
            with_query_adapter(base, adapter).save_pretrained(str(folder), create_model_card=False)

        yield Trainee(
            model_of(encoder, adapter, similarity=base.similarity_fn_name),
            describe_adapter(adapter, settings.base_model),
            save,
            lambda examples: embed_rows(encoder, examples),
        )


def _behind_endpoint(context: RunContext, models: RunModels, settings: QueryAdapterConfig) -> Trainee:
    journal = models.journal
    adapter = QueryAdapter(
        len(journal.probe()), settings.kind, settings.ranks(choose=False)[0], seed=context.config.seed
    )

    def prepare(examples: Sequence[GradedExample]) -> None:
        queries, passages = (
            dict.fromkeys(row.query for row in examples),
            dict.fromkeys(chain(*map(_passages, examples))),
        )
        journal.reserve(list(queries), list(passages))
        embed_rows(journal, examples)

    return Trainee(
        model_of(journal, adapter),
        describe_adapter(adapter, models.reference),
        lambda folder: models.save_adapter(folder, adapter),
        prepare,
    )


def new_adapter(settings: QueryAdapterConfig, encoder: Encoder, *, seed: int) -> QueryAdapter:
    """An adapter for an encoder's vectors, which moves nothing yet.

    Args:
        settings: with one rank.
        encoder: whose vectors it moves.
        seed: of its first values.
    """
    dimensions = encoder.encode_queries(["a"]).shape[1]
    (rank,) = settings.ranks(choose=False)
    return QueryAdapter(dimensions, settings.kind, min(rank, dimensions), seed=seed)


def describe_adapter(adapter: QueryAdapter, base: str) -> str:
    """An adapter in a line."""
    weights = sum(parameter.numel() for parameter in adapter.parameters())
    rank = f" of rank {adapter.rank}" if adapter.rank else ""
    return f"{adapter.kind} adapter{rank}, {weights:,} weights, behind the {adapter.dimensions} dimensions of {base}"


def embed_rows(encoder: Encoder, examples: Sequence[GradedExample]) -> None:
    """Embed every text of graded rows, so that training finds the vectors in the encoder's cache.

    Args:
        encoder: one that keeps what it has embedded.
        examples: graded rows.
    """
    for start in range(0, len(examples), _ROWS_A_TURN):
        rows = [examples[place] for place in range(start, min(start + _ROWS_A_TURN, len(examples)))]
        encoder.encode_queries(list(dict.fromkeys(row.query for row in rows)))
        encoder.encode_documents(list(dict.fromkeys(text for row in rows for text in _passages(row))))


def _passages(row: GradedExample) -> Iterator[str]:
    yield row.positive
    yield from (passage.text for passage in row.further_positives)
    yield from (negative.text for negative in row.negatives)
    if row.scale is not None:  # candidates are read where a teacher scored them
        yield from (passage.text for passage in row.candidates)
