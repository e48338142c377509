"""Everything else: files, estimates, exports, the demo."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from multigrain.cli.shapes.base import Open, Shape
from multigrain.cli.shapes.evaluation import Choice, Conclusion
from multigrain.encoders.facts import EncodingFacts, ModelCost
from multigrain.evaluation.rival import Rival
from multigrain.evaluation.verdict import Verdict
from multigrain.llm.build import LocalPlan
from multigrain.tools.diagnosis import Status
from multigrain.tools.doctor import Finding
from multigrain.tools.expected_gain import ExpectedGain
from multigrain.tools.plan import PlannedTime
from multigrain.tools.plugins import NamedPart
from multigrain.tools.rival_calls import EmbeddingEstimate
from multigrain.tools.synthesis_estimate import StrategyShare
from multigrain.writer.draws import Acceptance


class Token(Shape):
    """A token and its share of the vector."""

    token: str
    weight: float


class AnchoredText(Shape):
    """A text with the weights of its tokens."""

    text: str
    tokens: list[Token]


class Anchors(Shape):
    """What `anchors` prints."""

    model: str
    pooling: str
    texts: list[AnchoredText]


class AuditCounts(Open):
    """What `audit FILE` and `audit RUN --marks FILE` print: the counts of audit.json, those of judges too."""

    run: str
    requested: int
    written: int
    kept: int
    """Rows."""
    negatives_written: int
    negatives_mined: int
    written_candidates: int
    rejected: dict[str, int]
    """Reason to how many rows; `negative:REASON` counts single negatives."""
    relevelled: int
    refilled: int
    regenerated: int
    selected: int
    dropped: int
    """Rows that were rejected."""
    asked_again: int
    further_positives: int
    candidates: int
    written_order_held_share: float | None
    reference_model: str
    """What measured."""
    marked: int | None = None
    """With `--marks`: rows that readers marked bad so far."""


class BaseSet(Shape):
    """Validation queries that bases were compared on."""

    label: str | None
    queries: int
    base: float
    """Score of the config's base."""


class Bases(Shape):
    """What `bases` prints."""

    base: str
    advised: str
    sets: dict[str, BaseSet]
    candidates: list[Rival]
    costs: dict[str, ModelCost]
    facts: dict[str, EncodingFacts]


class BatchWritten(Shape):
    """What `batch write` prints."""

    files: list[str]
    requests: int
    rows_finished: int
    rows_waiting: int
    rows_failed: dict[str, int]
    requests_over_limit: int
    """Not written, as they may pass the spending limit."""


class BatchRead(Shape):
    """What `batch read` prints."""

    kept: int
    known: int
    failed: dict[str, int]
    unknown: int
    """Answers to requests of other runs."""
    broken: list[str]
    """Lines that cannot be read."""
    refused: list[str]


class DatasetFile(Shape):
    """What `dataset export` prints."""

    rows: int
    format: str
    file: str


class Converted(DatasetFile):
    """What `dataset convert` prints."""

    source_form: str = Field(alias="from")
    notes: list[str]
    """What reading the file left out, and why."""


class WriterRound(Shape):
    """A round of `writer tune`; round 0 is the model before."""

    round: int
    rows: int
    """Completions, or pairs, that it was tuned on."""
    gguf: str
    acceptance: Acceptance
    """On validation documents."""


class TunedWriter(Shape):
    """What `writer tune` prints."""

    run: str
    name: str
    objective: Literal["sft", "dpo", "reward"]
    base: str
    rounds: list[WriterRound]
    best: int
    """The round whose model is named in `config`."""
    gguf: str
    config: str
    """The run's config with the tuned writer."""


class PushedFile(Shape):
    """A file that goes to the hub."""

    path: str
    bytes: int


class Pushed(Shape):
    """What `push` prints."""

    repo_id: str
    private: bool
    files: list[PushedFile]
    commit: str | None = None
    """Its address; missing with `--dry-run`."""


