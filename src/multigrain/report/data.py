"""What the report shows, as typed records: read once by `load`, drawn by `render`, nothing in between.

Scores are shares in 0..1 (nDCG@10, recall@10); differences are in the same unit, so +0.033 is +3.3 points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from multigrain.audit.probe import SourceProbe
from multigrain.records import GradedExample
from multigrain.report.counts import Answers, HeldOut
from multigrain.report.reproduction import Reproduction
from multigrain.training.log import TrainingLog

__all__ = [
    "AnchorText",
    "AnchorToken",
    "AuditSummary",
    "DocumentCounts",
    "Drop",
    "DropExample",
    "Evaluation",
    "EvaluationSet",
    "Interval",
    "ModelScore",
    "QueryChange",
    "QueryChanges",
    "ReportData",
    "Reproduction",
    "Similarity",
    "SimilarityBand",
    "SynthesisCounts",
    "Verdict",
]

Verdict = Literal["better", "unclear", "worse"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference and its bootstrap interval.

    Attributes:
        mean: the difference.
        low: lower end of the interval.
        high: upper end.
        p_value: of the paired test, where one was made.
    """

    mean: float
    low: float
    high: float
    p_value: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What may be claimed: a difference only where the whole interval lies on one side of zero."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "unclear"


@dataclass(frozen=True, slots=True)
class ModelScore:
    """One model on one set.

    Attributes:
        name: "base" or a candidate's name.
        score: the set's metric; for retrieval the mean of nDCG@10 over queries.
        recall_at_10: mean over queries; None where nothing is retrieved.
        recall_at_100: as above.
        mrr_at_10: as above.
        delta: the score minus the base model's, paired by query; None for the base itself.
    """

    name: str
    score: float
    recall_at_10: float | None
    delta: Interval | None = None
    recall_at_100: float | None = None
    mrr_at_10: float | None = None


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """One set and every model's score on it, base first.

    Attributes:
        name: what tables call it.
        role: validation chose the model, test judges it, forgetting must not get worse.
        label: what the queries are, e.g. "human-written summary lines".
        queries: number of queries or pairs; 0 where a task has one number and no parts.
        documents: number of documents searched; None where nothing is.
        scores: in the order of the models, those the set was run with.
        metric: what the scores are.
    """

    name: str
    role: Literal["validation", "test", "forgetting"]
    label: str
    queries: int
    documents: int | None
    scores: tuple[ModelScore, ...]
    metric: str = "nDCG@10"

    def score(self, model: str) -> ModelScore | None:
        """The score of one model, or None where it was not run on this set."""
        return next((each for each in self.scores if each.name == model), None)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every set, every model, and the choice between them.

    Attributes:
        chosen: the model that the run recommends.
        chosen_by: the figure that chose it.
        models: all names, base first.
        sets: in the order they were run.
        bootstrap_samples: resamples behind each interval.
        confidence: of the intervals, e.g. 0.95.
        seed: of the resampling.
        forgetting_threshold: what the chosen model may lose on an unrelated set, on a scale of 0 to 1.
        chosen_on: the validation sets that chose, by name; empty where all of them did.
    """

    chosen: str
    chosen_by: str
    models: tuple[str, ...]
    sets: tuple[EvaluationSet, ...]
    bootstrap_samples: int
    confidence: float
    seed: int
    forgetting_threshold: float = 0.01
    chosen_on: tuple[str, ...] = ()

    def chose(self, each: EvaluationSet) -> bool:
        """Whether a set had a share in the choice."""
        return each.role == "validation" and (not self.chosen_on or each.name in self.chosen_on)

    def with_role(self, role: str) -> tuple[EvaluationSet, ...]:
        """The sets that play one role."""
        return tuple(each for each in self.sets if each.role == role)

    @property
    def headline_set(self) -> EvaluationSet | None:
        """The first test set, one of queries before any other: the one the report's first sentence speaks of."""
        tested = self.with_role("test")
        return next((each for each in tested if each.metric == "nDCG@10"), next(iter(tested), None))


@dataclass(frozen=True, slots=True)
class QueryChange:
    """One query before and after.

    Attributes:
        query: the query.
        base_ndcg: nDCG@10 of the base model.
        chosen_ndcg: nDCG@10 of the chosen model.
        base_rank: rank of the first relevant document, 1 is the top; None where it was not found.
        chosen_rank: the same for the chosen model.
        relevant: the relevant document's beginning, where the run knows its text.
        intruder: the beginning of the wrong document that the worse of the two models put first, where known.
        relevant_id: the relevant document's id.
        intruder_id: the wrong document's id.
    """

    query: str
    base_ndcg: float
    chosen_ndcg: float
    base_rank: int | None
    chosen_rank: int | None
    relevant: str | None = None
    intruder: str | None = None
    relevant_id: str | None = None
    intruder_id: str | None = None

    @property
    def change(self) -> float:
        """nDCG@10 of chosen minus base."""
        return self.chosen_ndcg - self.base_ndcg


@dataclass(frozen=True, slots=True)
class QueryChanges:
    """How one set's queries moved from the base to the chosen model.

    Attributes:
        set_name: the set.
        better: queries whose nDCG@10 rose.
        same: queries whose nDCG@10 stayed.
        worse: queries whose nDCG@10 fell.
        base_first: queries for which the base model puts a relevant document first.
        chosen_first: queries for which the chosen model does.
        wins: the largest rises, largest first.
        losses: the largest falls, largest first.
    """

    set_name: str
    better: int
    same: int
    worse: int
    base_first: int
    chosen_first: int
    wins: tuple[QueryChange, ...]
    losses: tuple[QueryChange, ...]


