"""Graded rows in the forms that other training tools read; `foreign` reads them all back. Rows go by one at a time."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from multigrain.dataset.foreign import ForeignRow, FormatName
from multigrain.dataset.store import write_examples
from multigrain.errors import SourceError
from multigrain.records import GradedExample
from multigrain.storage.files import atomic_stream, writing

_GROUP_ROWS: Final = 4_096


def export_examples(examples: Iterable[GradedExample], path: Path, form: FormatName) -> None:
    """Write graded rows for another tool. Negatives go from level 1 (easiest) to level 4.

    Args:
        examples: the rows; read once.
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
    _write((_scored(number, example) for number, example in enumerate(examples, start=1)), path, form)


def convert(rows: Iterable[ForeignRow], path: Path, form: FormatName) -> int:
    """Write rows in another form.

    Args:
        rows: the rows; read once.
        path: where to; its ending decides the kind of file.
        form: whose file it is.

    Returns:
        How many rows there were.

    Raises:
        SourceError: the form has no file of that kind, or cannot hold the rows.
    """
    if form == "multigrain":
        raise SourceError(f"{path}: multigrain's own rows hold measured levels: `multigrain audit` makes them")
    return _write(rows, path, form)


def _scored(number: int, example: GradedExample) -> ForeignRow:
    negatives = tuple(negative.text for negative in example.negatives)
    scores = (example.positive_similarity, *(negative.similarity for negative in example.negatives))
    return ForeignRow(number, example.query, (example.positive,), negatives, example.id, scores)


def _write(rows: Iterable[ForeignRow], path: Path, form: FormatName) -> int:
    write = _kind(path, form)
    count = 0

    def counted() -> Iterator[ForeignRow]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    with atomic_stream(path) as stream:
        write(path, stream, _WRITERS[form](counted()))
    return count


def _kind(path: Path, form: FormatName) -> Callable[[Path, BinaryIO, Iterator[dict[str, Any]]], None]:
    """What writes the file that a path's ending promises."""
    if path.suffix in (".jsonl", ".ndjson"):
        return _write_jsonl
    if form != "sentence-transformers":
        raise SourceError(f"{path}: {form} reads .jsonl; give a path that ends so")
    if path.suffix == ".csv":
        return _write_csv
    if path.suffix == ".parquet":
        return _write_parquet
    raise SourceError(f"{path}: cannot tell what to write; end it in .jsonl, .csv or .parquet")


def _sentence_transformers(rows: Iterator[ForeignRow]) -> Iterator[dict[str, Any]]:
    # The trainer reads columns by their order, and every row must fill them all.
    counts: set[int] = set()
    for row in rows:
        counts.add(len(row.negatives))
        if len(counts) > 1:
            continue  # nothing of it will be kept; the others are counted for the message
        several = len(row.negatives) != 1
        names = [f"negative_{n}" for n in range(1, len(row.negatives) + 1)] if several else ["negative"]
        for positive in row.positives:
            yield {"anchor": row.query, "positive": positive, **dict(zip(names, row.negatives, strict=True))}
    if len(counts) > 1:
        raise SourceError(
            f"sentence-transformers columns need as many negatives in every row, and there are {min(counts)} to "
            f"{max(counts)}; `multigrain audit` gives every row four"
        )


def _flagembedding(rows: Iterator[ForeignRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        value: dict[str, Any] = {"query": row.query, "pos": list(row.positives), "neg": list(row.negatives)}
        if row.scores:
            positive, *negatives = (round(score, 6) for score in row.scores)
            value |= {"pos_scores": [positive], "neg_scores": negatives}
        yield value


def _tevatron(rows: Iterator[ForeignRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {
            "query_id": row.id or str(row.line),
            "query": row.query,
            "positive_passages": [_passage(text) for text in row.positives],
            "negative_passages": [_passage(text) for text in row.negatives],
        }


def _ms_swift(rows: Iterator[ForeignRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {
            "messages": [_message(row.query)],
            "positive_messages": [[_message(text)] for text in row.positives],
            "negative_messages": [[_message(text)] for text in row.negatives],
        }


_WRITERS: Final[Mapping[FormatName, Callable[[Iterator[ForeignRow]], Iterator[dict[str, Any]]]]] = {
    "sentence-transformers": _sentence_transformers,
    "flagembedding": _flagembedding,
    "tevatron": _tevatron,
    "ms-swift": _ms_swift,
}


def _passage(text: str) -> dict[str, str]:
    return {"docid": hashlib.sha256(text.encode()).hexdigest()[:16], "title": "", "text": text}


def _message(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _write_jsonl(path: Path, stream: BinaryIO, values: Iterator[dict[str, Any]]) -> None:
    for value in values:
        line = json.dumps(value, ensure_ascii=False) + "\n"
        with writing(path):
            stream.write(line.encode())


def _write_csv(path: Path, stream: BinaryIO, values: Iterator[dict[str, Any]]) -> None:
    first = next(values, None)
    names = ["anchor", "positive"] if first is None else list(first)
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    writer = csv.DictWriter(text, fieldnames=names)
    writer.writeheader()
    for value in chain([] if first is None else [first], values):
        with writing(path):
            writer.writerow(value)
    with writing(path):
        text.flush()
    text.detach()  # the stream is somebody else's to close


def _write_parquet(path: Path, stream: BinaryIO, values: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    batch = list(islice(values, _GROUP_ROWS))
    schema = pa.Table.from_pylist(batch).schema
    with writing(path), pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        while batch:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            batch = list(islice(values, _GROUP_ROWS))
