"""Every reader of rows × every layout × every mutation: rows in are rows out and named rejects, and nothing is silent.

A reader joins by a line in `READERS`, a layout by a line in `LAYOUTS`, a mutation by a line in `MUTATIONS`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multigrain.config import DocumentsConfig, MixSourceConfig, PairsConfig
from multigrain.dataset.foreign import read_foreign
from multigrain.errors import EvaluationError, SourceError
from multigrain.evaluation.sets.beir import read_judged
from multigrain.evaluation.sets.sts import read_sts
from multigrain.mining.corpus import CorpusFiles
from multigrain.mining.job import read_pairs as read_pairs_to_mine
from multigrain.sources.beir import BeirFiles
from multigrain.sources.load import read_documents
from multigrain.sources.pairs import read_pairs
from multigrain.sources.source import data_source
from multigrain.storage.reading import Reading
from multigrain.training.mixing import MixedRows, read_mix

Rows = list[dict[str, Any]]


@dataclass
class Outcome:
    """What a reader made of a file.

    Attributes:
        texts: every text that came out, in order.
        read: rows that it says it read; None where it says nothing, and every row is one of `texts`.
        kept: rows that came out, or became part of others.
        left_out: rows that it says it left out, by name.
        notes: what it has to tell.
    """

    texts: list[Any]
    read: int
    kept: int
    left_out: int = 0
    notes: list[str] = field(default_factory=list)


def _outcome(texts: list[Any], reading: Reading, *more: str) -> Outcome:
    notes = [*reading.lines("table"), *more]
    return Outcome(texts, reading.rows, reading.kept + reading.joined, reading.dropped, notes)


# --- readers ---------------------------------------------------------------------------------------------------------


def _foreign(path: Path) -> Outcome:
    reading = Reading()
    rows, _ = read_foreign(path, reading=reading)
    assert len(rows) == reading.kept
    return _outcome([(row.query, row.positives, row.negatives, row.scores) for row in rows], reading)


def _pairs(path: Path) -> Outcome:
    table = read_pairs(PairsConfig(path=path))
    return _outcome([sorted(table.positives), sorted(document.text for document in table.documents)], table.reading)


def _pairs_to_mine(path: Path) -> Outcome:
    pairs = read_pairs_to_mine(path, None, None)
    return _outcome([pairs.queries, pairs.positives], pairs.reading)


def _mix(path: Path) -> Outcome:
    counts = MixedRows()
    columns = {"query": "query", "positive": "positive", "negatives": []}
    config = MixSourceConfig.model_validate({"name": "m", "path": str(path), "columns": columns})
    rows = [(row.query, row.positive) for row in read_mix(config, counts, seed=1)]
    assert counts.usable == counts.reading.kept
    return _outcome(rows, counts.reading)


def _documents(path: Path) -> Outcome:
    config = DocumentsConfig(path=path)
    documents = list(read_documents(config)[0])
    notes = list(data_source(config).notes(config))
    return Outcome(
        [(document.title, document.text) for document in documents], len(documents), len(documents), notes=notes
    )


def _corpus(path: Path) -> Outcome:
    corpus = CorpusFiles((str(path),))
    texts = list(corpus)
    (reading,) = corpus.readings.values()
    assert len(texts) == reading.kept
    return _outcome(texts, reading)


def _judged(path: Path) -> Outcome:
    queries, qrels = path.with_name("queries.jsonl"), path.with_name("qrels.tsv")
    queries.write_text('{"_id": "q", "text": "ask"}\n{"_id": "r", "text": "ask again"}')
    qrels.write_text("q\td0\t1\nr\td2\t1\n")
    loaded = read_judged(BeirFiles(path, queries, qrels), name="s", role="test")
    dropped = sum(int(note.split()[1].replace(",", "")) for note in loaded.notes if "documents left out" in note)
    texts = list(loaded.corpus.values())
    return Outcome(texts, len(texts) + dropped, len(texts), dropped, list(loaded.notes))


def _similarity(path: Path) -> Outcome:
    loaded = read_sts(path, name="s", role="test")
    dropped = sum(int(note.split()[1].replace(",", "")) for note in loaded.notes if "pairs left out" in note)
    return Outcome(
        [*zip(loaded.pairs, loaded.gold, strict=True)],
        len(loaded.pairs) + dropped,
        len(loaded.pairs),
        dropped,
        list(loaded.notes),
    )


# --- layouts: a row by its number; texts hold what tables trip over --------------------------------------------------


def _words(number: int, what: str) -> str:
    return f'{what} {number}: "{what}", and; so | on' if number % 5 else f"{what} {number}"


def _message(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _passage(text: str) -> dict[str, str]:
    return {"docid": "1", "title": "", "text": text}


LAYOUTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "pair": lambda n: {"query": _words(n, "q"), "positive": _words(n, "p")},
    "anchor": lambda n: {"anchor": _words(n, "q"), "answer": _words(n, "p")},
    "labelled": lambda n: {"query": _words(n // 2, "q"), "positive": _words(n, "p"), "label": n % 2},
    "graded": lambda n: {"query": _words(n // 2, "q"), "positive": _words(n, "p"), "score": 0.2 + 0.7 * (n % 2)},
    "triplet": lambda n: {"query": _words(n, "q"), "positive": _words(n, "p"), "negative": _words(n, "n")},
    "n-tuple": lambda n: {
        "query": _words(n, "q"),
        "positive": _words(n, "p"),
        **{f"neg_{k}": _words(n + k, "n") for k in range(1, 4)},
    },
    "lists": lambda n: {
        "query": _words(n, "q"),
        "positive": _words(n, "p"),
        "hard_negatives": [_words(n + k, "n") for k in range(n % 4)],
    },
    "labeled-list": lambda n: {
        "anchor": _words(n, "q"),
        "documents": [_words(n, "p"), _words(n, "n")],
        "labels": [1, 0],
    },
    "labelled answers": lambda n: {
        "query": _words(n, "q"),
        "positive": [_words(n, "p"), _words(n, "n")],
        "labels": [1, 0],
    },
    "flagembedding": lambda n: {"query": _words(n, "q"), "pos": [_words(n, "p")], "neg": [_words(n, "n")]},
    "tevatron": lambda n: {
        "query_id": str(n),
        "query": _words(n, "q"),
        "positive_passages": [_passage(_words(n, "p"))],
        "negative_passages": [_passage(_words(n, "n"))],
    },
    "ms-swift": lambda n: {
        "messages": _message(_words(n, "q")),
        "positive_messages": [_message(_words(n, "p"))],
        "negative_messages": [_message(_words(n, "n"))],
    },
    "ms-swift earlier": lambda n: {
        "query": _words(n, "q"),
        "response": _words(n, "p"),
        "rejected_response": [_words(n, "n")],
    },
    "documents": lambda n: {"_id": f"d{n}", "title": _words(n, "t") if n % 3 else "", "text": _words(n, "p")},
    "similarity": lambda n: {"sentence1": _words(n, "q"), "sentence2": _words(n, "p"), "score": n % 6},
}

_LABELLED = ("labelled", "graded")
_PAIRS = ("pair", "labelled", "graded", "triplet", "n-tuple", "lists", "labelled answers")
READERS: dict[str, tuple[Callable[[Path], Outcome], tuple[str, ...]]] = {
    "training file": (_foreign, tuple(name for name in LAYOUTS if name not in ("documents", "similarity"))),
    "pairs": (_pairs, (*_PAIRS, "anchor")),
    "pairs to mine": (_pairs_to_mine, (*_PAIRS, "anchor")),
    "mix": (_mix, _PAIRS),
    "documents": (_documents, ("documents",)),
    "corpus to mine": (_corpus, ("documents",)),
    "judged set": (_judged, ("documents",)),
    "similarity set": (_similarity, ("similarity",)),
}
"""For each reader the layouts that are its own."""


# --- mutations -------------------------------------------------------------------------------------------------------


def _some(change: Callable[[dict[str, Any], str], dict[str, Any]]) -> Callable[[Rows, str], Rows]:
    """A change of every eleventh row."""
    return lambda rows, column: [change(row, column) if number % 11 == 4 else row for number, row in enumerate(rows)]


def _without(row: dict[str, Any], column: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != column}


MUTATIONS: dict[str, Callable[[Rows, str], Rows]] = {
    "missing": _some(_without),
    "null": _some(lambda row, column: row | {column: None}),
    "blank": _some(lambda row, column: row | {column: "  "}),
    "list for text": _some(lambda row, column: row | {column: [row[column]]}),
    "number for text": _some(lambda row, column: row | {column: 7}),
    "extra": lambda rows, column: [row | {"extra_note": f"x{number}"} for number, row in enumerate(rows)],
    "renamed": lambda rows, column: [
        {f"my_{column}" if k == column else k: v for k, v in row.items()} for row in rows
    ],
    "capitals": lambda rows, column: [{k.upper(): v for k, v in row.items()} for row in rows],
    "reordered": lambda rows, column: [dict(reversed(row.items())) for row in rows],
    "duplicate": lambda rows, column: [row for number, row in enumerate(rows) for _ in range(1 + (number % 11 == 4))],
}


def _write(path: Path, rows: Rows) -> bool:
    """Write a table; False where its kind cannot hold these rows."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        try:
            pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return False
    else:
        if any(isinstance(value, list | dict) for row in rows for value in row.values()):
            return False
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([names, *([row.get(name) for name in names] for row in rows)])
    return True


