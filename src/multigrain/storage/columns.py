"""Column names: what people call the columns of tables, and which one of a table is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from multigrain.display.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class Column:
    """A column by what it holds.

    Attributes:
        holds: what that is, for errors.
        names: what it may be called; earlier names go before later ones.
    """

    holds: str
    names: tuple[str, ...]

    def among(self, columns: Iterable[str]) -> str | None:
        """The column's name in a table with these columns; None where it has no such column."""
        there = frozenset(columns)
        return next((name for name in self.names if name in there), None)


QUERY: Final = Column("query", ("query", "anchor", "question", "sentence1"))
POSITIVE: Final = Column("positive", ("positive", "answer", "passage", "document", "text"))
TITLE: Final = Column("title", ("title",))
TEXT: Final = Column(
    "text", ("text", "query", "question", "passage", "contents", "content", "document", "body", "anchor")
)
QUERY_ID: Final = Column("query id", ("query-id", "query_id", "queryid", "qid"))
DOCUMENT_ID: Final = Column(
    "document id", ("corpus-id", "corpus_id", "doc_id", "doc-id", "docid", "document_id", "docno", "pid")
)
ID: Final = Column("id", ("_id", "id", *QUERY_ID.names, *DOCUMENT_ID.names))
GRADE: Final = Column("grade", ("score", "grade", "relevance", "rel", "label"))
SENTENCES: Final = (Column("first sentence", ("sentence1",)), Column("second sentence", ("sentence2",)))
NEGATIVE: Final = re.compile(r"negative(?:_(\d+))?")
"""Negatives are numbered: `negative`, or `negative_1`, `negative_2`, …"""


def no_column(column: Column | str, columns: Iterable[str], *, option: str = "") -> str:
    """What an error says where a table lacks a column.

    Args:
        column: the column, or the name that was given.
        columns: those of the table.
        option: the config key or command-line option that names the column; empty where none does.
    """
    there = list(columns)
    if isinstance(column, str):
        missing = f"no column {column!r}{did_you_mean(column, there)}"
    else:
        missing = f"no column with the {column.holds} ({', '.join(column.names)})"
    names = ", ".join(map(repr, there)) or "none"
    return f"{missing}; its columns are {names}" + (f": name one of them with {option}" if option else "")
