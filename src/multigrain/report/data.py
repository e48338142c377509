"""What the report shows, as typed records: read once by `load`, drawn by `render`, nothing in between.

Scores are shares in 0..1 (nDCG@10, recall@10); differences are in the same unit, so +0.033 is +3.3 points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from multigrain.audit.probe import SourceProbe
from multigrain.evaluation.query_changes import QueryChanges
from multigrain.evaluation.results import EvaluationResults
from multigrain.records import GradedExample
from multigrain.report.reproduction import Reproduction
from multigrain.report.summaries import Answers, HeldOut, Similarity
from multigrain.training.log import TrainingLog


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
    too_short_names: str = ""
    repeated_names: str = ""
    left_out: str = ""  # the names of both, in runs of earlier versions


@dataclass(frozen=True, slots=True)
class SynthesisCounts:
    """What the language model was asked for and what came back.

    Attributes:
        requested: work units asked for.
        written: rows that parsed.
        failed: units that gave no row, by kind.
        prompt_tokens: tokens read by the model.
        completion_tokens: tokens written by it.
        model: its fingerprint.
        strategy: how it was asked.
        stopped_by_budget: whether the time budget ended it.
        stopped_by_limit: whether the limit on cost or tokens ended it.
        cost: dollars for all completions; None where no price is known.
        planned: units that would have been asked for without limits; None where an earlier version counted.
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
    planned: int | None = None


@dataclass(frozen=True, slots=True)
class BaseEmbeddings:
    """What a base behind an endpoint has embedded for the whole run.

    Attributes:
        requests: that were answered.
        tokens: that it read.
        cost: dollars for them; None where no price is known.
    """

    requests: int
    tokens: int
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
        excerpts: set to document id to the beginning of its text, of the documents that `changes` names and the run
            keeps.
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
        is_shared: whether texts and paths were left out, see `report.sharing`.
        base_embeddings: what a base behind an endpoint has embedded; None for one that runs here.
        written_order: kept rows whose four written negatives kept their order, and kept rows with four written ones.
    """

    title: str
    evaluated_at: str
    evaluation: EvaluationResults
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
    excerpts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    held_out: Mapping[str, HeldOut] = field(default_factory=dict)
    near_duplicates: tuple[int, tuple[tuple[str, ...], ...]] = (0, ())
    answers: Answers | None = None
    written_order: tuple[int, int] = (0, 0)
    base_embeddings: BaseEmbeddings | None = None
    is_shared: bool = False

    @property
    def asked_nobody(self) -> bool:
        """Whether no language model wrote anything: queries were given, and negatives mined."""
        written = self.synthesis is not None and self.synthesis.completion_tokens > 0
        return self.answers is not None and not self.answers.completions and not written
