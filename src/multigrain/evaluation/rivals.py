"""Rivals of a run's models on its test queries: BM25, BM25 and the tuned model together, ready-made models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from multigrain.config import Config
from multigrain.display.progress import Progress
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.facts import BM25, HYBRID, EncodingFacts, ModelCost
from multigrain.encoders.models import Encoding, ModelSpec, facts_of, open_encoder, parse_model
from multigrain.encoders.protocol import Encoder
from multigrain.encoders.served import SERVED
from multigrain.errors import EvaluationError, MultigrainError
from multigrain.evaluation.cost import SAMPLE, lexical_cost, model_cost
from multigrain.evaluation.per_query import QueryRow, query_rows
from multigrain.evaluation.results import BASE
from multigrain.evaluation.retrieval import (
    BM25Retriever,
    DenseRetriever,
    HybridRetriever,
    Retriever,
    SetScores,
    evaluate_retriever,
)
from multigrain.evaluation.rival import Rival, RivalScores
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.searched import sampled_texts
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import compare_paired

_UNTUNED: Final = (BM25, HYBRID)
_MOST_IN_WORDS: Final = 200_000
"""Documents up to which rivals that count words are tried: their index lies in memory."""
_BYTES_A_DOCUMENT: Final = 4_000


def rivals_of(config: Config) -> list[ModelSpec]:
    """The rivals that a config names.

    Raises:
        EvaluationError: one cannot be understood, or has the name of another or of a model of the run.
    """
    taken = {BASE, *config.training.candidates}
    specs = []
    for text in config.evaluation.rivals:
        spec = parse_model(text)
        if spec.name in taken:
            raise EvaluationError(f"evaluation.rivals: {spec.name!r} is taken; name it: OTHER={text}")
        taken.add(spec.name)
        specs.append(spec)
    return specs


@dataclass
class ScoredRivals:
    """What came out.

    Attributes:
        scores: rival to test set to its scores; a rival that was skipped has none.
        costs: rival to what it costs.
        facts: rival to what decides its figures besides its weights; those without vectors have none.
        skipped: rival to why it could not be had.
    """

    scores: dict[str, dict[str, SetScores]] = field(default_factory=dict)
    costs: dict[str, ModelCost] = field(default_factory=dict)
    facts: dict[str, EncodingFacts] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def rows(self, sets: Sequence[EvaluationSet]) -> Iterator[QueryRow]:
        """Every query of every set, for every rival."""
        for chosen in sets:
            for name, by_set in self.scores.items():
                if chosen.name in by_set:
                    yield from query_rows(chosen, name, by_set[chosen.name])

    def rivals(
        self,
        specs: Sequence[ModelSpec],
        sets: Mapping[str, EvaluationSet],
        own: Mapping[str, Mapping[str, SetScores]],
        against: Sequence[str],
        settings: CompareSettings,
    ) -> tuple[Rival, ...]:
        """The rivals with their paired differences from models of the run.

        Args:
            specs: all of them, those that were skipped too.
            sets: the test sets, by name.
            own: test set to model of the run to its scores.
            against: models of the run.
            settings: how to compare.
        """
        return tuple(
            Rival(
                name=spec.name,
                reference=spec.reference,
                tunable=spec.reference not in _UNTUNED and not spec.reference.startswith(SERVED),
                sets={
                    set_name: RivalScores(
                        score=scores.ndcg_at_10,
                        metrics=scores.metrics,
                        over={
                            name: compare_paired(
                                own[set_name][name].ndcg_by_query,
                                scores.ndcg_by_query,
                                settings,
                                sets[set_name].clusters,
                            )
                            for name in against
                            if name in own[set_name]
                        },
                    )
                    for set_name, scores in self.scores.get(spec.name, {}).items()
                },
                skipped=self.skipped.get(spec.name, ""),
            )
            for spec in specs
        )


def score_rivals(
    specs: Sequence[ModelSpec],
    sets: Sequence[EvaluationSet],
    encoding: Encoding,
    *,
    model: Encoder,
    cost: ModelCost,
    progress: Progress,
    too_dear: Callable[[str, Iterable[str]], str] = lambda reference, texts: "",
) -> ScoredRivals:
    """Score rivals on test sets, one model in memory at a time. One that cannot be had is named and skipped.

    Args:
        specs: the rivals.
        sets: the test sets.
        encoding: how models are loaded; its cache keeps their vectors, so that an interrupted call goes on.
        model: the run's model that is searched together with BM25.
        cost: that model's.
        progress: who is told.
        too_dear: why what a model, by its reference, would read is more than may be spent; empty where it is not.
    """
    scored, lexical = ScoredRivals(), BM25Retriever()
    if not sets:
        return scored
    for spec in specs:
        try:
            if words := too_dear(spec.reference, _read_by_a_rival(sets)):
                raise EvaluationError(words)
            with (
                progress.task(f"Evaluating {spec.name}", len(sets), unit="sets") as task,
                _opened(spec, encoding, sets, scored, lexical=lexical, model=model, cost=cost) as retriever,
            ):
                for chosen in sets:
                    scores = evaluate_retriever(retriever, chosen)
                    scored.scores.setdefault(spec.name, {})[chosen.name] = scores
                    task.advance(note=f"{chosen.name} nDCG@10 {scores.ndcg_at_10:.3f}")
        except MultigrainError as error:
            for found in (scored.scores, scored.costs, scored.facts):
                found.pop(spec.name, None)
            scored.skipped[spec.name] = str(error)
            progress.say(f"rival {spec.name} is skipped: {error}")
    return scored


def _read_by_a_rival(sets: Sequence[EvaluationSet]) -> Iterator[str]:
    """Every text once, as the cache of vectors keeps them."""
    seen: set[bytes] = set()
    for texts in (*(chosen.corpus for chosen in sets), {}, *(chosen.queries for chosen in sets)):
        if not texts:
            seen.clear()  # a query's vector is another than a document's
        for text in texts.values():
            key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if key not in seen:
                seen.add(key)
                yield text


@contextmanager
def _opened(
    spec: ModelSpec,
    encoding: Encoding,
    sets: Sequence[EvaluationSet],
    scored: ScoredRivals,
    *,
    lexical: Retriever,
    model: Encoder,
    cost: ModelCost,
) -> Iterator[Retriever]:
    """A rival as something that ranks, its cost and facts noted."""
    texts = _sample(sets[0])
    if spec.reference in _UNTUNED:
        if (most := max(len(chosen.corpus) for chosen in sets)) > _MOST_IN_WORDS:
            raise EvaluationError(
                f"the index of words of {most:,} documents would take some {most * _BYTES_A_DOCUMENT / 2**30:.1f} GiB "
                "of memory; where there is that much, `multigrain evaluate bm25 --set SET` searches them"
            )
        words = lexical_cost(texts)
        scored.costs[spec.name] = words if spec.reference == BM25 else words.beside(cost)
        yield (
            lexical
            if spec.reference == BM25
            else HybridRetriever((lexical, DenseRetriever(model, shards=encoding.shards)))
        )
        return
    with open_encoder(spec, encoding) as (encoder, loaded):
        uncached = encoder if loaded is None else SentenceTransformerEncoder(loaded, batch_size=encoding.batch_size)
        scored.costs[spec.name] = model_cost(loaded, uncached, texts)
        scored.facts[spec.name] = facts_of(spec, loaded)
        yield DenseRetriever(encoder, shards=encoding.shards)


def _sample(chosen: EvaluationSet) -> list[str]:
    return sampled_texts(chosen.corpus, SAMPLE)[:SAMPLE]


def sample_texts(sets: Sequence[EvaluationSet]) -> list[str]:
    """Documents of the first set to measure costs on; none where there is no set."""
    return _sample(sets[0]) if sets else []
