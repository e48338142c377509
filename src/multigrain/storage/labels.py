"""Labels of pairs: which rows of a table say that a passage answers its query, and which that it does not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from multigrain.errors import SourceError
from multigrain.storage.columns import GRADE, SENTENCES, negative_columns
from multigrain.storage.reading import Reading
from multigrain.storage.rows import Row

_LARGEST_SIMILARITY: Final = 5.0  # of the scales in use: -1 to 1, 0 to 1, 0 to 5
_SMALLEST_SIMILARITY: Final = -1.0
_WORDS: Final = {
    **dict.fromkeys(("true", "yes", "entailment", "duplicate", "equivalent", "paraphrase", "relevant", "match"), 1.0),
    **dict.fromkeys(("false", "no", "contradiction", "not_entailment", "not_duplicate", "not_equivalent"), 0.0),
    **dict.fromkeys(("not_paraphrase", "not_relevant", "irrelevant", "no_match"), 0.0),
}
_CONTRADICTION: Final = 2.0  # its number in inference data
LOOKED_AT: Final = 1_000
"""How many rows tell whether a table has labels: in JSON a row may lack what the next one has."""
_UNDECIDED: Final = ("", "-", "neutral")
"""Labels of inference data that call a pair neither: one text leaves the other open, or no label was agreed on."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What a column of labels means.

    Whole numbers are grades, as in judgments of relevance: above 0 is a match. Others are similarities, of which those
    of at least half of the largest are matches; on no scale that similarities have, they are not heeded.

    Attributes:
        column: its name.
        lowest: the smallest label.
        highest: the largest.
        whole: whether all are whole numbers.
    """

    column: str
    lowest: float
    highest: float
    whole: bool

    @property
    def heeded(self) -> bool:
        """Whether they tell matches from others."""
        return self.whole or _SMALLEST_SIMILARITY <= self.lowest <= self.highest <= _LARGEST_SIMILARITY

    def matches(self, label: float) -> bool:
        """Whether a pair with this label is a query and its answer."""
        return label > 0 and (self.whole or label >= self.highest / 2)

    @property
    def rule(self) -> str:
        """Which labels are matches, in words."""
        return "above 0" if self.whole else f"at least half of the highest, {self.highest:g}"


def label_of(row: Row, column: str) -> float | None:
    """The label of a row; None where it has none.

    Raises:
        SourceError: it is no number.
    """
    value: Any = row.values.get(column)
    class_number = getattr(value, "number", None)
    if isinstance(value, str):
        value = value.strip()
    if value is None or (isinstance(value, str) and value.lower() in _UNDECIDED):
        return None
    try:
        word = re.sub(r"[\s-]+", "_", value.lower()) if isinstance(value, str) else ""
        number = _WORDS[word] if word in _WORDS else float(value if class_number is None else class_number)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise SourceError(
            f"{row.place}: {column!r} is {str(value)[:40]!r}, not a number: a label is 1 for a passage that answers "
            "its query and 0 for one that does not; rename the column if it is something else"
        )
    return number


def label_column(row: Row) -> str | None:
    """The column with the label of a pair; None where there is none, or where the row holds its negatives itself."""
    column = GRADE.among(row.values)
    is_scalar = column is not None and not isinstance(row.values[column], list | dict)
    return column if is_scalar and not negative_columns(tuple(row.values)) else None


def usual_label_column(rows: Iterable[Row]) -> str | None:
    """The column with the labels of a table, by its first rows: at least half of them have it."""
    columns = [label_column(row) for row in islice(rows, LOOKED_AT)]
    found = [column for column in columns if column is not None]
    return found[0] if found and 2 * len(found) >= len(columns) else None


def read_labels(column: str, rows: Iterable[Row]) -> Labels | None:
    """What the labels in a column mean; None where no row has one.

    Raises:
        SourceError: one is no number.
    """
    lowest, highest, whole = math.inf, -math.inf, True
    classes = True
    for row in rows:
        label = label_of(row, column)
        classes = classes and _may_be_class(row, column, label)
        if label is not None:
            lowest, highest = min(lowest, label), max(highest, label)
            whole = whole and label.is_integer()
    if classes and lowest <= 0 and highest == _CONTRADICTION:
        raise SourceError(
            f"{column!r} holds 0, 1 and 2 beside two sentences: in inference data 0 is an entailment and 2 a "
            "contradiction, in grades 0 is no match. Write 'entailment', 'neutral' and 'contradiction', or rename the "
            "sentences' columns to query and positive where they are grades"
        )
    return None if highest < lowest else Labels(column, lowest, highest, whole)


def _may_be_class(row: Row, column: str, label: float | None) -> bool:
    """Whether a label may be the number of a class of inference data; -1 is one that was not agreed on."""
    number = not isinstance(row.values.get(column), str) or row.values[column].strip().lstrip("-").isdigit()
    return (label is None or (number and label in (-1, 0, 1, _CONTRADICTION))) and all(
        sentence.among(row.values) for sentence in SENTENCES
    )


def find_labels(read: Callable[[], Iterator[Row]]) -> Labels | None:
    """The labels that are to be heeded in a table of pairs, by one more pass over it where its first rows have one.

    Args:
        read: begins to read the table.

    Raises:
        SourceError: the table cannot be read, or a label is no number.
    """
    column = usual_label_column(read())
    labels = None if column is None else read_labels(column, read())
    return labels if labels is not None and labels.heeded else None


def is_match(labels: Labels | None, row: Row, reading: Reading) -> bool:
    """Whether a row is a query and its answer, as all are without labels; one that is not is left out of the reading.

    Raises:
        SourceError: the row's label is no number.
    """
    if labels is None:
        return True
    label = label_of(row, labels.column)
    if label is None:
        reading.leave_out("no label", f"{row.place}: {labels.column!r} is empty, and other rows have one")
        return False
    if not labels.matches(label):
        reading.leave_out(
            f"labelled as no match (a match is {labels.rule})", f"{row.place}: {labels.column!r} is {label:g}"
        )
        return False
    return True
