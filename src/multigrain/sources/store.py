"""The run's documents on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from multigrain.records import Document, GivenQuery, Split
from multigrain.storage.files import atomic_write
from multigrain.storage.parquet import StoredTable, attributes, write_table
from multigrain.storage.sequences import DiskList

_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("group", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)

_PACK: Final = attrgetter("id", "text", "title", "group", "split.value")
_SPLITS: Final = {split.value: split for split in Split}


def _unpack(values: tuple[Any, ...]) -> Document:
    identifier, text, title, group, split = values
    return Document(identifier, text, title, group, _SPLITS[split])


def write_document_table(path: Path, documents: Iterable[Document]) -> None:
    """Write documents as Parquet, whole or not at all."""
    write_table(path, _SCHEMA, attributes(_SCHEMA), documents)


def open_document_table(path: Path) -> StoredTable[Document]:
    """Documents that `write_document_table` wrote, in their order, read as they are asked for.

    Going through them in order is fast. To ask for them at random, put them into a `document_list` first.
    """
    return StoredTable(path, _SCHEMA, lambda row: Document(**{**row, "split": Split(row["split"])}))


def document_list(documents: Iterable[Document] = ()) -> DiskList[Document]:
    """Documents in a temporary file, any of which can be read at any time."""
    return DiskList(documents, pack=_PACK, unpack=_unpack)


def read_document_table(path: Path) -> tuple[Document, ...]:
    """Read documents that `write_document_table` wrote, in their order, into memory."""
    return tuple(open_document_table(path))


def write_query_table(path: Path, queries: Sequence[GivenQuery]) -> None:
    """Write given queries as JSON lines, whole or not at all."""
    atomic_write(path, "".join(json.dumps(asdict(query), ensure_ascii=False) + "\n" for query in queries))


def read_query_table(path: Path) -> tuple[GivenQuery, ...]:
    """Read queries that `write_query_table` wrote, in their order."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)
    return tuple(GivenQuery(row["id"], row["text"], tuple(row["document_ids"]), Split(row["split"])) for row in rows)
