"""Graded rows in the forms that other training tools read; `foreign` reads them all back. Rows go by one at a time."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from multigrain.dataset.foreign import ForeignRow, FormatName
from multigrain.dataset.store import write_examples
from multigrain.errors import SourceError
from multigrain.records import GradedExample
from multigrain.storage.files import atomic_stream, writing

__all__ = ["convert", "export_examples"]

_LOT: Final = 4_096  # rows of a Parquet file's row group


@dataclass(frozen=True, slots=True)
class _Scored:
    """A row, with similarities of its positive and negatives where they are known."""

    row: ForeignRow
    scores: tuple[float, list[float]] | None = None


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
    _write(map(_scored, enumerate(examples, start=1)), path, form)


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
    return _write(map(_Scored, rows), path, form)


def _scored(numbered: tuple[int, GradedExample]) -> _Scored:
    line, each = numbered
    row = ForeignRow(line, each.query, (each.positive,), tuple(n.text for n in each.negatives), each.id)
    return _Scored(row, (each.positive_similarity, [n.similarity for n in each.negatives]))


def _write(rows: Iterable[_Scored], path: Path, form: FormatName) -> int:
    write = _kind(path, form)
    count = 0

    def counted() -> Iterator[_Scored]:
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


def _sentence_transformers(rows: Iterator[_Scored]) -> Iterator[dict[str, Any]]:
    # The trainer reads columns by their order, and every row must fill them all.
    counts: set[int] = set()
    for row in (each.row for each in rows):
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


def _flagembedding(rows: Iterator[_Scored]) -> Iterator[dict[str, Any]]:
    for each in rows:
        row = each.row
        value: dict[str, Any] = {"query": row.query, "pos": list(row.positives), "neg": list(row.negatives)}
        if each.scores is not None:
            positive, negatives = each.scores
            value |= {"pos_scores": [round(positive, 6)], "neg_scores": [round(score, 6) for score in negatives]}
        yield value


def _tevatron(rows: Iterator[_Scored]) -> Iterator[dict[str, Any]]:
    for row in (each.row for each in rows):
        yield {
            "query_id": row.id or str(row.line),
            "query": row.query,
            "positive_passages": [_passage(text) for text in row.positives],
            "negative_passages": [_passage(text) for text in row.negatives],
        }


def _ms_swift(rows: Iterator[_Scored]) -> Iterator[dict[str, Any]]:
    for row in (each.row for each in rows):
        yield {
            "messages": [_message(row.query)],
            "positive_messages": [[_message(text)] for text in row.positives],
            "negative_messages": [[_message(text)] for text in row.negatives],
        }


_WRITERS: Final[Mapping[FormatName, Callable[[Iterator[_Scored]], Iterator[dict[str, Any]]]]] = {
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

    lot = list(islice(values, _LOT))
    schema = pa.Table.from_pylist(lot).schema
    with writing(path), pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        while lot:
            writer.write_table(pa.Table.from_pylist(lot, schema=schema))
            lot = list(islice(values, _LOT))
