"""Graded rows in the forms that other training tools read; `foreign` reads them all back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from multigrain.dataset.foreign import ForeignRow, FormatName
from multigrain.dataset.store import write_examples
from multigrain.errors import SourceError
from multigrain.records import GradedExample
from multigrain.rundir import atomic_write

__all__ = ["convert", "export_examples", "foreign_rows"]


def export_examples(examples: Sequence[GradedExample], path: Path, form: FormatName) -> None:
    """Write graded rows for another tool. Negatives go from level 1 (easiest) to level 4.

    Args:
        examples: the rows.
        path: .jsonl; for sentence-transformers also .csv or .parquet, for multigrain .parquet.
        form: whose file it is.

    Raises:
        SourceError: the form has no file of that kind.
    """
    if form == "multigrain":
        if path.suffix != ".parquet":
            raise SourceError(f"{path}: multigrain's own rows go into a .parquet file")
        write_examples(path, examples)
        return
    scores = {each.id: (each.positive_similarity, [n.similarity for n in each.negatives]) for each in examples}
    convert(foreign_rows(examples), path, form, scores)


def foreign_rows(examples: Iterable[GradedExample]) -> list[ForeignRow]:
    """Graded rows without what only we know of them."""
    return [
        ForeignRow(line, each.query, (each.positive,), tuple(n.text for n in each.negatives), each.id)
        for line, each in enumerate(examples, start=1)
    ]


def convert(
    rows: Sequence[ForeignRow],
    path: Path,
    form: FormatName,
    scores: Mapping[str, tuple[float, list[float]]] | None = None,
) -> None:
    """Write rows in another form.

    Args:
        rows: the rows.
        path: where to; its ending decides the kind of file.
        form: whose file it is.
        scores: similarities of positive and negatives by row id, for forms that have a place for them.

    Raises:
        SourceError: the form has no file of that kind, or cannot hold the rows.
    """
    if form == "multigrain":
        raise SourceError(f"{path}: multigrain's own rows hold measured levels: `multigrain audit` makes them")
    values = list(_WRITERS[form](rows, scores or {}))
    if path.suffix in (".jsonl", ".ndjson"):
        atomic_write(path, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))
    elif form != "sentence-transformers":
        raise SourceError(f"{path}: {form} reads .jsonl; give a path that ends so")
    elif path.suffix == ".csv":
        _write_csv(path, values)
    elif path.suffix == ".parquet":
        _write_parquet(path, values)
    else:
        raise SourceError(f"{path}: cannot tell what to write; end it in .jsonl, .csv or .parquet")


def _sentence_transformers(
    rows: Sequence[ForeignRow], scores: Mapping[str, tuple[float, list[float]]]
) -> Iterator[dict[str, Any]]:
    # The trainer reads columns by their order, and every row must fill them all.
    counts = {len(row.negatives) for row in rows}
    if len(counts) > 1:
        raise SourceError(
            f"sentence-transformers columns need as many negatives in every row, and there are {min(counts)} to "
            f"{max(counts)}; `multigrain audit` gives every row four"
        )
    several = counts != {1}
    for row in rows:
        for positive in row.positives:
            names = [f"negative_{n}" for n in range(1, len(row.negatives) + 1)] if several else ["negative"]
            yield {"anchor": row.query, "positive": positive, **dict(zip(names, row.negatives, strict=True))}


def _flagembedding(
    rows: Sequence[ForeignRow], scores: Mapping[str, tuple[float, list[float]]]
) -> Iterator[dict[str, Any]]:
    for row in rows:
        value: dict[str, Any] = {"query": row.query, "pos": list(row.positives), "neg": list(row.negatives)}
        if row.id is not None and row.id in scores:
            positive, negatives = scores[row.id]
            value |= {"pos_scores": [round(positive, 6)], "neg_scores": [round(each, 6) for each in negatives]}
        yield value


def _tevatron(rows: Sequence[ForeignRow], scores: Mapping[str, tuple[float, list[float]]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {
            "query_id": row.id or str(row.line),
            "query": row.query,
            "positive_passages": [_passage(text) for text in row.positives],
            "negative_passages": [_passage(text) for text in row.negatives],
        }


def _ms_swift(rows: Sequence[ForeignRow], scores: Mapping[str, tuple[float, list[float]]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {
            "messages": [_message(row.query)],
            "positive_messages": [[_message(text)] for text in row.positives],
            "negative_messages": [[_message(text)] for text in row.negatives],
        }


_WRITERS: Final[Mapping[FormatName, Callable[..., Iterator[dict[str, Any]]]]] = {
    "sentence-transformers": _sentence_transformers,
    "flagembedding": _flagembedding,
    "tevatron": _tevatron,
    "ms-swift": _ms_swift,
}


def _passage(text: str) -> dict[str, str]:
    return {"docid": hashlib.sha256(text.encode()).hexdigest()[:16], "title": "", "text": text}


def _message(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _write_csv(path: Path, values: list[dict[str, Any]]) -> None:
    import csv
    import io

    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, fieldnames=list(values[0]) if values else ["anchor", "positive"])
    writer.writeheader()
    writer.writerows(values)
    atomic_write(path, out.getvalue())


def _write_parquet(path: Path, values: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(values), sink, compression="zstd")
    atomic_write(path, sink.getvalue().to_pybytes())
