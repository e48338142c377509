"""The sets of a run: queries over its documents, held out or tuned on, and those that choose between its models."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from multigrain.config import Config
from multigrain.dataset.store import open_positives, open_rows
from multigrain.evaluation.sets.loading import open_sets
from multigrain.evaluation.sets.retrieval_set import (
    GIVEN_PAIRS,
    HUMAN_TITLES,
    SYNTHETIC_ESTIMATE,
    EvaluationSet,
    Role,
    from_documents,
    from_queries,
    sample,
)
from multigrain.evaluation.sets.searched import SearchedDocuments, is_among, text_key
from multigrain.records import Split
from multigrain.sources.store import open_document_table, read_query_table
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.sequences import DiskList
from multigrain.synthesis.heldout import read_heldout_queries
from multigrain.synthesis.inputs import parts_to_ask

SEEN: Final = "seen documents"
"""What the set of people's queries is called that documents answer which were tuned on."""

_ROLES: dict[Split, Role] = {Split.VALIDATION: "validation", Split.TEST: "test"}
MOST_SEEN: Final = 2000  # queries; more of them would tell hardly more
_MOST_DRAWN: Final = 100_000


def domain_sets(config: Config, run: RunDirectory, documents: SearchedDocuments) -> Iterator[EvaluationSet]:
    """Queries over all of a run's documents: those of held-out documents, and people's of documents tuned on.

    Args:
        config: the run's.
        run: where its queries lie.
        documents: all of the run's documents.
    """
    if config.evaluation.queries == "none":
        return
    written_queries = read_heldout_queries(run.heldout_queries_path)
    needed = parts_to_ask(config)
    further = _further_documents(run)
    given_queries = read_query_table(run.queries_path) if config.start_from == "pairs" else ()
    for split, role in _ROLES.items():
        pairs = [(key, query.text) for query in given_queries if query.split is split for key in query.document_ids]
        if pairs:
            yield from_queries(pairs, documents, name=role, role=role, provenance=GIVEN_PAIRS)
        if config.start_from == "pairs":
            continue
        queries = [
            (key, written_queries[identifier])
            for identifier, _ in documents.of_split(split)
            if identifier in written_queries
            for key in (identifier, *further.get(identifier, ()))
        ]
        if queries:
            yield from_queries(queries, documents, name=role, role=role, provenance=_written_provenance(run))
        elif documents.count(split) and (split in needed or documents.titles_suffice([split])):
            yield from_documents(documents, split, role, role, provenance=HUMAN_TITLES)
    if config.start_from == "documents" and config.evaluation.seen_documents:
        yield from _seen_set(config, run, documents)


def _seen_set(config: Config, run: RunDirectory, documents: SearchedDocuments) -> Iterator[EvaluationSet]:
    """People's queries on documents that were tuned on, but for those that a training row happens to ask."""
    if not documents.titles_suffice([Split.TRAIN]):
        return
    rows = open_rows(run.rows_path) if run.rows_path.exists() else ()
    asked = {text_key(row.query) for row in rows}
    tuned_on = _tuned_on(run, documents)
    unasked = DiskList(
        (identifier, title)
        for identifier, title in documents.of_split(Split.TRAIN)
        if title and text_key(title) not in asked and is_among(text_key(documents.texts[identifier]), tuned_on)
    )
    if not unasked:
        return
    drawn: Sequence[tuple[str, str]] = unasked
    if len(unasked) > _MOST_DRAWN:  # of so many, titles that are the same are few enough for the sample that follows
        places = sorted(random.Random(config.seed).sample(range(len(unasked)), _MOST_DRAWN))
        drawn = [unasked[place] for place in places]
    provenance = f"{HUMAN_TITLES} of documents that were tuned on"
    whole = from_queries(drawn, documents, name=SEEN, role="test", provenance=provenance)
    yield sample(whole, max_queries=MOST_SEEN, seed=config.seed)


def _tuned_on(run: RunDirectory, documents: SearchedDocuments) -> NDArray[np.uint64]:
    """Keys of the documents of training rows and of what answers these, with their titles and without, rising.

    A budget may leave documents without a row. Where the model wrote what answers a query, its document is tuned on
    all the same. Where nothing was audited yet, as where several data sets will come of what was written, all
    documents to train on.
    """
    if not run.dataset_path.exists():
        return documents.in_both_forms(documents.keys_of(Split.TRAIN))
    keys = array("Q")
    for identifier, positives in open_positives(run.dataset_path):
        own = () if identifier is None or identifier not in documents.texts else (documents.texts[identifier],)
        keys.extend(text_key(text) for text in (*own, *positives))
    return documents.in_both_forms(np.asarray(keys, dtype=np.uint64))


def seen_queries(
    sets: Iterable[EvaluationSet], run: RunDirectory, documents: SearchedDocuments
) -> dict[str, frozenset[str]]:
    """The ids of each set's queries that a document answers that was tuned on, by the set's name.

    Args:
        sets: of a run, or of anywhere: documents are known by their texts, with a title before them or without.
        run: whose training rows say what was tuned on.
        documents: of the run.
    """
    tuned_on = _tuned_on(run, documents)
    found = {}
    for chosen in sets:
        answers = dict.fromkeys(key for grades in chosen.qrels.values() for key, grade in grades.items() if grade > 0)
        seen = {key for key in answers if is_among(text_key(chosen.corpus[key]), tuned_on)}
        found[chosen.name] = frozenset(
            query_id
            for query_id, grades in chosen.qrels.items()
            if any(grade > 0 and key in seen for key, grade in grades.items())
        )
    return found


def searched_documents(run: RunDirectory) -> SearchedDocuments:
    """A run's documents, read from the disk once."""
    return SearchedDocuments(open_document_table(run.documents_path))


def validation_sets(config: Config, run: RunDirectory) -> tuple[EvaluationSet, ...]:
    """What chooses: the config's sets of role validation or, where it names none, the run's own validation queries."""
    if config.evaluation.choosing_sets:
        return open_sets(config.evaluation.choosing_sets, seed=config.seed).retrieval
    sets = domain_sets(config, run, searched_documents(run))
    return tuple(evaluation_set for evaluation_set in sets if evaluation_set.role == "validation")


def _further_documents(run: RunDirectory) -> dict[str, list[str]]:
    """By the document that a held-out query was written for the others that judges found to answer it."""
    if not run.heldout_positives_path.exists():
        return {}
    lines = run.heldout_positives_path.read_text(encoding="utf-8").split("\n")
    return {row["document_id"]: row["further"] for row in map(json.loads, filter(None, lines))}


def _written_provenance(run: RunDirectory) -> str:
    """Who wrote the held-out queries: always an estimate, and a better one where it was another model."""
    manifest = run.manifest("synthesis")
    other_model = None if manifest is None else manifest.counts.get("heldout_model")
    return (
        SYNTHETIC_ESTIMATE if other_model is None else f"{SYNTHETIC_ESTIMATE}, queries by another model: {other_model}"
    )
