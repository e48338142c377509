"""The records that flow between stages. Frozen: a stage makes new ones instead of changing what it was given."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final, Literal


class Level(IntEnum):
    """How hard a negative is: 1 is the easiest (least similar to the query), 4 the hardest.

    The paper has one easy, two medium and one hard negative per example; the numbering is ours.
    """

    EASY = 1
    MEDIUM_LOW = 2
    MEDIUM_HIGH = 3
    HARD = 4


LEVELS: Final = (Level.EASY, Level.MEDIUM_LOW, Level.MEDIUM_HIGH, Level.HARD)

Mining = Literal["bands", "nearest"]
"""Where the negatives of a row are mined that nobody wrote: each level from its own band of ranks, or all of them
from the nearest ranks."""


Precision = Literal["float32", "float16", "int8", "binary"]
"""How each number of a vector is stored."""


class Split(StrEnum):
    """What a document may be used for. Near-duplicates always share a split."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


HELD_OUT: Final = (Split.VALIDATION, Split.TEST)
"""The sides that nothing is tuned on."""


class Origin(StrEnum):
    """Where a negative's text comes from."""

    WRITTEN = "written"
    MINED = "mined"


class ScoreScale(StrEnum):
    """What a teacher's scores of a row are; each is kept within its limits."""

    COSINE = "cosine"
    """-1 to 1, of an embedder."""

    LOGIT = "logit"
    """-50 to 50, of a cross-encoder: the log-odds that the passage answers."""

    GRADE = "grade"
    """0 to 5, of a judge; with a fraction where it is the mean over the probabilities of its grades."""

    RANK = "rank"
    """0 to 1, of several teachers: the mean place in their orders of the row's passages, the best 1."""

    GIVEN = "given"
    """Any finite number: a score that came with somebody's file."""


class TaskKind(StrEnum):
    """What a task's queries and positives are like: how long each is, or that they mirror each other."""

    SHORT_LONG = "short-long"
    LONG_SHORT = "long-short"
    SHORT_SHORT = "short-short"
    LONG_LONG = "long-long"
    STS = "sts"
    BITEXT = "bitext"


@dataclass(frozen=True, slots=True)
class Task:
    """What an embedding model is to be good at, in a sentence; rows are written for it where there are no documents.

    Attributes:
        id: unique within the run.
        kind: what its queries and positives are like.
        text: the task, e.g. "Given a symptom, find the paragraph of the manual that says how to mend it".
        split: what rows written for it may be used for.
    """

    id: str
    kind: TaskKind
    text: str
    split: Split = Split.TRAIN


@dataclass(frozen=True, slots=True)
class Document:
    """One passage of the user's corpus.

    Attributes:
        id: unique within the corpus.
        text: what is embedded and searched; never empty.
        title: words a person wrote about the text and that are *not* part of it (a heading, a summary line).
            Serves as a natural query in evaluation; None where there is none.
        group: near-duplicate documents share a group, so that no split divides them; -1 before grouping.
        split: what the document may be used for.
    """

    id: str
    text: str
    title: str | None = None
    group: int = -1
    split: Split = Split.TRAIN


@dataclass(frozen=True, slots=True)
class GivenQuery:
    """A query of the user's own, with the documents that answer it.

    Attributes:
        id: unique within the run.
        text: the query, never changed.
        document_ids: the documents that answer it; at least one.
        split: what it may be used for.
    """

    id: str
    text: str
    document_ids: tuple[str, ...]
    split: Split = Split.TRAIN


