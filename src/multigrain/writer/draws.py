"""What a writer answers to a run's own prompts, audited as the run's rows were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.stats import binomtest

from multigrain.audit.evaluation_sets import Contamination, find_contamination
from multigrain.audit.run import audit_rows
from multigrain.config import Config, LLMConfig
from multigrain.encoders.protocol import Encoder, Floats
from multigrain.encoders.reference import open_reference
from multigrain.engine.local import LocalEngine
from multigrain.llm.build import total_concurrency
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient
from multigrain.mining.best import Rows
from multigrain.mining.vectors import corpus_vectors
from multigrain.records import Document
from multigrain.sources.words import fold_words
from multigrain.stages.base import RunContext
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.sequences import View
from multigrain.synthesis.likelihood import ranked_examples
from multigrain.synthesis.strategies.from_task import for_tasks
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.style import style_queries
from multigrain.synthesis.synthesize import build_strategy
from multigrain.writer.attempts import attempt_rows
from multigrain.writer.grading import GradedCompletion, Verdicts, grade_completions, round_trip_ranks
from multigrain.writer.run_data import training_pool

_SEED_STEP: Final = 1_000_003  # between draws: larger than any number of rows that seeds count up by
_SIMILAR: Final = 2_000  # queries whose nearest neighbour is looked for


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How well a writer wrote.

    Attributes:
        asked: rows that were asked for.
        kept: rows that the audit kept.
        share: kept / asked.
        low: end of its 95% interval (Wilson).
        high: the other end.
        reward: mean reward of the completions that were judged, 0 to 1; None where none was.
        distinct_1: different words among all words of the written queries.
        distinct_2: different word pairs among all word pairs.
        self_similarity: mean cosine of a query to the nearest other one, by the reference model; None below two.
    """

    asked: int
    kept: int
    share: float
    low: float
    high: float
    reward: float | None
    distinct_1: float
    distinct_2: float
    self_similarity: float | None

    def plain(self) -> dict[str, Any]:
        """As JSON-like values, rounded."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Draw:
    """What a writer answered.

    Attributes:
        completions: graded.
        acceptance: in figures.
    """

    completions: tuple[GradedCompletion, ...]
    acceptance: Acceptance


@dataclass(frozen=True)
class Measure:
    """What a run's rows are measured with.

    Attributes:
        reference: the model.
        pool: the training documents.
        vectors: (len(pool), d) theirs.
        contamination: the evaluation sets that no row may be in.
    """

    reference: Encoder
    pool: Sequence[Document]
    vectors: Rows
    contamination: Contamination | None


@contextmanager
def open_measure(config: Config, run: RunDirectory) -> Iterator[Measure]:
    """The run's reference model and training documents, as its audit had them.

    Raises:
        ModelError: the reference cannot be loaded.
    """
    pool = training_pool(run)
    with open_reference(config, cache=RunContext(config, run).vectors) as reference:
        texts: Sequence[str] = View(pool, attrgetter("text"))
        vectors = corpus_vectors(reference, texts, run.path / "dataset" / "vectors")
        yield Measure(reference, pool, vectors, find_contamination(config, reference))


def draw_rows(
    config: Config,
    run: RunDirectory,
    llm: LLMConfig,
    units: Sequence[WritingUnit],
    measure: Measure,
    *,
    journal: Path,
    number: int = 0,
) -> Draw:
    """Have a writer answer the prompts of units, and audit what comes. Language models that judge are not asked.

    Args:
        config: the run's.
        run: the run.
        llm: the writer.
        units: of the training side.
        measure: see `open_measure`.
        journal: keeps the answers.
        number: of the draw: another one samples with other seeds.

    Raises:
        LLMError: the model cannot be used.
    """
    seed = config.seed + _SEED_STEP * number
    strategy = build_strategy(config.synthesis, llm, seed=seed, demonstrations=ranked_examples(config, run, ask=False))
    if config.start_from == "tasks":
        strategy = for_tasks(strategy, config.synthesis, llm, seed=seed)
    with LocalEngine(concurrency=total_concurrency(llm)) as engine, Journal(journal) as kept:
        model = engine.client(llm, seed=config.seed)
        try:
            client = JournaledClient(model, kept, strategy=strategy.name)
            attempts = list(attempt_rows(units, strategy, client, engine, style=style_queries(config)))
        finally:
            engine.run(model.aclose())
    rows = [attempt.row for attempt in attempts if attempt.row is not None]
    reference = measure.reference
    audited = audit_rows(
        rows,
        measure.pool,
        config.audit_in_use,
        encode_queries=reference.encode_queries,
        encode_documents=reference.encode_documents,
        pool_vectors=measure.vectors,
        seed=config.seed,
        contamination=measure.contamination,
    )
    verdicts = Verdicts.of(audited.examples, audited.rejections)
    ranks = round_trip_ranks([row for row in rows if not row.given], measure.pool, measure.vectors, reference)
    completions = tuple(grade_completions(attempts, verdicts, ranks))
    queries = [row.query for row in rows if not row.given]
    vectors = reference.encode_queries(queries[:_SIMILAR]) if queries else None
    return Draw(completions, _acceptance(len(units), len(audited.examples), completions, queries, vectors))


def _acceptance(
    asked: int, kept: int, completions: Sequence[GradedCompletion], queries: Sequence[str], vectors: Floats | None
) -> Acceptance:
    interval = binomtest(kept, max(asked, 1)).proportion_ci(method="wilson")
    rewards = [completion.reward for completion in completions]
    return Acceptance(
        asked=asked,
        kept=kept,
        share=kept / max(asked, 1),
        low=float(interval.low),
        high=float(interval.high),
        reward=float(np.mean(rewards)) if rewards else None,
        distinct_1=distinct_share(queries, 1),
        distinct_2=distinct_share(queries, 2),
        self_similarity=None if vectors is None or len(vectors) < 2 else self_similarity(vectors),
    )


def distinct_share(texts: Sequence[str], n: int) -> float:
    """Different word n-grams of all texts together, as a share of their n-grams (distinct-n, arXiv 1510.03055)."""
    grams = [
        tuple(words[start : start + n])
        for text in texts
        for words in [fold_words(text).split()]
        for start in range(len(words) - n + 1)
    ]
    return len(set(grams)) / len(grams) if grams else 0.0


def self_similarity(vectors: Floats) -> float:
    """Mean cosine of a vector to its nearest other one: (n, d), of length 1, n at least 2."""
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    return float(similarities.max(1).mean())
