"""Candidates while they are tuned: a whole model, or an adapter behind vectors that the base model gave once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from sentence_transformers import SentenceTransformer

from multigrain.config import QueryAdapterConfig, TrainingConfig
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.protocol import Encoder
from multigrain.encoders.stored import model_of, with_stored_documents
from multigrain.errors import ModelError
from multigrain.model.encoder import build_candidate, describe_encoder, save_candidate
from multigrain.model.query_adapter import QueryAdapter
from multigrain.model.query_side import document_side, require_unit_queries, with_query_adapter
from multigrain.records import GradedExample
from multigrain.stages.base import RunContext
from multigrain.stages.models import RunModels
from multigrain.training.processes import as_main_says, is_main_process, process_count

_ROWS_A_TURN = 2_000


@dataclass(frozen=True)
class Trainee:
    """A candidate while it is tuned.

    Attributes:
        model: what the trainer tunes, in place.
        words: what it is, in a line.
        save: writes it, tuned, into an empty folder as it is used.
        prepare: embeds what training will read, where that is done once; None where nothing is.
        saved: what its folder holds, where that is more than the model.
    """

    model: SentenceTransformer
    words: str
    save: Callable[[Path], None]
    prepare: Callable[[Sequence[GradedExample]], None] | None = None
    saved: SentenceTransformer | None = None


@contextmanager
def open_trainee(context: RunContext, settings: TrainingConfig, models: RunModels | None = None) -> Iterator[Trainee]:
    """A candidate before it is tuned.

    Args:
        context: the run.
        settings: the candidate's (`TrainingConfig.resolve`), with one rank where it is an adapter.
        models: hold the base that an adapter moves, for one candidate after another; None loads it for this one.

    Raises:
        ModelError: as `build_candidate`; or an adapter cannot be had behind the base.
    """
    if settings.query_adapter is None:
        model = build_candidate(settings, seed=context.config.seed)
        whole = Trainee(
            model, describe_encoder(model, settings.base_model), lambda folder: save_candidate(model, folder, settings)
        )
        # A guide reads the tokens of documents too.
        if settings.side == "both" or settings.loss == "guided":
            yield whole
            return
        with (
            nullcontext(models) if models is not None else closing(RunModels(context)) as opened,
            closing(opened.documents(document_side(model))) as documents,
        ):
            yield _beside_vectors(whole, documents)
        return
    if process_count() > 1:
        raise ModelError("query_adapter takes seconds on one process, and is not trained by several; use one")
    with nullcontext(models) if models is not None else closing(RunModels(context)) as opened:
        behind = _behind_endpoint if opened.is_served else _behind_model
        yield behind(opened, settings.query_adapter, context.config.seed)


def _beside_vectors(whole: Trainee, documents: CachedEncoder) -> Trainee:
    """A candidate whose queries alone are tuned: its documents, which stay as they are, are embedded once."""

    def prepare(examples: Sequence[GradedExample]) -> None:
        if is_main_process():
            embed_passages(documents, examples)
        as_main_says([])  # the others find what it has embedded, where they share its disk
        if not is_main_process():
            embed_passages(documents, examples)

    return replace(whole, model=with_stored_documents(whole.model, documents), prepare=prepare, saved=whole.model)


def _behind_model(models: RunModels, settings: QueryAdapterConfig, seed: int) -> Trainee:
    base, encoder = models.base
    try:
        require_unit_queries(base)
    except ModelError as error:
        raise ModelError(f"{models.reference}: {error}") from None
    adapter = new_adapter(settings, encoder, seed=seed)

    def save(folder: Path) -> None:
        with_query_adapter(base, adapter).save_pretrained(str(folder), create_model_card=False)

    return Trainee(
        model_of(encoder, adapter, similarity=base.similarity_fn_name),
        describe_adapter(adapter, models.reference),
        save,
        lambda examples: embed_rows(encoder, examples),
        saved=base,
    )


def _behind_endpoint(models: RunModels, settings: QueryAdapterConfig, seed: int) -> Trainee:
    journal = models.journal
    adapter = QueryAdapter(len(journal.probe()), settings.kind, settings.ranks(choose=False)[0], seed=seed)

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


def embed_rows(encoder: CachedEncoder, examples: Sequence[GradedExample]) -> None:
    """Embed every text of graded rows that is not known yet, so that training finds the vectors.

    Args:
        encoder: keeps what it has embedded.
        examples: graded rows.
    """
    for rows in _in_turns(examples):
        if queries := encoder.missing([row.query for row in rows], "query"):
            encoder.encode_queries(queries)
    embed_passages(encoder, examples)


def embed_passages(encoder: CachedEncoder, examples: Sequence[GradedExample]) -> None:
    """Embed every document of graded rows that is not known yet.

    Args:
        encoder: keeps what it has embedded.
        examples: graded rows.
    """
    for rows in _in_turns(examples):
        if passages := encoder.missing([text for row in rows for text in _passages(row)], "document"):
            encoder.encode_documents(passages)


def _in_turns(examples: Sequence[GradedExample]) -> Iterator[list[GradedExample]]:
    """Rows that are read from the disk as they are asked for, and held so many at a time."""
    for start in range(0, len(examples), _ROWS_A_TURN):
        yield [examples[place] for place in range(start, min(start + _ROWS_A_TURN, len(examples)))]


def _passages(row: GradedExample) -> Iterator[str]:
    yield row.positive
    yield from (passage.text for passage in row.further_positives)
    yield from (negative.text for negative in row.negatives)
    if row.scale is not None:  # candidates are read where a teacher scored them
        yield from (passage.text for passage in row.candidates)