@dataclass(frozen=True, slots=True)
class SynthesizedRow:
    """What a language model wrote for one document or task, parsed but not yet audited.

    Attributes:
        id: the work unit's fingerprint, so that a row can be traced to its completion in the journal.
        document_id: the document the query was written for; None where the model wrote the positive too.
        query: the written query.
        positive: the passage that answers it.
        negatives: written negatives by the level the model was *asked* for; may be empty or partial.
        strategy: the name of the strategy that asked.
        candidates: more texts written for a level, besides its negative; the audit chooses among them all by
            their measured similarity.
        mining: where levels are mined for which nothing was written.
        relevant_ids: further documents that answer the query; never its negatives.
        given: whether the query is the user's own: then it stands as it is.
        query_type: what kind of query it is (a query type, or a task's kind); None where it was given.
        task: the task that it was written for; None where there was a document.
    """

    id: str
    document_id: str | None
    query: str
    positive: str
    negatives: dict[Level, str] = field(default_factory=dict)
    strategy: str = "mgh"
    candidates: dict[Level, tuple[str, ...]] = field(default_factory=dict)
    relevant_ids: tuple[str, ...] = ()
    given: bool = False
    query_type: str | None = None
    task: str | None = None
    mining: Mining = "bands"


@dataclass(frozen=True, slots=True)
class Negative:
    """A negative at its final level.

    Attributes:
        text: the passage.
        level: where it stands after the audit.
        origin: written by a language model, or mined from the corpus.
        similarity: cosine to the query under the reference model, -1..1.
        written_level: the level the model was asked for; None for mined ones.
        score: a teacher's; None where none was asked, or it gave none.
    """

    text: str
    level: Level
    origin: Origin
    similarity: float
    written_level: Level | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a row without a level: a further positive, or one more candidate.

    Attributes:
        text: the passage.
        origin: written by a language model, or from the corpus.
        similarity: cosine to the query under the reference model, -1..1.
        score: a teacher's; None where none was asked, or it gave none.
    """

    text: str
    origin: Origin
    similarity: float
    score: float | None = None


@dataclass(frozen=True, slots=True)
class GradedExample:
    """A training row: a query, its positives, one negative at each of the four levels, and further candidates.

    A candidate is neither positive nor negative: only a teacher's score says what it is worth.

    Attributes:
        id: the synthesized row's id.
        document_id: the positive's document; None where the model wrote it.
        query: the query.
        positive: the passage that answers it.
        negatives: exactly four, level 1 to 4.
        positive_similarity: cosine of query and positive under the reference model.
        written_order_held: True or False where the model wrote all four levels and they were, or were not,
            in the asked order when measured; None where it wrote fewer.
        actions: what the audit did to the row, e.g. "relevelled", "refilled:2".
        positive_score: a teacher's score of the positive; None where none was asked, or it gave none.
        further_positives: more passages that answer the query; nobody's negatives in a batch with this row.
        candidates: more passages, the nearest of the corpus first.
        scale: of the teacher's scores; None where no teacher was asked.
    """

    id: str
    document_id: str | None
    query: str
    positive: str
    negatives: tuple[Negative, Negative, Negative, Negative]
    positive_similarity: float
    written_order_held: bool | None = None
    actions: tuple[str, ...] = ()
    positive_score: float | None = None
    further_positives: tuple[Passage, ...] = ()
    candidates: tuple[Passage, ...] = ()
    scale: ScoreScale | None = None

    @property
    def others(self) -> tuple[Negative | Passage, ...]:
        """All passages but the positive: further positives, negatives from level 1 to 4, candidates."""
        return (*self.further_positives, *self.negatives, *self.candidates)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row or a written negative that the audit turned away, and why.

    Attributes:
        id: the synthesized row's id.
        part: "row", or for one negative "level_1" … "level_4"; "negative" where nobody asked for a level.
        reason: a short stable word, e.g. "round_trip", "copied_document", "duplicate_query".
        detail: the figure or text behind it, for people.
        query: the written query.
        text: the rejected text (the positive's where the whole row went).
    """

    id: str
    part: str
    reason: str
    detail: str
    query: str
    text: str


def answering_ids(row: SynthesizedRow) -> tuple[str, ...]:
    """The documents that answer a row's query: its own first. A passage written for a row has the row's id."""
    return (row.document_id or row.id, *row.relevant_ids)
