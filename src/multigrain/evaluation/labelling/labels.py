"""A person judges what two models found, without knowing which found it; then the models are scored on that.

The first documents of both models are pooled and shuffled, so that the judge is blind, and every document that counts
in nDCG at that depth gets judged. Judgments are kept after every answer: a judge may stop and go on at any time.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from multigrain.errors import EvaluationError, SourceError
from multigrain.evaluation.described import describe_conclusion, plain_conclusion
from multigrain.evaluation.metrics import Metric, measure_queries
from multigrain.evaluation.query_changes import count_changes
from multigrain.evaluation.results import ModelScores, SetResult
from multigrain.evaluation.sets.retrieval_set import cluster_queries
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import compare_paired
from multigrain.evaluation.verdict import Conclusion, conclude
from multigrain.storage.files import atomic_write
from multigrain.storage.rows import read_rows

JUDGED_BY_A_PERSON: Final = "judged by a person"

GRADES: Final = {"y": 2, "p": 1, "n": 0}
"""What a judge may answer: the document answers the query, partly, or not at all."""

Rankings = Mapping[str, Mapping[str, Sequence[str]]]
"""Model to query id to document ids, best first."""

Grading = Mapping[str, Mapping[str, int]]
"""Query id to document id to grade."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that may answer a query. Says nothing of who found it."""

    document_id: str
    text: str
    text_hash: str


@dataclass(frozen=True, slots=True)
class PooledQuery:
    """A query and the documents to judge for it, in random order."""

    query_id: str
    query: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Judgment:
    """One answer of the judge.

    Attributes:
        query_id: which query.
        query: its text.
        document_id: which document; None where the whole query was skipped.
        text_hash: of the judged text: ids may come to mean something else when the documents change.
        grade: 2 answers, 1 partly, 0 not; None where the query was skipped.
    """

    query_id: str
    query: str
    document_id: str | None
    text_hash: str
    grade: int | None


@dataclass(frozen=True, slots=True)
class LabelScore:
    """What the judgments say.

    Attributes:
        conclusions: each other model against the base; empty where fewer than two queries can be scored.
        judged: queries whose candidates are all judged.
        unanswered: those among them that no candidate answers; they tell the models apart by nothing.
        skipped: queries that the judge skipped.
    """

    conclusions: tuple[Conclusion, ...]
    judged: int
    unanswered: int
    skipped: int


def pool(
    rankings: Rankings, queries: Mapping[str, str], texts: Mapping[str, str], *, limit: int, depth: int, seed: int
) -> list[PooledQuery]:
    """Draw queries and pool the first documents that the models found for them.

    Args:
        rankings: what each model found.
        queries: query id to text.
        texts: document id to text.
        limit: how many queries to draw.
        depth: how many documents of each model to pool.
        seed: of the draw and of the order.

    Raises:
        EvaluationError: a model found a document whose text is not at hand.
    """
    drawn = random.Random(seed).sample(sorted(queries), min(limit, len(queries)))
    pooled = []
    for query_id in drawn:
        documents = sorted({document for ranking in rankings.values() for document in ranking[query_id][:depth]})
        missing = next((document for document in documents if document not in texts), None)
        if missing is not None:
            raise EvaluationError(f"document {missing!r} was found, but its text is not here; judge the run's own set")
        # An order of its own for each query, so that it does not depend on which others are drawn.
        random.Random(f"{seed}:{query_id}").shuffle(documents)
        candidates = tuple(Candidate(document, texts[document], _text_hash(texts[document])) for document in documents)
        pooled.append(PooledQuery(query_id, queries[query_id], candidates))
    return pooled


class LabelSession:
    """Who is to be judged next, and what was said so far, kept in a file after every answer.

    Args:
        pooled: what to judge.
        path: the file; answers already in it are taken over where query and text are still the same.

    Raises:
        EvaluationError: the file is not one of judgments.
    """

    def __init__(self, pooled: Sequence[PooledQuery], path: Path) -> None:
        self._pooled = pooled
        self._path = path
        self._judgments = _read(path)
        self._answers = self._index()

    @property
    def total(self) -> int:
        """Candidates to judge in all."""
        return sum(len(query.candidates) for query in self._pooled)

    @property
    def remaining(self) -> int:
        """Candidates still to judge."""
        return sum(len(self._open(query)) for query in self._pooled)

    def next(self) -> tuple[PooledQuery, Candidate] | None:
        """The next candidate to judge; None where all are."""
        for query in self._pooled:
            for candidate in self._open(query):
                return query, candidate
        return None

    def judge(self, query: PooledQuery, candidate: Candidate, grade: int) -> None:
        """Keep an answer."""
        self._keep(Judgment(query.query_id, query.query, candidate.document_id, candidate.text_hash, grade))

    def skip(self, query: PooledQuery) -> None:
        """Leave a query out, e.g. because nobody could say what it means."""
        self._keep(Judgment(query.query_id, query.query, None, "", None))

    def undo(self) -> bool:
        """Take the last answer back; False where there is none."""
        if not self._judgments:
            return False
        self._judgments.pop()
        self._write()
        return True

    def grades(self) -> dict[str, dict[str, int]]:
        """Query id to document id to grade, for the queries that are judged completely."""
        return {
            query.query_id: {
                candidate.document_id: grade
                for candidate in query.candidates
                if (grade := self._grade(query, candidate)) is not None
            }
            for query in self._pooled
            if query.candidates and not self._skipped(query) and not self._open(query)
        }

    @property
    def skipped(self) -> int:
        """Queries that were skipped."""
        return sum(self._skipped(query) for query in self._pooled)

    def _open(self, query: PooledQuery) -> list[Candidate]:
        if self._skipped(query):
            return []
        return [candidate for candidate in query.candidates if self._grade(query, candidate) is None]

    def _skipped(self, query: PooledQuery) -> bool:
        return (query.query_id, query.query, None, "") in self._answers

    def _grade(self, query: PooledQuery, candidate: Candidate) -> int | None:
        return self._answers.get((query.query_id, query.query, candidate.document_id, candidate.text_hash))

    def _keep(self, judgment: Judgment) -> None:
        self._judgments.append(judgment)
        self._write()

    def _write(self) -> None:
        lines = (json.dumps(asdict(judgment), ensure_ascii=False) for judgment in self._judgments)
        atomic_write(self._path, "".join(f"{line}\n" for line in lines))
        self._answers = self._index()

    def _index(self) -> dict[tuple[str, str, str | None, str], int | None]:
        return {
            (judgment.query_id, judgment.query, judgment.document_id, judgment.text_hash): judgment.grade
            for judgment in self._judgments
        }