@dataclass(frozen=True, slots=True)
class DocumentCounts:
    """What went in, by split: documents, given queries (a run from pairs) or tasks, and where they came from."""

    train: int
    validation: int
    test: int
    source: str
    documents: int = 0
    queries: int = 0
    tasks: int = 0
    groups: int = 0
    too_short: int = 0
    cut: int = 0
    chunked: int = 0
    repeated: int = 0
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class SynthesisCounts:
    """What the language model was asked for and what came back.

    Attributes:
        requested: work units asked for.
        written: rows that parsed.
        failed: units that gave no row, by kind.
        prompt_tokens: tokens read by the model.
        completion_tokens: tokens written by it.
        model: its identity.
        strategy: how it was asked.
        stopped_by_budget: whether the time budget ended it.
        stopped_by_limit: whether the limit on cost or tokens ended it.
        cost: dollars for all completions; None where no price is known.
    """

    requested: int
    written: int
    failed: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    model: str
    strategy: str
    stopped_by_budget: bool
    stopped_by_limit: bool = False
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class AuditSummary:
    """What the audit kept.

    Attributes:
        requested: work units asked for.
        written: rows written.
        kept: rows kept.
        negatives_written: negatives in kept rows that the model wrote.
        negatives_mined: negatives in kept rows taken from the corpus.
        written_candidates: negatives the model wrote, before any check.
        rejected: rejections by reason.
        written_order_held_share: share of the rows with four written negatives whose measured order was the asked one.
        reference_model: the encoder that measured.
        probe: whether written negatives can be told from mined ones; None where it was not tried.
        relevelled: kept rows with a written negative at another level than it was asked for.
        refilled: kept rows with a mined negative in the place of a written one.
        regenerated: kept rows with a negative that was written again.
    """

    requested: int
    written: int
    kept: int
    negatives_written: int
    negatives_mined: int
    written_candidates: int
    rejected: dict[str, int]
    written_order_held_share: float | None
    reference_model: str
    probe: SourceProbe | None = None
    relevelled: int = 0
    refilled: int = 0
    regenerated: int = 0


@dataclass(frozen=True, slots=True)
class DropExample:
    """A rejected text: which part of which query's row it was, the text, and the figure or words behind it."""

    query: str
    part: str
    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class Drop:
    """One reason for rejection: how many whole rows and single negatives it cost, with a few examples."""

    reason: str
    rows: int
    negatives: int
    examples: tuple[DropExample, ...] = ()

    @property
    def total(self) -> int:
        """Rows and negatives together."""
        return self.rows + self.negatives


@dataclass(frozen=True, slots=True)
class SimilarityBand:
    """Measured similarity to the query of the positives, or of one level's negatives.

    Attributes:
        level: 1 to 4; 0 stands for the positives.
        count: texts measured.
        written: how many of them a language model wrote; 0 for positives.
        p10: tenth percentile.
        p50: median.
        p90: ninetieth percentile.
        density: how the texts spread over equal bins of the summary's range; the fullest bin is 1.
    """

    level: int
    count: int
    written: int
    p10: float
    p50: float
    p90: float
    density: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Similarity:
    """The bands of positives and negatives on one common range of cosines.

    Attributes:
        low: where every band's first bin begins.
        high: where every band's last bin ends.
        bands: the positives, then level 1 to 4.
        positive_first: share of rows whose positive is closer to the query than every negative.
    """

    low: float
    high: float
    bands: tuple[SimilarityBand, ...]
    positive_first: float


@dataclass(frozen=True, slots=True)
class AnchorToken:
    """A token and its share of the pooled vector."""

    token: str
    weight: float


@dataclass(frozen=True, slots=True)
class AnchorText:
    """A text with the weight that pooling gives each of its tokens."""

    text: str
    model: str
    tokens: tuple[AnchorToken, ...]


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything on the page. A section whose artifact is missing is None or empty and left out.

    Attributes:
        title: the run's name.
        evaluated_at: when the evaluation ended, ISO 8601.
        evaluation: always there: without it there is nothing to report.
        changes: wins and losses by query, one entry a set.
        documents: what went in.
        synthesis: what was written.
        audit: what was kept.
        drops: what was rejected, most frequent first.
        similarity: of positives and negatives to their queries; None where no row was kept.
        rows: all kept rows, for the explorer; read from the data set as they are asked for.
        samples: a few of them, evenly spread over the data set.
        training: one entry a candidate.
        anchors: texts with token weights.
        reproduction: how to make it again.
        held_out: by split, the documents and titles that test queries come from.
        near_duplicates: how many groups of near-duplicates there are, and the ids in the first of them.
        answers: what came back from the language model; None where the run keeps no journal.
        written_order: kept rows whose four written negatives kept their order, and kept rows with four written ones.
    """

    title: str
    evaluated_at: str
    evaluation: Evaluation
    changes: tuple[QueryChanges, ...]
    documents: DocumentCounts | None
    synthesis: SynthesisCounts | None
    audit: AuditSummary | None
    drops: tuple[Drop, ...]
    similarity: Similarity | None
    rows: Sequence[GradedExample]
    samples: tuple[GradedExample, ...]
    training: tuple[TrainingLog, ...]
    anchors: tuple[AnchorText, ...]
    reproduction: Reproduction
    held_out: Mapping[str, HeldOut] = field(default_factory=dict)
    near_duplicates: tuple[int, tuple[tuple[str, ...], ...]] = (0, ())
    answers: Answers | None = None
    written_order: tuple[int, int] = (0, 0)
