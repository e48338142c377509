"""The models of a run as its stages load them: the base, the candidates, and what embeds texts with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from multigrain.encoders.adapted import AdapterNote, load_adapted, save_adapted
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.encoder import SentenceTransformerEncoder, encode, encoding_facts
from multigrain.encoders.facts import EncodingFacts
from multigrain.encoders.journaled import PROBE, JournaledEncoder
from multigrain.encoders.protocol import Encoder
from multigrain.encoders.query_side import QuerySideEncoder
from multigrain.encoders.reference import base_encoder, base_model, encoding_precision, open_reference
from multigrain.encoders.served import SERVED, ServedEncoder
from multigrain.encoders.stored import model_of
from multigrain.errors import ModelError
from multigrain.evaluation.results import BASE
from multigrain.model.encoder import load
from multigrain.model.loading import is_raw
from multigrain.model.query_adapter import QueryAdapter
from multigrain.model.query_side import document_side
from multigrain.stages.base import RunContext
from multigrain.stages.document_vectors import import_document_vectors
from multigrain.stages.spending import allow_embedding, base_cost

_PROBES = ("a", "The quick brown fox jumps over the lazy dog.", "0 1 2 3", "¿Dónde está la biblioteca?")


class RunModels:
    """Loads the models of one run; close it to let go of what is kept of an endpoint.

    Args:
        context: the run.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.reference = context.config.training.base_model

    @property
    def is_served(self) -> bool:
        """Whether the base is behind an endpoint; then its candidates are adapters."""
        return self.reference.startswith(SERVED)

    @cached_property
    def journal(self) -> JournaledEncoder:
        """The base behind an endpoint, with all that it has embedded for this run.

        Raises:
            ConfigError: the endpoint's address cannot be, or has no key; or more would be spent than may be.
            EvaluationError: the endpoint's vectors changed, or those of `training.document_vectors` are others.
        """
        context, prompts = self.context, self.context.config.training.prompts.resolved({})
        endpoint = ServedEncoder(
            self.reference,
            batch_size=context.config.evaluation.batch_size,
            query_prompt=prompts.get("query") or "",
            document_prompt=prompts.get("document") or "",
        )
        journal = JournaledEncoder(endpoint, context.vectors or context.run.vectors_path)
        journal.allow = partial(allow_embedding, context, self.reference, journal)
        import_document_vectors(context, journal)
        return journal

    @property
    def paid(self) -> float | None:
        """US dollars for what the base has embedded; None for one that runs here, and where its price is unknown."""
        return base_cost(self.context.config, self.journal.usage) if self.is_served else None

    def embedded(self) -> dict[str, Any]:
        """What a base behind an endpoint has embedded for the whole run, as a manifest's counts; it is said, too."""
        if not self.is_served:
            return {}
        usage, cost = self.journal.usage, self.paid
        dollars = "" if cost is None else f", ${cost:.4f}"
        self.context.progress.say(
            f"{self.reference} has embedded {usage.tokens:,} tokens in {usage.requests:,} requests{dollars}"
        )
        return {"base_embeddings": {**asdict(usage), "cost": cost}}

    @cached_property
    def base(self) -> tuple[SentenceTransformer, CachedEncoder]:
        """The base model, and what embeds each text once with it, for all who want it.

        Raises:
            ModelError: it cannot be loaded.
        """
        model = self.model(BASE)
        return model, self.encoder(BASE, model)

    def close(self) -> None:
        """Let go of what keeps vectors, where it was opened."""
        if "base" in self.__dict__:
            self.base[1].close()
        if "journal" in self.__dict__:
            self.journal.close()

    def model(self, name: str) -> SentenceTransformer:
        """The base model, or a candidate as it was saved.

        Raises:
            ModelError: it cannot be loaded.
        """
        if name == BASE:
            return model_of(self.journal) if self.is_served else base_model(self.context.config)
        return self.saved(self.context.run.candidate_path(name))

    def saved(self, folder: Path) -> SentenceTransformer:
        """A tuned model of the run from its folder.

        Raises:
            ModelError: it cannot be loaded.
        """
        if self.is_served:
            return load_adapted(folder, encoder=self.journal)
        return load(str(folder), trust_remote_code=self.context.config.training.trust_remote_code)

    def encoder(self, name: str, model: SentenceTransformer, base: CachedEncoder | None = None) -> CachedEncoder:
        """A model that embeds each text once; what the audit embedded with the base model, the base model need not.

        Documents of a candidate whose queries alone were tuned are those of the base model, and not embedded again.

        Args:
            name: of the model.
            model: `model` of that name.
            base: the base model's encoder; needed for every other model.

        Raises:
            ModelError: a candidate's documents should have the base model's vectors, and have others.
        """
        context = self.context
        if name == BASE:
            if self.is_served:
                return self.journal
            of_base = base_encoder(context.config, model)
            return CachedEncoder(of_base, of_base.fingerprint, context.vectors)
        encoder = SentenceTransformerEncoder(model, batch_size=context.config.evaluation.batch_size)
        if base is None or context.config.training.resolve(name).side == "both":
            return CachedEncoder(encoder, encoder.fingerprint)
        if not self.is_served:  # an endpoint's documents are the base's by their making
            self._require_base_documents(name, model, base)
        one_sided = QuerySideEncoder(encoder, base)
        return CachedEncoder(one_sided, one_sided.fingerprint)

    def documents(self, model: SentenceTransformer) -> CachedEncoder:
        """The base model for documents that are trained on as they are: kept on the disk, however many there are.

        Args:
            model: the base, or the document side of a candidate whose queries alone are tuned.
        """
        of_base = base_encoder(self.context.config, model)
        return CachedEncoder(of_base, of_base.fingerprint, self.context.vectors or self.context.run.vectors_path)

    def facts(self, name: str, model: SentenceTransformer) -> EncodingFacts:
        """What decides a model's figures besides its weights."""
        if self.is_served:
            return self.journal.facts or EncodingFacts()
        return encoding_facts(model, guessed=name == BASE and is_raw(self.reference))

    def save_base(self, folder: Path) -> None:
        """Write the base as it is used: of one behind an endpoint an adapter that moves nothing."""
        if not self.is_served:
            base_model(self.context.config).save_pretrained(str(folder), create_model_card=False)
            return
        self.save_adapter(folder, QueryAdapter(len(self.journal.probe()), "low-rank", 1))

    def save_adapter(self, folder: Path, adapter: QueryAdapter) -> None:
        """Write an adapter for a base behind an endpoint."""
        prompts = self.journal.endpoint.prompts
        note = AdapterNote(
            base=self.reference,
            kind=adapter.kind,
            rank=adapter.rank,
            dimensions=adapter.dimensions,
            query_prompt=prompts["query"],
            document_prompt=prompts["document"],
            probe=PROBE,
            probe_vector=self.journal.probe().tolist(),
            since=self.journal.since,
        )
        save_adapted(folder, note, adapter)

    def _require_base_documents(self, name: str, model: SentenceTransformer, base: CachedEncoder) -> None:
        """See that a model embeds documents as the base does: by equal weights and settings, or else bit by bit."""
        config = self.context.config
        documents = document_side(model)
        if base_encoder(config, documents).fingerprint == base.fingerprint:
            return
        of_base = base_model(config)
        with encoding_precision(config, of_base):
            expected, found = (encode(each, _PROBES, role="document") for each in (of_base, documents))
        if not np.array_equal(expected, found):
            raise ModelError(
                f"candidate {name!r}: side: query, and its document vectors are not those of {self.reference} (up to "
                f"{np.abs(expected - found).max():.2g} apart); train it again from the base as it is now"
            )


@contextmanager
def open_models(context: RunContext, name: str) -> Iterator[dict[str, Encoder]]:
    """The encoders of the base and of the run's model, by their names; what the run has embedded by the base is used.

    Args:
        context: the run.
        name: of the candidate that was chosen; it may be the base.

    Raises:
        ModelError: one cannot be loaded.
    """
    with closing(RunModels(context)) as models:
        base, of_base = models.base
        # Vectors of a large corpus are not kept in memory.
        encoders: dict[str, Encoder] = {BASE: of_base if of_base.path is not None else of_base.uncached}
        if name != BASE:
            encoders[name] = models.encoder(name, models.saved(context.run.model_path), of_base).uncached
        with encoding_precision(context.config, base):
            yield encoders


@contextmanager
def open_audit_reference(context: RunContext) -> Iterator[Encoder]:
    """The model that the audit measures with; one behind an endpoint keeps what it has embedded.

    Raises:
        ModelError: it cannot be loaded.
    """
    config = context.config
    with closing(RunModels(context)) as models:
        if models.is_served and config.audit.reference_model == "auto":
            yield models.journal
            return
        with open_reference(config, cache=context.vectors) as reference:
            yield reference