def score_labels(
    rankings: Rankings,
    session: LabelSession,
    *,
    base: str,
    others: Sequence[str],
    set_name: str,
    depth: int,
    settings: CompareSettings,
) -> LabelScore:
    """Score models on the judgments, by nDCG at the depth to which everything was judged.

    Args:
        rankings: what each model found.
        session: the judgments.
        base: the model that others are compared with.
        others: the other models.
        set_name: what the result calls the set.
        depth: how many documents of each model were pooled.
        settings: how to compare.
    """
    grades = session.grades()
    answered = _answered(grades)
    conclusions: tuple[Conclusion, ...] = ()
    if len(answered) >= 2:
        clusters = cluster_queries(answered)
        scores = {model: _ndcg(answered, rankings[model], depth) for model in (base, *others)}
        result = SetResult(
            name=set_name,
            role="test",
            provenance=JUDGED_BY_A_PERSON,
            queries=len(answered),
            documents=None,
            models={model: ModelScores(float(values.mean())) for model, values in scores.items()},
            delta={model: compare_paired(scores[base], scores[model], settings, clusters) for model in others},
            metric=f"nDCG@{depth}",
            clusters=len(set(clusters)),
        )
        concluded = conclude([result], base=base, confidence=settings.confidence, smallest=settings.smallest)
        for conclusion in concluded:
            wins, losses = count_changes(scores[base], scores[conclusion.model])
            conclusions += (replace(conclusion, wins=wins, losses=losses),)
    return LabelScore(conclusions, len(grades), len(grades) - len(answered), session.skipped)


def write_judged_set(folder: Path, session: LabelSession, queries: Mapping[str, str], texts: Mapping[str, str]) -> int:
    """Write what is judged as a BEIR folder that `multigrain evaluate` reads, with the documents that do not answer.

    Queries that nothing answers, or that are not judged completely, are left out.

    Args:
        folder: where to.
        session: the judgments.
        queries: query id to text.
        texts: document id to text; all of them are searched.

    Returns:
        How many queries it holds; with none, nothing is written.
    """
    grades = _answered(session.grades())
    if not grades:
        return 0
    qrels = [f"{key}\t{document}\t{grade}" for key, judged in grades.items() for document, grade in judged.items()]
    atomic_write(folder / "corpus.jsonl", _json_lines({"_id": key, "text": text} for key, text in texts.items()))
    atomic_write(folder / "queries.jsonl", _json_lines({"_id": key, "text": queries[key]} for key in grades))
    atomic_write(folder / "qrels" / "test.tsv", "\n".join(["query-id\tcorpus-id\tscore", *qrels]) + "\n")
    atomic_write(folder / "about.json", json.dumps({"label": JUDGED_BY_A_PERSON}) + "\n")
    return len(grades)


def label_lines(score: LabelScore, session: LabelSession, settings: CompareSettings) -> Iterator[str]:
    """What the judgments say, in sentences."""
    yield (
        f"{score.judged} queries judged, {score.skipped} skipped, {score.unanswered} that nothing found answers; "
        f"{session.remaining} of {session.total} documents left to judge."
    )
    if not score.conclusions:
        yield "Not enough queries to tell: at least two must be judged and answered by something."
    for conclusion in score.conclusions:
        yield describe_conclusion(conclusion, settings)


def label_values(score: LabelScore, session: LabelSession) -> dict[str, Any]:
    """What the judgments say, as plain values."""
    comparisons = [plain_conclusion(conclusion) for conclusion in score.conclusions]
    counts = {name: getattr(score, name) for name in ("judged", "skipped", "unanswered")}
    return {**counts, "remaining": session.remaining, "comparisons": comparisons}


def _answered(grades: Grading) -> Grading:
    """The queries that some document answers."""
    return {key: judged for key, judged in grades.items() if any(grade > 0 for grade in judged.values())}


def _json_lines(rows: Iterable[Mapping[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _ndcg(grades: Grading, ranking: Mapping[str, Sequence[str]], depth: int) -> NDArray[np.float64]:
    rankings = {query_id: ranking[query_id][:depth] for query_id in grades}
    measured = measure_queries(rankings, grades, {"ndcg": Metric(f"nDCG@{depth}", f"ndcg_cut_{depth}")})
    return np.array([measured[query_id]["ndcg"] for query_id in grades], dtype=np.float64)


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _read(path: Path) -> list[Judgment]:
    try:
        return [Judgment(**row.values) for row in read_rows(path)] if path.exists() else []
    except (SourceError, TypeError) as error:
        raise EvaluationError(f"{path}: not a file of judgments ({error}); move it away to start again") from None
