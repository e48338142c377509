"""What became of a table's rows: how many were read, which were left out and why, and which columns nobody used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from multigrain.errors import SourceError
from multigrain.storage.columns import Column
from multigrain.storage.entries import is_plural, is_printed_list, positive_column
from multigrain.storage.rows import Row

FEW: Final = 0.2
"""The largest share of judgments, queries or documents of a set that may be left out; beyond it a file is wrong."""

_NAMED: Final = 8  # columns in one line

Used = Callable[[Sequence[str]], Iterable[str | None]]
"""The columns that a reader uses among those of a table."""


@dataclass(slots=True)
class LeftOut:
    """Rows that were left out for one reason.

    Attributes:
        count: how many.
        first: the first one's place and what is wrong with it.
    """

    count: int
    first: str


@dataclass
class Reading:
    """Filled by a reader while it reads, told when it has: rows read are rows kept and rows left out.

    Attributes:
        unit: what is counted.
        rows: how many were read.
        joined: how many of them became part of another, e.g. as its negative.
        left_out: by reason.
    """

    unit: str = "rows"
    rows: int = 0
    joined: int = 0
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    _layouts: dict[tuple[str, ...], None] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)
    _printed: Counter[str] = field(default_factory=Counter)
    _remarks: dict[str, None] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """How many rows were left out."""
        return sum(reason.count for reason in self.left_out.values())

    @property
    def kept(self) -> int:
        """How many rows came out."""
        return self.rows - self.joined - self.dropped

    @property
    def unused(self) -> list[str]:
        """The columns that nobody used, in the order in which they stand."""
        columns = dict.fromkeys(column for layout in self._layouts for column in layout)
        return [column for column in columns if column not in self._used]

    def see(self, row: Row, used: Used) -> None:
        """Count a row, and note its columns."""
        self.rows += 1
        self.note_columns(row, used)
        self._printed.update(name for name, value in row.values.items() if is_printed_list(value))

    def note_columns(self, row: Row, used: Used) -> None:
        """Note the columns of a row that is not counted, e.g. of one that was read before it is read in part."""
        columns = tuple(row.values)
        if columns not in self._layouts:
            self._layouts[columns] = None
            self._used.update(name for name in used(columns) if name is not None)

    def positive(self, row: Row, column: Column | str) -> Column | str:
        """The column of a row's positive, which is noted as used; the same where the row has none.

        Args:
            row: any row.
            column: its very name, or those that it may have.
        """
        if isinstance(column, str) or (name := positive_column(row.values, column)) is None:
            return column
        if name != (before := column.among(row.values)):
            self.remark(f"where {before!r} holds no text, {name!r} is the positive")
        self.use(name)
        return name

    def use(self, *columns: str) -> None:
        """Note that columns are used, where it takes a row's values to tell."""
        self._used.update(columns)

    def leave_out(self, reason: str, first: str) -> None:
        """Count a row, seen before, as left out.

        Args:
            reason: why, in words that hold for others like it.
            first: the row's place and what is wrong with it.
        """
        if reason in self.left_out:
            self.left_out[reason].count += 1
        else:
            self.left_out[reason] = LeftOut(1, first)

    def remark(self, line: str) -> None:
        """Note what else is to be told of the table, once."""
        self._remarks[line] = None

    def lines(self, what: str) -> Iterator[str]:
        """What is to be told of the table: nothing where all of it was used.

        Args:
            what: what lines begin with, e.g. the file's name.
        """
        for reason, rows in self.left_out.items():
            yield f"{what}: {rows.count:,} of {self.rows:,} {self.unit} left out, {reason}; the first is {rows.first}"
        yield from (f"{what}: {line}" for line in self._remarks)
        for name, count in self._printed.items():
            if name in self._used and not is_plural(name) and 2 * count > self.rows:
                yield (
                    f"{what}: {name!r} holds a list as it is printed, such as ['a', 'b'], in {count:,} of "
                    f"{self.rows:,} {self.unit}, and each is read as one text; write a column with a name in the "
                    "plural, such as positives, or lists in JSON Lines"
                )
        if unused := self.unused:
            names = ", ".join(map(repr, unused[:_NAMED])) + (", …" if len(unused) > _NAMED else "")
            yield f"{what}: {'columns' if len(unused) > 1 else 'column'} {names} not used"

    def check_few(self) -> None:
        """See that no more than a few rows were left out.

        Raises:
            SourceError: more than `FEW` of them were.
        """
        if self.dropped > FEW * self.rows:
            first = next(iter(self.left_out.values())).first
            raise SourceError(
                f"{first}; {self.dropped:,} of {self.rows:,} {self.unit} would be left out, more than {FEW:.0%}: "
                "check that the files belong together"
            )


def using(*columns: Column | str | None) -> Used:
    """What a reader uses that reads these columns, each by the first of its names that is there.

    Of a field within a column, such as "_source.body", that is the column.
    """

    def used(names: Sequence[str]) -> Iterator[str | None]:
        for column in columns:
            is_inner = isinstance(column, str) and column not in names
            yield column.among(names) if isinstance(column, Column) else column
            if isinstance(column, str) and is_inner:
                yield column.partition(".")[0]

    return used
