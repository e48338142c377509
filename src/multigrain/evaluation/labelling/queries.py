"""What there is to judge: a run's held-out queries, or queries of the user's own that nobody has labelled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from multigrain.config import DocumentsConfig
from multigrain.errors import EvaluationError
from multigrain.evaluation.per_query import read_per_query
from multigrain.evaluation.results import BASE, read_results
from multigrain.evaluation.retrieval import DenseRetriever, Retriever
from multigrain.evaluation.sets.beir import as_evaluation_error
from multigrain.evaluation.stored import PER_QUERY_FILE, RESULTS_FILE
from multigrain.mining.best import NO_ROW
from multigrain.records import Document
from multigrain.sources.asked import read_asked
from multigrain.sources.store import open_document_table
from multigrain.sources.words import fold_text
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.sequences import TextTable, View

if TYPE_CHECKING:  # it loads torch, which judging a run's own queries can do without
    from multigrain.encoders.models import Encoding, ModelSpec
    from multigrain.encoders.protocol import Encoder

OpenModels: TypeAlias = "Callable[[str], AbstractContextManager[Mapping[str, Encoder]]]"
"""Opens the base, and the model of a name; both are let go of at the end."""


@dataclass(frozen=True)
class LabelTask:
    """What a judge is asked about.

    Attributes:
        name: what the judgments are filed under.
        base: the model that others are compared with.
        others: the other models.
        queries: query id to text.
        rankings: model to query id to document ids, best first.
        texts: document id to text.
    """

    name: str
    base: str
    others: tuple[str, ...]
    queries: Mapping[str, str]
    rankings: Mapping[str, Mapping[str, Sequence[str]]]
    texts: Mapping[str, str]


def run_queries(run: RunDirectory) -> LabelTask:
    """The run's own test queries, and what the base and the chosen model found for them.

    Raises:
        StageOrderError: the run has not been evaluated.
        EvaluationError: it has no test queries of its own.
    """
    run.require("results", "multigrain evaluate")
    results = read_results(run.results_path / RESULTS_FILE)
    texts = TextTable((document.id, document.text) for document in open_document_table(run.documents_path))
    rows = [row for row in read_per_query(run.results_path / PER_QUERY_FILE) if row.model in (BASE, results.chosen)]
    for result in results.shown:
        own = [row for row in rows if row.set == result.name]
        if result.role == "test" and own and all(key in texts for row in own for key in row.top_ids):
            rankings: dict[str, dict[str, Sequence[str]]] = {BASE: {}, results.chosen: {}}
            for row in own:
                rankings[row.model][row.query_id] = row.top_ids
            queries = {row.query_id: row.query for row in own}
            return LabelTask(result.name, BASE, (results.chosen,), queries, rankings, texts)
    raise EvaluationError(f"{run.path}: no test queries over the run's own documents; give your own with --queries")


def own_queries(run: RunDirectory, path: Path, open_models: OpenModels, *, depth: int) -> LabelTask:
    """Queries from a text file, one a line, searched with the base and the chosen model.

    Args:
        run: holds documents and models.
        path: the file.
        open_models: gives the base's encoder and the chosen model's, by their names.
        depth: how many documents to find for each query.

    Raises:
        EvaluationError: the file cannot be read, or holds no query.
        StageOrderError: the run has not been evaluated.
        ModelError: a model cannot be loaded.
    """
    queries = _read_queries(path)
    run.require("results", "multigrain evaluate")
    chosen = read_results(run.results_path / RESULTS_FILE).chosen
    documents = open_document_table(run.documents_path)
    with open_models(chosen) as encoders:
        retrievers = ((name, DenseRetriever(encoder)) for name, encoder in encoders.items())
        return _search(path, retrievers, documents, queries, depth)


def model_queries(
    models: Sequence[ModelSpec], documents: Path, queries: Path, *, depth: int, encoding: Encoding
) -> LabelTask:
    """Queries from a text file, one a line, searched in any documents with any models; needs no run.

    Args:
        models: the models, the base first; `bm25` may be one.
        documents: a folder of texts or a table, as `documents.path` in a config.
        queries: the file.
        depth: how many documents each model finds for each query.
        encoding: how texts are encoded.

    Raises:
        EvaluationError: a file cannot be read, or two models have one name.
        SourceError: the documents cannot be read.
        ModelError: a model cannot be loaded.
    """
    from multigrain.evaluation.scoring import open_retriever
    from multigrain.sources.load import read_documents

    texts = _read_queries(queries)
    every_document, _ = read_documents(DocumentsConfig(path=documents))
    searched = (document for document in every_document if document.text.strip())
    if len({model.name for model in models}) < len(models):
        raise EvaluationError("two models have one name; name them: NAME=REFERENCE")

    def retrievers() -> Iterator[tuple[str, Retriever]]:
        for model in models:
            with open_retriever(model, encoding) as retriever:
                yield model.name, retriever

    return _search(queries, retrievers(), searched, texts, depth)


def _search(
    path: Path,
    retrievers: Iterable[tuple[str, Retriever]],
    documents: Iterable[Document],
    queries: Mapping[str, str],
    depth: int,
) -> LabelTask:
    """What each model finds for the queries of a file; the first model is the base."""
    texts = TextTable((document.id, document.text) for document in documents)
    ids, rankings = list(texts), {}
    for name, retriever in retrievers:
        ranks = retriever.rank(list(queries.values()), View(ids, texts.__getitem__), depth).tolist()
        rankings[name] = {
            query_id: [ids[position] for position in row if position != NO_ROW]
            for query_id, row in zip(queries, ranks, strict=True)
        }
    base, *others = rankings
    return LabelTask(f"queries-{path.stem}", base, tuple(others), queries, rankings, texts)


def _read_queries(path: Path) -> dict[str, str]:
    with as_evaluation_error():
        distinct = {fold_text(query): query for query in read_asked(path)}
    if not distinct:
        raise EvaluationError(f"{path}: no query in it; write one a line")
    return {f"q{number}": query for number, query in enumerate(distinct.values(), start=1)}
