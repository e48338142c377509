"""Further documents that answer held-out queries: written queries know their own document alone.

Only what the reference model finds near a query is judged: a document that no model finds stays unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from multigrain.audit.duplicates import Embed
from multigrain.audit.judges import Judge
from multigrain.mining.best import Rows
from multigrain.mining.search import rank_corpus
from multigrain.records import Document
from multigrain.storage.files import atomic_write

DEPTH: Final = 5
"""Documents near a held-out query that are judged."""


def judge_heldout(
    queries: Mapping[str, str],
    documents: Sequence[Document],
    vectors: Rows,
    encode_queries: Embed,
    judges: Sequence[Judge],
    *,
    depth: int = DEPTH,
) -> dict[str, tuple[str, ...]]:
    """The documents near a held-out query that every judge is sure of.

    Args:
        queries: by the id of the document that each was written for.
        documents: all that are searched.
        vectors: theirs, under the reference model.
        encode_queries: the reference model.
        judges: at least one.
        depth: documents a query that are judged, near-duplicates of its own left out.

    Returns:
        Ids of further documents by the id of the query's own; those without any are left out.
    """
    numbers = {document.id: number for number, document in enumerate(documents)}
    known = {key: query for key, query in queries.items() if key in numbers}
    if not known:
        return {}
    groups = [document.group for document in documents]
    own = [{groups[numbers[key]]} for key in known]
    rankings = rank_corpus(encode_queries(list(known.values())), vectors, groups, own, depth=depth)
    pairs = [
        (key, query, int(index))
        for (key, query), ranking in zip(known.items(), rankings, strict=True)
        for index in ranking.indices
    ]
    for judge in judges:
        answers = judge.answering([(query, documents[index].text) for _, query, index in pairs])
        pairs = [pair for pair, is_answer in zip(pairs, answers, strict=True) if is_answer]
    further: dict[str, tuple[str, ...]] = {}
    for key, _, index in pairs:
        further[key] = (*further.get(key, ()), documents[index].id)
    return further


def write_heldout_positives(path: Path, further: Mapping[str, Sequence[str]]) -> None:
    """Write what `judge_heldout` found, as JSON lines."""
    lines = (json.dumps({"document_id": key, "further": list(ids)}) + "\n" for key, ids in further.items())
    atomic_write(path, "".join(lines))
