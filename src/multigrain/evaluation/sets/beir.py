"""Evaluation sets from a BEIR folder, or from a user's own files of queries, documents and relevance judgments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from multigrain.errors import EvaluationError, SourceError
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, Role
from multigrain.sources.beir import BeirFiles, find_beir, read_judged_texts
from multigrain.storage.reading import FEW

GIVEN_JUDGMENTS: Final = "given relevance judgments"


def read_beir(
    path: Path,
    *,
    name: str,
    role: Role,
    provenance: str | None = None,
    cluster_by: str | None = None,
    slice_by: Sequence[str] = (),
) -> EvaluationSet:
    """Read a BEIR folder. Queries that have no judgments (BEIR keeps all splits' queries in one file) are left out.

    Args:
        path: the folder, whose qrels/test.tsv is taken (or the only .tsv there is, or qrels.tsv), or one file in
            its qrels/.
        name: what tables call the set.
        role: what the set is for.
        provenance: who judged; None for what about.json says, where there is one.
        cluster_by: see `read_judged`.
        slice_by: likewise.

    Raises:
        EvaluationError: a missing or malformed file, duplicate ids, or judgments that name missing ids.
    """
    with as_evaluation_error():
        files = find_beir(path)
    provenance = provenance or _own_provenance(files.corpus.parent) or GIVEN_JUDGMENTS
    return read_judged(files, name=name, role=role, provenance=provenance, cluster_by=cluster_by, slice_by=slice_by)


def read_judged(
    files: BeirFiles,
    *,
    name: str,
    role: Role,
    provenance: str = GIVEN_JUDGMENTS,
    cluster_by: str | None = None,
    slice_by: Sequence[str] = (),
) -> EvaluationSet:
    """Make a set of three files, each in its own format. Queries that have no judgments are left out.

    Args:
        files: ids and texts of documents and queries, and who answers whom; see `sources.beir`.
        name: what tables call the set.
        role: what the set is for.
        provenance: who judged.
        cluster_by: the column of the queries that says whose they are: those with one value are a cluster.
        slice_by: columns of the queries that say of what kind they are.

    Raises:
        EvaluationError: a missing or malformed file, duplicate ids, judgments that name many missing ids, or no such
            column.
    """
    with as_evaluation_error():
        texts = read_judged_texts(files, columns=[*([cluster_by] if cluster_by else []), *slice_by])
    answered = {query_id for query_id, grades in texts.qrels.items() if any(grade > 0 for grade in grades.values())}
    unanswered = [query_id for query_id in texts.qrels if query_id not in answered]
    notes = list(texts.notes)
    if unanswered:
        first = f"evaluation set {name!r}: query {unanswered[0]!r} has no relevant document"
        if len(unanswered) > FEW * len(texts.qrels):
            raise EvaluationError(
                f"{first}, as {len(unanswered):,} of {len(texts.qrels):,} queries; judge one with a grade above 0 or "
                f"leave the query out (up to {FEW:.0%} are left out)"
            )
        notes.append(
            f"{files.qrels.name}: {len(unanswered):,} of {len(texts.qrels):,} queries left out, no document judged "
            f"relevant; the first is {unanswered[0]!r}"
        )
    return EvaluationSet(
        name,
        role,
        provenance,
        corpus=texts.corpus,
        queries={query_id: query for query_id, query in texts.queries.items() if query_id in answered},
        qrels={query_id: grades for query_id, grades in texts.qrels.items() if query_id in answered},
        notes=tuple(notes),
        # A query of which nobody says who asked it stands for itself.
        asked_by={key: texts.columns[cluster_by].get(key, f"query {key}") for key in answered} if cluster_by else {},
        kinds={
            name: {key: value for key, value in texts.columns[name].items() if key in answered} for name in slice_by
        },
    )


@contextmanager
def as_evaluation_error() -> Iterator[None]:
    """A context in which a file that cannot be read is an evaluation set that cannot be used.

    Raises:
        EvaluationError: instead of a SourceError.
    """
    try:
        yield
    except SourceError as error:
        raise EvaluationError(str(error)) from None


def _own_provenance(folder: Path) -> str | None:
    path = folder / "about.json"
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # not ours: nothing in BEIR's format is called so
    provenance = about.get("label") if isinstance(about, dict) else None
    return provenance if isinstance(provenance, str) else None
