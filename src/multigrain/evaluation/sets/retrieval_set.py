"""Evaluation sets: queries, a corpus, and which documents answer which query.

A set that exists is a set that can be scored: the constructor refuses judgments that name missing ids, empty
queries and queries without a relevant document. Where sets come from (BEIR folders, data packages) is in
`beir` and `packaged`; here they are checked, sampled and made from a user's own documents.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal

from multigrain.config import fingerprint
from multigrain.errors import EvaluationError
from multigrain.evaluation.sets.searched import SearchedDocuments
from multigrain.records import Document, Split
from multigrain.sources.words import fold_text
from multigrain.storage.sequences import TextTable

Role = Literal["validation", "test", "forgetting"]
Evidence = Literal["judgments", "titles", "written"]

GIVEN_PAIRS: Final = "held-out given pairs"
HUMAN_TITLES: Final = "human-written titles"
SYNTHETIC_ESTIMATE: Final = "synthetic estimate"
EVIDENCE: Final[tuple[Evidence, ...]] = ("judgments", "titles", "written")
"""What a set's figures rest on, the best first: judgments of which document answers whom, titles that people wrote of
their documents, queries that a language model wrote."""


def evidence_of(provenance: str | None) -> Evidence:
    """What the figures on a set rest on, by who judged it; a set of which that is not known was judged elsewhere."""
    named = provenance or ""
    if SYNTHETIC_ESTIMATE in named:
        return "written"
    return "titles" if HUMAN_TITLES in named else "judgments"


FEWEST_CLUSTERS: Final = 5
"""Fewer say nothing of others: intervals then speak of further queries about the same documents, and that is told."""
_CHUNK: Final = re.compile(r"(?P<whole>.+)#\d+", re.DOTALL)  # `chunk_document` names chunks so


@dataclass(frozen=True)
class EvaluationSet:
    """A retrieval task that can be scored.

    Attributes:
        name: what tables call it.
        role: validation chooses between models, test gives the final figures, forgetting must not get worse.
        provenance: who judged, in words that a report prints, e.g. "human-written titles" or "synthetic estimate".
        corpus: document id to text.
        queries: query id to text; every query is scored.
        qrels: query id to document id to grade. A grade above 0 is relevant; 0 and below are judged but not.
        notes: what is to be told of the files that it was read from, e.g. what was left out.
        leaves_own_out: whether `own_documents` are left out; not where another program ranks by rules of its own.
        families: document id to what it belongs to with others (its near-duplicates, the document that it is a chunk
            of). One that is not named belongs to itself or, where its id is `ID#N` as chunks have it, to ID.
        asked_by: query id to who asked it, or to whatever else its queries have in common; empty where that is not
            known. Where it is, it makes the clusters.
        kinds: what kinds of queries are told apart besides the usual ones, e.g. by a column of their file: name to
            query id to value.

    Raises:
        EvaluationError: nothing to search or to ask, an empty query, a judgment of an id that is not there, or
            a query without a relevant document.
    """

    name: str
    role: Role
    provenance: str
    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...] = ()
    leaves_own_out: bool = True
    families: Mapping[str, str] = field(default_factory=dict)
    asked_by: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise EvaluationError(f"evaluation set {self.name!r}: {problem}")

    @property
    def pooled(self) -> bool:
        """Whether judges said of some documents that they do not answer: then what nobody judged is known too."""
        return any(grade <= 0 for grades in self.qrels.values() for grade in grades.values())

    @cached_property
    def own_documents(self) -> frozenset[str]:
        """The ids that are both a query's and a document's that is not judged relevant for it: the query itself.

        BEIR and MTEB leave such a document out of its query's ranking, and so does `evaluate_retriever`.
        """
        return frozenset(
            query_id
            for query_id in self.queries
            if self.leaves_own_out and query_id in self.corpus and self.qrels[query_id].get(query_id, 0) <= 0
        )

    @cached_property
    def clusters(self) -> tuple[str, ...]:
        """Of each query, in order, the cluster that it belongs to: queries in one win and lose together.

        That is who asked, where that is known; else what the query is about, see `cluster_queries`.
        """
        if self.asked_by:
            return tuple(self.asked_by[query_id] for query_id in self.queries)
        return cluster_queries({query_id: self.qrels[query_id] for query_id in self.queries}, self._family)

    def _family(self, document_id: str) -> str:
        chunk = _CHUNK.fullmatch(document_id)
        return self.families.get(document_id) or (chunk["whole"] if chunk else document_id)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a figure on this set depends on, to be told where the figure is: its notes, and what is left out."""
        notes = self.notes
        if not self.asked_by:
            about = len(set(_subjects(self.qrels, self._family)))
            if about < FEWEST_CLUSTERS and len(self.queries) >= 2 * FEWEST_CLUSTERS:
                documents, them = ("one document", "it") if about == 1 else (f"{about} documents", "them")
                few = f"all {len(self.queries):,} queries are about {documents}"
                notes = (*notes, f"{few}: intervals speak of further queries about {them}, not of other documents")
        count = len(self.own_documents)
        if not count:
            return notes
        example = next(query_id for query_id in self.queries if query_id in self.own_documents)
        return (
            *notes,
            f"{count:,} of {len(self.queries):,} queries are documents too, by their ids (e.g. {example!r}): left out "
            "of their own rankings, as BEIR and MTEB do",
        )

    def _problems(self) -> Iterator[str]:
        if not self.corpus:
            yield "the corpus is empty; there is nothing to search"
        if not self.queries:
            yield "no queries; there is nothing to score"
        for query_id, query in self.queries.items():
            if not query.strip():
                yield f"query {query_id!r} is empty; give it a text or leave it out"
            if not any(grade > 0 for grade in self.qrels.get(query_id, {}).values()):
                yield (
                    f"query {query_id!r} has no relevant document; "
                    "judge one with a grade above 0 or leave the query out"
                )
        for query_id, grades in self.qrels.items():
            if query_id not in self.queries:
                yield (
                    f"the judgments name query {query_id!r}, which is not among the {len(self.queries):,} queries; "
                    "check that ids agree in both files"
                )
            missing = next((document_id for document_id in grades if document_id not in self.corpus), None)
            if missing is not None:
                yield (
                    f"the judgments of query {query_id!r} name document {missing!r}, which is not among the "
                    f"{len(self.corpus):,} documents; check that ids agree in both files"
                )