class DatasetPushed(Pushed):
    """What `dataset push` prints."""

    rows: int
    folder: str


class DemoScores(Shape):
    """A model of the demo on the test queries."""

    ndcg_at_10: float
    recall_at_10: float


class DemoInterval(Shape):
    """A difference and its interval."""

    mean: float
    low: float
    high: float


class DemoForgetting(DemoInterval):
    """How much the chosen model lost on the unrelated set: above zero is a loss."""

    set: str
    queries: int


class Demo(Open):
    """What `demo` prints. Each tuned model has a key of its own: `tuned_NAME`."""

    __pydantic_extra__: dict[str, DemoScores]
    base: DemoScores
    delta: dict[str, DemoInterval]
    verdict: dict[str, Verdict]
    choice: Choice | None
    chosen: str
    validation: dict[str, float]
    forgetting: DemoForgetting | None
    queries: int
    rows: dict[str, int]
    documents: int
    steps: dict[str, float | None]
    seconds: dict[str, float | None]
    report: str


class Diagnosis(Shape):
    """What `doctor` prints."""

    findings: list[Finding]


class Export(Open):
    """What `export` prints; each target adds what it made and measured, e.g. `max_difference`."""

    model: str
    to: str
    out: str
    facts: EncodingFacts


class Labelled(Shape):
    """What `label` prints."""

    judged: int
    skipped: int
    unanswered: int
    remaining: int
    comparisons: list[Conclusion]
    set: str | None
    """The folder of the labelled set."""


class Mined(Shape):
    """What `mine` prints."""

    out: str
    facts: EncodingFacts | None
    queries: int
    pairs: int
    corpus: int
    """Texts that were searched."""
    rows: int
    negatives: int
    short: int
    """Queries with fewer negatives than were asked for."""
    search: str
    recall: float | None
    """Of an approximate search."""
    seconds: dict[str, float]


class PlannedEstimate(Shape):
    """Requests, tokens and cost of a plan."""

    rows: int
    requests: int
    requests_at_most: int
    in_journal: int
    prompt_tokens: int
    completion_tokens: int
    completion_tokens_at_most: int
    cost: float | None
    cost_at_most: float | None
    strategies: dict[str, StrategyShare]
    embeddings: dict[str, EmbeddingEstimate]
    unpriced: list[str]
    local: LocalPlan | None


class Planned(Shape):
    """What `plan` prints."""

    documents: dict[str, int]
    writer: str
    base: str
    estimate: PlannedEstimate
    steps: dict[str, int]
    time: PlannedTime
    total_seconds: float | None
    gain: ExpectedGain | None
    test_queries: int | None
    queries_for_gain: int | None
    smallest_shown: float | None
    """In points."""
    notes: list[str]


class Plugins(Shape):
    """What `plugins` prints."""

    parts: list[NamedPart]


class ServerVerified(Open):
    """What `verify` prints; further keys hold what was asked, the costs and the notes."""

    model: str
    served: str
    """The address, without what may be secret."""
    protocol: str
    served_model: str
    server_tells: dict[str, JsonValue]
    """What the server says of itself."""
    prompts: str
    same: bool
    """Whether the vectors are the same."""
    texts: int
    tolerance: float
    max_difference: float | None
    """The largest distance of two vectors of one text; null where they cannot be compared."""
    mean_cosine: float | None
    reasons: list[dict[str, JsonValue]]
    """Why they differ, with what to do."""


class Cause(Shape):
    """A reason why tuning may not have helped."""

    cause: str
    question: str
    status: Status
    evidence: str
    """With its figures, in words."""
    figure: float | None
    """The one that decides."""
    advice: str
    """Empty where the cause is ruled out, and so is `command`."""
    command: str


class Causes(Shape):
    """What `diagnose` prints."""

    run: str
    found: int
    causes: list[Cause]
    choice: str | None
    """The verdict over base, tuned model and rivals, in words; empty or null without one."""
