"""Labels of pairs: which rows of a table say that a passage answers its query, and which that it does not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from multigrain.errors import SourceError
from multigrain.storage.columns import LABELS, PAIR_LABEL, SCORES, SENTENCES, Column, negative_columns
from multigrain.storage.entries import is_plural
from multigrain.storage.reading import Reading
from multigrain.storage.rows import Row

_LARGEST_SIMILARITY: Final = 5.0  # of the scales in use: -1 to 1, 0 to 1, 0 to 5
_SMALLEST_SIMILARITY: Final = -1.0
_WORDS: Final = {
    **dict.fromkeys(("true", "yes", "entailment", "duplicate", "equivalent", "paraphrase", "relevant", "match"), 1.0),
    **dict.fromkeys(("false", "no", "contradiction", "not_entailment", "not_duplicate", "not_equivalent"), 0.0),
    **dict.fromkeys(("not_paraphrase", "not_relevant", "irrelevant", "no_match"), 0.0),
}
_SCALE: Final = 3  # grades that go up to it may begin with one for no match
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
    if _is_undecided(value):
        return None
    number = _number(value)
    if not math.isfinite(number):
        raise SourceError(
            f"{row.place}: {column!r} is {str(value).strip()[:40]!r}, not a number: a label is 1 for a passage that "
            "answers its query and 0 for one that does not; rename the column if it is something else"
        )
    return number


def _number(value: Any) -> float:
    """The number that a label is or stands for; not a number where it is none."""
    class_number = getattr(value, "number", None)
    try:
        word = re.sub(r"[\s-]+", "_", value.strip().lower()) if isinstance(value, str) else ""
        return _WORDS[word] if word in _WORDS else float(value if class_number is None else class_number)
    except (TypeError, ValueError):
        return math.nan


def usual_label_column(rows: Iterable[Row]) -> str | None:
    """The column with the labels of a table, by its first rows: at least half of them have it.

    One that is empty, or whose words are mostly no labels, such as topics, is passed over where another may have them.
    """
    looked_at = list(islice(rows, LOOKED_AT))
    among = PAIR_LABEL.all_among(dict.fromkeys(name for row in looked_at for name in row.values))
    labelled = [row.values for row in looked_at if _has_label_or_score(row.values)]
    there = {
        name: [values[name] for values in labelled if name in values and not isinstance(values[name], list | dict)]
        for name in among
    }
    usual = [name for name, cells in there.items() if cells and 2 * len(cells) >= len(looked_at)]
    return next((name for name in usual if not _are_other_words(there[name])), usual[0] if usual else None)


def _has_label_or_score(values: Mapping[str, Any]) -> bool:
    """Whether a row may be a pair with a label: it has no negatives of its own, and no list of labels."""
    first = PAIR_LABEL.among(values)
    is_scalar = first is not None and not isinstance(values[first], list | dict)
    return is_scalar and not negative_columns(tuple(values))


def _are_other_words(cells: list[Any]) -> bool:
    """Whether nothing stands in a column, or most of it is no label."""
    filled = [cell for cell in cells if not _is_undecided(cell)]
    return not filled or 2 * sum(map(math.isnan, map(_number, filled))) > len(filled)


def _is_undecided(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _UNDECIDED)


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
        leave_undecided(row, labels.column, reading)
        return False
    if not labels.matches(label):
        reading.leave_out(
            f"labelled as no match (a match is {labels.rule})", f"{row.place}: {labels.column!r} is {label:g}"
        )
        return False
    return True


def leave_undecided(row: Row, column: str, reading: Reading) -> None:
    """Count a row as left out whose label calls it neither a match nor none, or that has no label."""
    label = str(row.values.get(column) or "").strip()
    if label:
        reading.leave_out(
            "labelled as neither a match nor no match", f"{row.place}: {column!r} is {label!r}, which decides neither"
        )
    else:
        reading.leave_out("no label", f"{row.place}: {column!r} is empty, and other rows have one")


def may_grade_no_match(lowest: float, highest: float) -> bool:
    """Whether grades none of which is 0 may be of a scale whose lowest means no match, as 1 does on one from 1 to 5.

    The rule of pairs and of judgments: from 1 to 2 all are relevant, more or less.
    """
    return lowest > 0 and highest >= _SCALE


def tell_if_all_match(labels: Labels | None, reading: Reading, *, rows: int, queries: int) -> bool:
    """Say that similarities or grades call no row no match, though some may mean that.

    Similarities are told where queries have several rows: some may be mined negatives. Grades are told where
    `may_grade_no_match`.

    Args:
        labels: what the table's labels mean; None where it has none.
        reading: is told.
        rows: how many have a query and a passage.
        queries: how many different queries they have.

    Returns:
        Whether it was said.
    """
    if labels is None or not labels.matches(labels.lowest):
        return False
    if not may_grade_no_match(labels.lowest, labels.highest) if labels.whole else rows <= queries:
        return False
    kind, bound, which = (
        ("grades", "above 0", "grades mean no match")
        if labels.whole
        else ("similarities", "at least half of the highest", "of a query's rows are negatives")
    )
    reading.remark(
        f"{labels.column!r} holds {kind} from {labels.lowest:.3g} to {labels.highest:.3g}, all {bound}: all {rows:,} "
        f"rows of {queries:,} queries count as matches; where some {which}, give labels instead, 1 for a match and 0 "
        "for none"
    )
    return True


@dataclass(frozen=True, slots=True)
class ListLabels:
    """Which texts of a list are matches.

    Attributes:
        columns: those that tell it, or hold scores.
        labels: what the labels mean; None where there are scores alone, the match's first.
        matches: for each text whether it is one.
        scores: of each text; empty where there are labels alone.
    """

    columns: tuple[str, ...]
    labels: Labels | None
    matches: tuple[bool, ...]
    scores: tuple[float, ...]

    def tell(self, column: str, reading: Reading, others: str = "") -> None:
        """Note that the columns are used, and for what.

        Args:
            column: the texts' column.
            reading: is told.
            others: what becomes of texts that are no match; empty where the form of the rows says it.
        """
        reading.use(*self.columns)
        if others:
            rule = (
                f"a list in {column!r} with as many {self.columns[0]!r} begins with its match"
                if self.labels is None
                else f"{self.columns[0]!r} tells which texts of a list in {column!r} are matches"
            )
            reading.remark(f"{rule}; {others}")
        if self.labels is not None and not self.labels.whole and len(self.matches) > 1 and all(self.matches):
            reading.remark(
                f"{self.columns[0]!r} holds similarities which in some rows are all at least half of the highest, so "
                f"that all texts of their {column!r} count as matches; where some are negatives, give labels instead, "
                "1 for a match and 0 for none"
            )


def list_labels(values: Mapping[str, Any], column: str) -> ListLabels | None:
    """Which texts of the list in a column are matches, by a list of as many labels or scores.

    Where there are scores alone, the first text is the match, unless the column's name promises several.

    Returns:
        None where the column holds no list, or no other column one of as many numbers.
    """
    texts = values.get(column)
    if not isinstance(texts, list):
        return None
    names = dict.fromkeys((*LABELS.all_among(values), *SCORES.all_among(values)))
    there = {name: numbers for name in names if (numbers := _numbers(values[name], len(texts))) is not None}
    label = LABELS.among(there)
    score = SCORES.among(name for name in there if name != label)
    columns = tuple(filter(None, (label, score)))
    if label is None:
        if score is None or is_plural(column):
            return None
        return ListLabels(columns, None, tuple(place == 0 for place in range(len(texts))), there[score])
    numbers = there[label]
    labels = Labels(label, min(numbers, default=0), max(numbers, default=0), all(map(float.is_integer, numbers)))
    scores = there[score] if score is not None else () if labels.whole else numbers
    return ListLabels(columns, labels, tuple(map(labels.matches, numbers)), scores)


def _numbers(values: Any, count: int) -> tuple[float, ...] | None:
    """The numbers of a list of so many; None where it is no such list."""
    if not isinstance(values, list) or len(values) != count:
        return None
    numbers = tuple(map(_number, values))
    return numbers if all(map(math.isfinite, numbers)) else None


def only_matches(row: Row, column: Column | str, reading: Reading) -> Row:
    """A row of pairs with the matches alone, where a list of labels or scores calls other texts of it no match.

    Args:
        row: any row; one that holds its negatives itself stays as it is.
        column: the positives'.
        reading: is told.
    """
    name = column if isinstance(column, str) else column.among(row.values)
    if name is None or not isinstance(row.values.get(name), list) or negative_columns(tuple(row.values)):
        return row
    told = list_labels(row.values, name)
    if told is None:
        return row
    told.tell(name, reading, "the others are left out")
    texts = [text for text, is_one in zip(row.values[name], told.matches, strict=True) if is_one]
    return replace(row, values=row.values | {name: texts})