def cluster_queries(qrels: Mapping[str, Mapping[str, int]], family: Callable[[str], str] = str) -> tuple[str, ...]:
    """Of each query, in order, the cluster of queries about the same: its relevant document, or what that is part of.

    A query that several documents answer goes with the one that most queries share. (All that any document links would
    be one cluster in most sets whose queries have many answers.) Where all are about fewer than
    `FEWEST_CLUSTERS` families, documents count alone; and where there are no more of these, every query.

    Args:
        qrels: query id to document id to grade; each has a relevant one.
        family: what a document belongs to.
    """
    for of_document in (family, str):
        clusters = _subjects(qrels, of_document)
        if len(set(clusters)) >= min(FEWEST_CLUSTERS, len(clusters)):
            return clusters
    return tuple(qrels)


def _subjects(qrels: Mapping[str, Mapping[str, int]], family: Callable[[str], str]) -> tuple[str, ...]:
    about = [
        list(dict.fromkeys(family(key) for key, grade in grades.items() if grade > 0)) for grades in qrels.values()
    ]
    shared = Counter(key for keys in about for key in keys)
    return tuple(max(keys, key=lambda key: shared[key]) for keys in about)


def from_queries(
    written: Iterable[tuple[str, str]],
    corpus: Iterable[Document] | SearchedDocuments,
    *,
    name: str,
    role: Role,
    provenance: str,
) -> EvaluationSet:
    """Make a set from queries that were written for documents.

    A document with the same normalised text as the query's own answers the query just as well, and so does one
    whose title *is* the query: they count as relevant too. Queries with the same normalised text become one
    query, answered by the documents of all of them, since nobody could tell them apart.

    Args:
        written: pairs of document id and query.
        corpus: what is searched; holds the documents of all queries.
        name: what tables call the set.
        role: what the set is for.
        provenance: who wrote the queries.

    Raises:
        EvaluationError: duplicate document ids, a query for a document that is not in the corpus, an empty
            query, or no query at all.
    """
    searched = _searched(corpus, name)
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    query_ids: dict[str, str] = {}
    used: set[str] = set()
    for document_id, query in written:
        if document_id not in searched.texts:
            raise EvaluationError(
                f"evaluation set {name!r}: a query was written for document {document_id!r}, which is not among the "
                f"{len(searched.texts):,} documents that are searched"
            )
        key = fold_text(query)
        if key not in query_ids:
            # Given pairs may have several queries for one document.
            first = f"q-{document_id}"
            query_ids[key] = first if first not in used else f"{first}-{fingerprint(key)[:8]}"
            used.add(query_ids[key])
        query_id = query_ids[key]
        queries.setdefault(query_id, " ".join(query.split()))
        answers = qrels.setdefault(query_id, {})
        for titled_id in (document_id, *searched.with_title(query)):
            answers.update(dict.fromkeys(searched.same_text(titled_id), 1))
    return EvaluationSet(name, role, provenance, searched.texts, queries, qrels, families=searched.families)