COMBINATIONS = [(reader, layout) for reader, (_, layouts) in READERS.items() for layout in layouts]


def _read(reader: str, path: Path) -> Outcome | str:
    try:
        return READERS[reader][0](path)
    except (SourceError, EvaluationError) as error:
        return str(error)


def _plain(reader: str, layout: str, path: Path, rows: Rows) -> Outcome:
    """What the reader makes of the rows as they are: all of them, but for those that a label calls no match."""
    plain = _read(reader, path)
    assert isinstance(plain, Outcome), plain
    assert plain.read == len(rows) == plain.kept + plain.left_out
    assert plain.left_out == (len(rows) // 2 if layout in _LABELLED and reader != "training file" else 0), plain.notes
    return plain


def _check(reader: str, mutation: str, column: str, path: Path, rows: Rows, plain: Outcome) -> None:
    """Mutate, write and read."""
    changed = MUTATIONS[mutation](rows, column)
    if not _write(path, changed):
        return
    outcome = _read(reader, path)
    where = f"{mutation} of {column}: {outcome if isinstance(outcome, str) else outcome.notes}"

    if isinstance(outcome, str):
        assert mutation not in ("extra", "reordered"), where
        assert path.name in outcome, where
        assert "\n" not in outcome, where
        return
    assert outcome.read == len(changed) == outcome.kept + outcome.left_out, where
    assert not outcome.left_out or any("left out" in note for note in outcome.notes), where
    if mutation in ("reordered", "extra"):
        assert outcome.texts == plain.texts, where
    if mutation == "extra":
        assert any("'extra_note'" in note for note in outcome.notes), where
    if mutation == "renamed" and outcome.texts != plain.texts:
        assert any(f"'my_{column}'" in note for note in outcome.notes), where


def _is_whole(mutation: str) -> bool:
    """Whether a mutation is of whole rows, whatever the column."""
    return mutation in ("extra", "capitals", "reordered", "duplicate")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize(("reader", "layout"), COMBINATIONS)
def test_rows_in_are_rows_out_and_named_rejects(tmp_path: Path, reader: str, layout: str, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    rows = [LAYOUTS[layout](number) for number in range(44)]
    if not _write(path, rows):
        return  # lists have no place in a text table

    plain = _plain(reader, layout, path, rows)

    for mutation in MUTATIONS:
        for column in list(rows[0])[: 1 if _is_whole(mutation) else None]:
            _check(reader, mutation, column, path, rows, plain)


@pytest.mark.slow
@pytest.mark.parametrize(("reader", "layout"), COMBINATIONS)
def test_a_hundred_thousand_rows_in_are_rows_out_and_named_rejects(tmp_path: Path, reader: str, layout: str) -> None:
    """Every mutation of the layout's second column, each in 100,000 rows."""
    path = tmp_path / "table.jsonl"
    rows = [LAYOUTS[layout](number) for number in range(100_000)]
    _write(path, rows)
    plain = _plain(reader, layout, path, rows)

    for mutation in MUTATIONS:
        _check(reader, mutation, list(rows[0])[1], path, rows, plain)
