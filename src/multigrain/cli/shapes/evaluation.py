"""Comparisons: of models on sets, and of arms of an ablation."""

from __future__ import annotations

from pydantic import JsonValue

from multigrain.cli.shapes.base import Shape
from multigrain.encoders.facts import EncodingFacts, ModelCost
from multigrain.evaluation.rival import Rival
from multigrain.evaluation.sets.retrieval_set import Role
from multigrain.evaluation.sets.written import WrittenQuality
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.vector_sizes import VectorSize
from multigrain.evaluation.verdict import ForgettingVerdict, Verdict


class SetAbout(Shape):
    """What a set is for, and who judged it."""

    role: Role | None
    label: str | None
    """Who wrote and judged its queries."""


class Conclusion(SetAbout):
    """A model against the base on one set."""

    set: str
    metric: str
    base: str
    model: str
    queries: int
    base_score: float
    score: float
    difference: PairedDifference
    wins: int | None
    """Queries on which the model is better; null where they have no score of their own."""
    losses: int | None
    adjusted_p: float
    """Corrected (Holm) over all differences that are compared."""
    verdict: Verdict
    queries_needed: int | None
    """About how many queries would tell; null where there are enough."""


class SetScores(SetAbout):
    """Every model on one set."""

    name: str
    queries: int
    documents: int | None
    models: dict[str, dict[str, float | None]]
    """Model to metric to value; null where it was not measured."""
    delta: dict[str, PairedDifference]
    """Model to its difference from the base model."""
    metric: str
    seen_queries: int | None = None
    """Queries that a document answers that was tuned on."""
    notes: tuple[str, ...] = ()
    clusters: int | None = None
    """Groups of queries about one document, or by one person."""
    quality: WrittenQuality | None = None
    """Of queries that a language model wrote."""


class KindScores(Shape):
    """The queries of one kind, e.g. of one length."""

    kind: str
    value: str
    result: SetScores


class Choice(Shape):
    """What to do, over base, tuned model and rivals."""

    verdict: str
    model: str
    reason: str


class Sizes(Shape):
    """Smaller vectors of one model on one set."""

    set: str
    model: str
    queries: int
    clusters: int
    documents: int
    sampled: bool
    threshold: float
    """What a size may lose."""
    trained: list[int]
    sizes: list[VectorSize]
    advised: VectorSize
    sentence: str


class NamedPipeline(Shape):
    """A first stage, alone or under a reranker."""

    name: str
    first_stage: str
    reranker: str
    """Empty for the first stage alone."""
    depth: int
    """How many documents of each query are sorted again."""
    fused: bool
    """Whether by the ranks of both, not by the reranker's scores alone."""


class PipelineScores(NamedPipeline):
    """A first stage, alone or under a reranker, on one set."""

    score: float
    metrics: dict[str, float]
    over: PairedDifference | None
    """From the reference; null for the reference itself."""
    milliseconds: float | None
    """Of one query on this machine; null where it was not measured."""


class DeployedPipeline(NamedPipeline):
    """What to deploy, and why."""

    reason: str


class Reranking(Shape):
    """Search in two steps on one set."""

    set: str
    queries: int
    clusters: int
    documents: int
    reference: str
    """The first stage that all are compared with."""
    pipelines: list[PipelineScores]
    deploy: DeployedPipeline


class ForgettingJudged(Shape):
    """A model on an unrelated set."""

    set: str
    model: str
    verdict: ForgettingVerdict
    change: float
    sentence: str


class Comparison(Shape):
    """What `compare` and `evaluate` print."""

    settings: CompareSettings
    sets: dict[str, SetAbout]
    comparisons: list[Conclusion]
    tasks: dict[str, dict[str, dict[str, JsonValue]]]
    """MTEB task to model to what MTEB measured."""
    models: list[str]
    """The first is the base."""
    facts: dict[str, EncodingFacts]
    forgetting_threshold: float
    rivals: list[Rival]
    costs: dict[str, ModelCost]
    choice: Choice | None
    scores: list[SetScores]
    slices: list[KindScores]
    vector_sizes: list[Sizes]
    reranking: list[Reranking]
    forgetting: list[ForgettingJudged]


class Effect(Shape):
    """An arm against the base, or against the reference arm, on one set."""

    difference: PairedDifference
    adjusted_p: float | None
    size: float
    """The difference in standard deviations over queries."""


class Cell(Shape):
    """An arm on one set."""

    ndcg_at_10: float
    seed_spread: float | None
    """Standard deviation over seeds; null for one seed."""
    from_base: Effect | None
    from_reference: Effect | None


class ArmRow(Shape):
    """An arm of an ablation."""

    arm: str
    values: dict[str, JsonValue]
    """Its settings, by axis."""
    seeds: int
    seconds: float
    rows: int
    chosen: bool
    cells: dict[str, Cell]
    """By set."""


class Ablation(Shape):
    """What `ablate` prints: the table of ablation.csv, and how it was made."""

    axes: list[str]
    """The settings that were varied."""
    reference: str
    """The arm that others are compared with, besides the base model or, of rerankers, the first stage alone."""
    not_run: list[str]
    """Arms and seeds that the budget left out."""
    confidence: float
    data_seconds: float
    tokens: int
    cost: float | None
    ranked_by: list[str]
    """The validation sets that rank the arms."""
    reranked: str
    """Of rerankers what is sorted again, in words; else empty."""
    sets: dict[str, Role | None]
    queries: dict[str, int]
    rows: list[ArmRow]
