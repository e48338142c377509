"""Graded rows in the forms that other training tools read; `foreign` reads them all back. Rows go by one at a time."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from multigrain.dataset.foreign import ForeignRow, FormatName
from multigrain.dataset.store import write_examples
from multigrain.errors import SourceError
from multigrain.records import GradedExample, Negative, Passage
from multigrain.storage.files import atomic_stream, writing
from multigrain.storage.reading import Reading

_GROUP_ROWS: Final = 4_096


def export_examples(
    examples: Iterable[GradedExample], path: Path, form: FormatName, *, reading: Reading | None = None
) -> None:
    """Write graded rows for another tool. Negatives go from level 1 (easiest) to level 4.

    Args:
        examples: the rows; read once.
        path: .jsonl; for sentence-transformers also .csv or .parquet, for multigrain .parquet.
        form: whose file it is.
        reading: notes what the file has no place for.

    Raises:
        SourceError: the form has no file of that kind, or cannot hold the rows.
    """
    if form == "multigrain":
        if path.suffix != ".parquet":
            raise SourceError(f"{path}: multigrain's own rows go into a .parquet file")
        write_examples(path, examples)
        return
    # FlagEmbedding reads scores where it is told to; any other loss would take cosines for a teacher's word.
    cosines = form == "flagembedding"
    rows = (_scored(number, example, cosines) for number, example in enumerate(examples, start=1))
    _write(rows, path, form, reading)


def convert(rows: Iterable[ForeignRow], path: Path, form: FormatName, *, reading: Reading | None = None) -> int:
    """Write rows in another form.

    Args:
        rows: the rows; read once.
        path: where to; its ending decides the kind of file.
        form: whose file it is.
        reading: notes what the file has no place for.

    Returns:
        How many rows there were.

    Raises:
        SourceError: the form has no file of that kind, or cannot hold the rows.
    """
    if form == "multigrain":
        raise SourceError(f"{path}: multigrain's own rows hold measured levels: `multigrain audit` makes them")
    return _write(rows, path, form, reading)


def write_values(path: Path, values: Iterator[dict[str, Any]]) -> None:
    """Write plain rows, whole or not at all.

    Args:
        path: .jsonl, or .parquet, whose columns are those of the first rows.
        values: the rows.

    Raises:
        SourceError: the path ends in something else.
    """
    if path.suffix not in (".jsonl", ".ndjson", ".parquet"):
        raise SourceError(f"{path}: cannot tell what to write; end it in .jsonl or .parquet")
    write = _write_parquet if path.suffix == ".parquet" else _write_jsonl
    with atomic_stream(path) as stream:
        write(path, stream, values)


def _scored(number: int, example: GradedExample, cosines: bool) -> ForeignRow:
    """A row with its teacher's scores and all that was scored; or else, if so wanted, the reference's cosines."""
    positives = (example.positive, *(passage.text for passage in example.further_positives))
    negatives = tuple(negative.text for negative in example.negatives)
    passages: tuple[Passage | Negative, ...] = (*example.further_positives, *example.negatives)
    taught = [example.positive_score, *(passage.score for passage in passages)]
    scores = [score for score in taught if score is not None]
    if len(scores) == len(taught):
        candidates = [(passage.text, passage.score) for passage in example.candidates if passage.score is not None]
        negatives += tuple(text for text, _ in candidates)
        scores += [score for _, score in candidates]
    elif cosines:
        scores = [example.positive_similarity, *(passage.similarity for passage in passages)]
    else:
        scores = []
    return ForeignRow(number, example.query, positives, negatives, example.id, tuple(scores))


def _write(rows: Iterable[ForeignRow], path: Path, form: FormatName, reading: Reading | None) -> int:
    write = _kind(path, form)
    takes_scores = form != "ms-swift" and write is not _write_csv
    count = without = 0

    def counted() -> Iterator[ForeignRow]:
        nonlocal count, without
        for row in rows:
            count += 1
            without += bool(row.scores) and not takes_scores
            yield row if takes_scores else replace(row, scores=())

    with atomic_stream(path) as stream:
        write(path, stream, _WRITERS[form](counted()))
    if without and reading is not None:
        kind = "ms-swift's form" if form == "ms-swift" else f"a {path.suffix} file"
        reading.remark(f"scores of {without:,} rows are left out: {kind} has no place for them")
    return count


def _kind(path: Path, form: FormatName) -> Callable[[Path, BinaryIO, Iterator[dict[str, Any]]], None]:
    """What writes the file that a path's ending promises."""
    if path.suffix in (".jsonl", ".ndjson"):
        return _write_jsonl
    if form == "lists" and path.suffix == ".parquet":
        return _write_parquet
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
    scored: Counter[bool] = Counter()
    for row in rows:
        counts.add(len(row.negatives))
        has_scores = bool(row.positive_scores) and len(row.negative_scores) == len(row.negatives)
        scored[has_scores] += 1
        if len(counts) > 1 or len(scored) > 1:
            continue  # nothing of it will be kept; the others are counted for the message
        several = len(row.negatives) != 1
        names = [f"negative_{n}" for n in range(1, len(row.negatives) + 1)] if several else ["negative"]
        for place, positive in enumerate(row.positives):
            value: dict[str, Any] = {"anchor": row.query, "positive": positive}
            value |= dict(zip(names, row.negatives, strict=True))
            if has_scores:
                value["label"] = [row.positive_scores[place], *row.negative_scores]
            yield value
    if len(counts) > 1:
        raise SourceError(
            f"sentence-transformers columns need as many negatives in every row, and there are {min(counts)} to "
            f"{max(counts)}; --format lists, flagembedding and tevatron take any number"
        )
    if len(scored) > 1:
        raise SourceError(
            f"sentence-transformers columns need a label in every row or in none, and {scored[True]:,} of "
            f"{scored.total():,} rows have scores; --format flagembedding and tevatron take both"
        )


def _flagembedding(rows: Iterator[ForeignRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        value: dict[str, Any] = {"query": row.query, "pos": list(row.positives), "neg": list(row.negatives)}
        if row.positive_scores:
            value["pos_scores"] = _rounded(row.positive_scores)
        if row.negative_scores:
            value["neg_scores"] = _rounded(row.negative_scores)
        yield value


def _lists(rows: Iterator[ForeignRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        texts = [*row.positives, *row.negatives]
        labels = _rounded((*row.positive_scores, *row.negative_scores))
        if len(labels) != len(texts):
            labels = [1.0] * len(row.positives) + [0.0] * len(row.negatives)
        yield {"query": row.query, "docs": texts, "labels": labels}


def _rounded(scores: Iterable[float]) -> list[float]:
    return [round(score, 6) for score in scores]


def _tevatron(rows: Iterator[ForeignRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {
            "query_id": row.id or str(row.line),
            "query": row.query,
            "positive_passages": _passages(row.positives, row.positive_scores),
            "negative_passages": _passages(row.negatives, row.negative_scores),
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
    "lists": _lists,
    "flagembedding": _flagembedding,
    "tevatron": _tevatron,
    "ms-swift": _ms_swift,
}


def _passages(texts: Sequence[str], scores: Sequence[float]) -> list[dict[str, Any]]:
    if len(scores) != len(texts):
        return [_passage(text) for text in texts]
    return [{**_passage(text), "score": score} for text, score in zip(texts, _rounded(scores), strict=True)]


def _passage(text: str) -> dict[str, Any]:
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
