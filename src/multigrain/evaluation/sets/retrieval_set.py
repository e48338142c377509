"""Evaluation sets: queries, a corpus, and which documents answer which query.

A set that exists is a set that can be scored: the constructor refuses judgments that name missing ids, empty
queries and queries without a relevant document. Where sets come from (BEIR folders, data packages) is in
`beir` and `packaged`; here they are checked, sampled and made from a user's own documents.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

from multigrain.config import fingerprint
from multigrain.errors import EvaluationError
from multigrain.records import Document, Split
from multigrain.sources.words import fold_text

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

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a figure on this set depends on, to be told where the figure is: its notes, and what is left out."""
        count = len(self.own_documents)
        if not count:
            return self.notes
        example = next(query_id for query_id in self.queries if query_id in self.own_documents)
        return (
            *self.notes,
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


def from_queries(
    written: Iterable[tuple[str, str]], corpus: Sequence[Document], *, name: str, role: Role, provenance: str
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
    texts: dict[str, str] = {}
    twins, titled = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for document in corpus:
        if document.id in texts:
            raise EvaluationError(
                f"evaluation set {name!r}: document id {document.id!r} occurs twice; make ids unique"
            )
        texts[document.id] = document.text
        twins[fold_text(document.text)].append(document.id)
        if document.title:
            titled[fold_text(document.title)].append(document.id)

    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    query_ids: dict[str, str] = {}
    used: set[str] = set()
    for document_id, query in written:
        if document_id not in texts:
            raise EvaluationError(
                f"evaluation set {name!r}: a query was written for document {document_id!r}, which is not among the "
                f"{len(texts):,} documents that are searched"
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
        for titled_id in (document_id, *titled.get(key, ())):
            answers.update(dict.fromkeys(twins[fold_text(texts[titled_id])], 1))
    return EvaluationSet(name=name, role=role, provenance=provenance, corpus=texts, queries=queries, qrels=qrels)


def from_documents(
    documents: Sequence[Document],
    split: Split,
    corpus: Sequence[Document],
    name: str,
    role: Role,
    *,
    provenance: str = HUMAN_TITLES,
) -> EvaluationSet:
    """Make a set whose queries are the titles of held-out documents: words a person wrote, not part of the text.

    Args:
        documents: all documents; those of `split` that have a title become queries.
        split: the part that is asked for.
        corpus: what is searched, usually all documents.
        name: what tables call the set.
        role: what the set is for.
        provenance: what the titles are, in words.

    Raises:
        EvaluationError: no document of the split has a title, or the corpus does not hold them.
    """
    held_out = [document for document in documents if document.split == split]
    titles = [(document.id, document.title) for document in held_out if document.title and document.title.strip()]
    if not titles:
        raise EvaluationError(
            f"evaluation set {name!r}: none of the {len(held_out):,} {split.value} documents has a title to ask with; "
            "name the column with `documents.title_field`, or set `evaluation.queries: synthetic`"
        )
    return from_queries(titles, corpus, name=name, role=role, provenance=provenance)


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
    return replace(evaluation_set, corpus=corpus, queries=queries, qrels=qrels)


def _keep(
    texts: Mapping[str, str], rng: random.Random, limit: int | None, always: frozenset[str]
) -> Mapping[str, str]:
    if limit is None or limit >= len(texts):
        return texts
    optional = sorted(key for key in texts if key not in always)
    sampled = always.union(rng.sample(optional, max(0, limit - len(always))))
    return {key: text for key, text in texts.items() if key in sampled}
