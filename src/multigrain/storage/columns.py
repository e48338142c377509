"""Column names: what people call the columns of tables, and which one of a table is meant. One list for all readers.

Names are the same in capitals or not, and with `-`, a space or `_` between their words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
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
        return next(iter(self.all_among(columns)), None)

    def all_among(self, columns: Iterable[str]) -> tuple[str, ...]:
        """All columns of a table that have one of the names, earlier names first."""
        return _all_of(self.names, tuple(columns))

    def unless(self, name: str | None) -> Column | str:
        """What an option names; this column, by any of its names, where the option is left at the first of them."""
        return self if name in (None, self.names[0]) else str(name)

    def without(self, other: Column | str) -> Column:
        """This column, but never the one that is chosen for something else by its very name."""
        if isinstance(other, Column):
            return self
        return Column(self.holds, tuple(name for name in self.names if _plain(name) != _plain(other)))


_QUERIES: Final = ("query", "anchor", "question", "sentence1", "sentence_1", "sentence_a")
_PASSAGES: Final = ("passage", "contents", "content", "document", "body")
_CONTEXTS: Final = ("contexts", "context")
_ANSWERING: Final = ("positive_passages", "positive_ctxs", "passage", *_CONTEXTS)

QUERY: Final = Column("query", _QUERIES)
ANSWERING: Final = Column("passage with an answer", _ANSWERING)
"""Of the positive's columns those that go before an answer, which is often a few words of the passage."""
POSITIVE: Final = Column(
    "positive",
    (
        "positive",
        "positives",
        "pos",
        *_ANSWERING,
        "answer",
        "response",
        "document",
        "text",
        "sentence2",
        "sentence_2",
        "sentence_b",
    ),
)
CONTEXT: Final = Column("context", _CONTEXTS)
"""Of the positive's columns those that some tables have for something else; see `entries.positive_column`."""
TITLE: Final = Column("title", ("title",))
PASSAGE: Final = Column("text", ("text", *_PASSAGES))
TEXT: Final = Column("text", ("text", "query", "question", *_PASSAGES, "anchor"))
QUERY_ID: Final = Column("query id", ("query-id", "query_id", "queryid", "qid"))
DOCUMENT_ID: Final = Column(
    "document id", ("corpus-id", "corpus_id", "doc_id", "doc-id", "docid", "document_id", "docno", "pid")
)
OWN_ID: Final = Column("id", ("id", "_id"))
ID: Final = Column("id", ("_id", "id", *QUERY_ID.names, *DOCUMENT_ID.names))
_SCORED: Final = ("score", "similarity", "similarity_score", "relevance_score")
_LABELLED: Final = (
    "label",
    "gold_label",
    "relevance_label",
    "relevant",
    "is_relevant",
    "is_match",
    "is_duplicate",
    "is_paraphrase",
    "is_selected",
)
_GRADED: Final = ("grade", "relevance", "rel", "relevance_grade", "relevance_judgment", "graded_relevance")
PAIR_LABEL: Final = Column("label of a pair", (*_LABELLED, *_GRADED, *_SCORED))
"""A label goes before a grade, and both before a score: of a pair with both, the score is mostly a retriever's."""
SENTENCE_SCORE: Final = Column("score", (*_SCORED, *_GRADED, *_LABELLED))
"""Of two sentences; a score orders pairs more finely than a label does."""
JUDGED: Final = Column(
    "grade",
    (_SCORED[0], *_GRADED, *_LABELLED, *_SCORED[1:], "gain", "judgment", "judgement", "relevancy", "rating", "qrel"),
)
"""Of judgments of relevance. Next to a pair, some of these names are columns of something else."""
BESIDE_JUDGMENTS: Final = (Column("iteration", ("iteration", "iter", "q0", "0")), TEXT, TITLE, OWN_ID)
"""What a table of judgments may have besides ids and grades."""
SENTENCES: Final = (
    Column("first sentence", ("sentence1", "sentence_1", "sentence_a")),
    Column("second sentence", ("sentence2", "sentence_2", "sentence_b")),
)
DOCUMENTS: Final = Column("list of documents", ("documents", "docs", "passages", "texts"))
LABELS: Final = Column("labels", ("labels", "label"))
SCORES: Final = Column("scores, the positive's first", ("scores", "labels", "teacher_scores", "label", "score"))
POSITIVE_SCORE: Final = Column(
    "positive's score", ("positive_score", "pos_score", "pos_scores", "positive_scores", "positive_similarity")
)

_MOST: Final = 16  # columns in an error
_LONGEST: Final = 40  # characters of each
_WORDS: Final = 5  # of a column's name; what has more is a text
_NEGATIVE: Final = re.compile(
    r"(?:hard_?)?(?:neg|negative)s?(?:_(?:passage|doc|document|text|ctx|message)s?)?_?(?P<number>\d*)"
    r"|rejected(?:_response)?s?_?(?P<rejected>\d*)"
)
_NEGATIVE_SCORE: Final = re.compile(
    r"(?:hard_?)?(?:neg|negative)_(?:score|similarity|similaritie)s?_?(?P<number>\d*)|similarity_(?P<level>\d+)"
)


@lru_cache(maxsize=1_024)
def negative_columns(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that hold negatives, a text or a list of texts each: those without a number first, then by number.

    Args:
        columns: those of the table.
    """
    return _numbered(_NEGATIVE, columns)


@lru_cache(maxsize=1_024)
def negative_score_columns(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that hold scores of negatives, a number or a list of numbers each, in the order of the negatives."""
    return _numbered(_NEGATIVE_SCORE, columns)


def apart(query: Column | str, positive: Column | str) -> tuple[Column | str, Column | str]:
    """The query's column and the positive's: what is chosen for one by its very name is no candidate for the other."""
    return (
        query.without(positive) if isinstance(query, Column) else query,
        positive.without(query) if isinstance(positive, Column) else positive,
    )


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
    return f"{missing}; its columns are {name_columns(there)}" + (
        f": name one of them with {option}" if option else ""
    )


def name_columns(columns: Iterable[str]) -> str:
    """The columns of a table for an error: no flood of them, and what to do where they look like a row."""
    there = list(columns)
    shown = [repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…") for name in there[:_MOST]]
    rest = f", … ({len(there):,} in all)" if len(there) > _MOST else ""
    is_row = any(name.strip().isdigit() or len(name.split()) > _WORDS for name in there)
    hint = " (if that is a row, write a line with the names of the columns above it)" if is_row else ""
    return f"{', '.join(shown) or 'none'}{rest}{hint}"


@lru_cache(maxsize=4_096)
def _all_of(names: tuple[str, ...], columns: tuple[str, ...]) -> tuple[str, ...]:
    there = {_plain(column): column for column in reversed(columns)}
    alike = (there[plain] for name in names if (plain := _plain(name)) in there)
    return tuple(dict.fromkeys((*(name for name in names if name in columns), *alike)))


def _numbered(pattern: re.Pattern[str], columns: tuple[str, ...]) -> tuple[str, ...]:
    numbered = [
        (int(next(filter(None, match.groups()), 0)), position, column)
        for position, column in enumerate(columns)
        if (match := pattern.fullmatch(_plain(column)))
    ]
    return tuple(column for _, _, column in sorted(numbered))


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())