def _searched(corpus: Iterable[Document] | SearchedDocuments, name: str) -> SearchedDocuments:
    try:
        return corpus if isinstance(corpus, SearchedDocuments) else SearchedDocuments(corpus)
    except EvaluationError as error:
        raise EvaluationError(f"evaluation set {name!r}: {error}") from None


def from_documents(
    documents: Iterable[Document] | SearchedDocuments,
    split: Split,
    name: str,
    role: Role,
    *,
    provenance: str = HUMAN_TITLES,
) -> EvaluationSet:
    """Make a set whose queries are the titles of held-out documents: words a person wrote, not part of the text.

    Args:
        documents: all documents, which are searched; those of `split` that have a title become queries.
        split: the part that is asked for.
        name: what tables call the set.
        role: what the set is for.
        provenance: what the titles are, in words.

    Raises:
        EvaluationError: no document of the split has a title.
    """
    searched = _searched(documents, name)
    titles = [(identifier, title) for identifier, title in searched.of_split(split) if title is not None]
    if not titles:
        raise EvaluationError(
            f"evaluation set {name!r}: none of the {searched.count(split):,} {split.value} documents has a title to "
            "ask with; name the column with `documents.title_field`, or set `evaluation.queries: synthetic`"
        )
    return from_queries(titles, searched, name=name, role=role, provenance=provenance)


def sample(
    evaluation_set: EvaluationSet, *, max_queries: int | None = None, max_documents: int | None = None, seed: int
) -> EvaluationSet:
    """A seeded sample; order is kept.

    Every judged document of a kept query stays, even where these alone are more than `max_documents`: a query
    whose answer is gone could not be scored.

    Args:
        evaluation_set: what to sample from.
        max_queries: how many queries to keep (None: all).
        max_documents: how many documents to keep (None: all).
        seed: decides which. The same seed keeps the same ids, whatever their order.
    """
    rng = random.Random(seed)
    queries = _keep(evaluation_set.queries, rng, max_queries, frozenset())
    qrels = {query_id: grades for query_id, grades in evaluation_set.qrels.items() if query_id in queries}
    judged = frozenset(document_id for grades in qrels.values() for document_id in grades)
    corpus = _keep(evaluation_set.corpus, rng, max_documents, judged)
    asked_by = {key: value for key, value in evaluation_set.asked_by.items() if key in queries}
    kinds = {
        name: {key: value for key, value in values.items() if key in queries}
        for name, values in evaluation_set.kinds.items()
    }
    return replace(evaluation_set, corpus=corpus, queries=queries, qrels=qrels, asked_by=asked_by, kinds=kinds)


def _keep(
    texts: Mapping[str, str], rng: random.Random, limit: int | None, always: frozenset[str]
) -> Mapping[str, str]:
    if limit is None or limit >= len(texts):
        return texts
    optional = sorted(key for key in texts if key not in always)
    sampled = always.union(rng.sample(optional, max(0, limit - len(always))))
    if isinstance(texts, TextTable):
        return TextTable((key, texts[key]) for key in texts if key in sampled)
    return {key: text for key, text in texts.items() if key in sampled}
