"""What rivals behind embedding endpoints are asked in an evaluation: test queries, and the documents they search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from multigrain.config import Config
from multigrain.encoders.served import BATCH_SIZE, SERVED, served_name
from multigrain.errors import MultigrainError
from multigrain.evaluation.rivals import rivals_of
from multigrain.evaluation.sets.loading import open_sets
from multigrain.evaluation.sets.run_sets import MOST_SEEN
from multigrain.llm.prices import about_text_tokens, cost_of, price_of
from multigrain.records import Split
from multigrain.stages.fingerprints import set_paths
from multigrain.synthesis.inputs import Inputs


@dataclass(frozen=True, slots=True)
class EmbeddingEstimate:
    """What one embedder behind an endpoint is asked, at most; what is on the disk already is in it.

    Attributes:
        texts: queries and passages, each once.
        requests: that they go in; those that are halved or sent again not counted.
        tokens: of the texts; a teacher's as if all were as long as the longest that was looked at.
        cost: US dollars; None where the price is unknown.
    """

    texts: int
    requests: int
    tokens: int
    cost: float | None

    def __add__(self, other: EmbeddingEstimate) -> EmbeddingEstimate:
        """Both together; without a cost where one has none."""
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return EmbeddingEstimate(
            self.texts + other.texts, self.requests + other.requests, self.tokens + other.tokens, cost
        )


def rival_embeddings(config: Config, inputs: Inputs, *, query: str) -> dict[str, EmbeddingEstimate]:
    """What each served rival is asked, by its reference. Labelled sets that only a run reads are not counted.

    Args:
        config: the run's.
        inputs: what it starts from.
        query: as long as written queries are at most.

    Raises:
        EvaluationError: a rival cannot be understood.
    """
    served = dict.fromkeys(spec.reference for spec in rivals_of(config) if spec.reference.startswith(SERVED))
    if not served:
        return {}
    groups = list(_groups(config, inputs, about_text_tokens(query)))
    return {reference: embedded_by(config, reference, groups) for reference in served}


def embedded_by(config: Config, reference: str, groups: Sequence[Sequence[int]]) -> EmbeddingEstimate:
    """What an embedder behind an endpoint is asked.

    Args:
        config: the run's.
        reference: the embedder.
        groups: tokens of each text, by what is embedded together.
    """
    name, address = served_name(reference)
    price = price_of(name, base_url=address, prices=config.llm.prices)
    tokens = sum(map(sum, groups))
    cost = None if price is None else cost_of(price, prompt_tokens=tokens, completion_tokens=0)
    requests = sum(math.ceil(len(group) / BATCH_SIZE) for group in groups)
    return EmbeddingEstimate(sum(map(len, groups)), requests, tokens, cost)


def evaluated_by_base(config: Config, inputs: Inputs, *, query: str) -> Iterator[list[int]]:
    """Tokens of each text that the base model embeds for evaluation, and to choose by, by what is embedded together.

    Args:
        config: the run's.
        inputs: what it starts from.
        query: as long as written queries are at most.
    """
    if config.training.document_vectors is None:
        yield [about_text_tokens(document.text) for document in inputs.documents]
    if config.evaluation.queries != "none":
        written = about_text_tokens(query)
        yield _own_queries(config, inputs, written)
        chosen_by = (each for each in inputs.documents if each.split is Split.VALIDATION)
        yield [about_text_tokens(each.title) if each.title else written for each in chosen_by]
    yield from _labelled(config, ("test", "validation", "forgetting"))


def _groups(config: Config, inputs: Inputs, written: int) -> Iterator[list[int]]:
    """Tokens of each text, by what is embedded together: the documents and the queries of each test set."""
    if config.evaluation.queries != "none":
        queries = _own_queries(config, inputs, written)
        if queries:
            yield [about_text_tokens(document.text) for document in inputs.documents]
            yield queries
    yield from _labelled(config, ("test",))


def _labelled(config: Config, roles: Sequence[str]) -> Iterator[list[int]]:
    for settings in config.evaluation.sets:
        if settings.role not in roles or not set_paths(settings):
            continue
        try:
            opened = open_sets([settings], seed=config.seed)
        except MultigrainError:
            continue  # the run says why it cannot be read, before anything is paid for
        for chosen in opened.retrieval:
            yield list(map(about_text_tokens, chosen.corpus.values()))
            yield list(map(about_text_tokens, chosen.queries.values()))


def _own_queries(config: Config, inputs: Inputs, written: int) -> list[int]:
    """Tokens of each test query over the run's own documents, those on documents that are tuned on among them."""
    if config.start_from == "pairs":
        return [about_text_tokens(query.text) for query in inputs.queries if query.split is Split.TEST]
    asked = [
        about_text_tokens(document.title) if document.title else written
        for document in inputs.documents
        if document.split is Split.TEST
    ]
    if config.evaluation.seen_documents:
        seen = (d.title for d in inputs.documents if d.split is Split.TRAIN and d.title)
        asked += [about_text_tokens(title) for _, title in zip(range(MOST_SEEN), seen, strict=False)]
    return asked
