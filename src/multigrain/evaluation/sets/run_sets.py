"""The held-out sets of a run: queries over its documents, and those that choose between its models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from multigrain.config import Config
from multigrain.evaluation.sets.loading import open_sets
from multigrain.evaluation.sets.retrieval_set import (
    GIVEN_PAIRS,
    HUMAN_TITLES,
    SYNTHETIC_ESTIMATE,
    EvaluationSet,
    Role,
    from_documents,
    from_queries,
)
from multigrain.records import Document, Split
from multigrain.sources.store import read_document_table, read_query_table
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.heldout import read_heldout_queries

_ROLES: dict[Split, Role] = {Split.VALIDATION: "validation", Split.TEST: "test"}


def domain_sets(config: Config, run: RunDirectory, documents: Sequence[Document]) -> Iterator[EvaluationSet]:
    """Held-out queries over all of a run's documents.

    Args:
        config: the run's.
        run: where its queries lie.
        documents: all of the run's documents.
    """
    if config.evaluation.queries == "none":
        return
    written_queries = read_heldout_queries(run.heldout_queries_path)
    further = _further_documents(run)
    given_queries = read_query_table(run.queries_path) if config.start_from == "pairs" else ()
    for split, role in _ROLES.items():
        pairs = [(key, query.text) for query in given_queries if query.split is split for key in query.document_ids]
        if pairs:
            yield from_queries(pairs, documents, name=role, role=role, provenance=GIVEN_PAIRS)
        if config.start_from == "pairs":
            continue
        heldout = [document for document in documents if document.split is split]
        queries = [
            (key, written_queries[document.id])
            for document in heldout
            if document.id in written_queries
            for key in (document.id, *further.get(document.id, ()))
        ]
        if queries:
            yield from_queries(queries, documents, name=role, role=role, provenance=_written_provenance(run))
        elif heldout:
            yield from_documents(documents, split, documents, role, role, provenance=HUMAN_TITLES)


def validation_sets(config: Config, run: RunDirectory) -> tuple[EvaluationSet, ...]:
    """What chooses: the config's sets of role validation or, where it names none, the run's own validation queries."""
    if config.evaluation.choosing_sets:
        return open_sets(config.evaluation.choosing_sets, seed=config.seed).retrieval
    sets = domain_sets(config, run, read_document_table(run.documents_path))
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
