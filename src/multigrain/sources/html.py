"""What HTML says by its tags and plain text would lose: powers, and cells that span several rows."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

_ORDINALS: Final = frozenset(["st", "nd", "rd", "th", "er", "re", "e", "ème", "nde", "o", "a", "º", "ª"])
_NUMBER_BEFORE: Final = re.compile(r"(?:\d|\b[IVXLC]+|\b[nN])$")  # 1st, XIXe, no
_MARKS: Final = frozenset(("tm", "sm", "™", "℠", "®", "©", "(r)", "(c)"))
_LONGEST_VALUE: Final = 200  # characters of a cell that is said again
_WIDEST: Final = 1000  # what browsers read of a wider span


def say_in_words(soup: BeautifulSoup) -> None:
    """Change a page so that its text alone says what a reader sees.

    - A superscript keeps its mark: 10<sup>6</sup> is 10^6, a note's number [1]; ordinals and trade marks stay plain.
    - A cell that spans several rows stands in each of them, so that no value moves under another heading. A long one
      stands once.

    What a page hides stays: answers that unfold and tabs are hidden too.

    Args:
        soup: the page; changed in place.
    """
    for tag in soup("sup"):
        tag.replace_with(_raised(tag))
    for table in reversed(soup("table")):  # those within cells first
        _fill_rows(table)


def _raised(tag: Tag) -> str:
    text = tag.get_text().strip()
    if not any(map(str.isalnum, text)) or text.lower() in _MARKS or text.startswith("["):
        return text
    if tag.find("a") is not None or tag.find_parent("a") is not None:
        return f"[{text}]"
    if text.lower() in _ORDINALS and _NUMBER_BEFORE.search(str(tag.previous_sibling)):
        return text
    return f"^{text}" if text.lstrip("-−+").isalnum() else f"^({text})"


def _fill_rows(table: Tag) -> None:
    rows = [row for row in table("tr") if row.find_parent("table") is table]
    begun: dict[int, tuple[Tag, int]] = {}  # by column: a cell of a row above, and how many more rows it spans
    for place, row in enumerate(rows):
        column = 0
        for cell in row(["td", "th"], recursive=False):
            while column in begun:
                again, column = _again(begun, column)
                cell.insert_before(again)
            further = min(_number(cell, "rowspan") or len(rows), len(rows) - place) - 1  # 0: to the end
            del cell["rowspan"]
            if further > 0:
                begun[column] = (cell, further)
            column += _width(cell)
        for later in sorted(each for each in begun if each >= column):
            row.append(_again(begun, later)[0])


def _again(begun: dict[int, tuple[Tag, int]], column: int) -> tuple[Tag, int]:
    """A cell once more, in the next row, and the column behind it; of a long one its place alone."""
    cell, further = begun.pop(column)
    if further > 1:
        begun[column] = (cell, further - 1)
    again = copy.copy(cell)
    if cell.find("table") is not None or len(cell.get_text()) > _LONGEST_VALUE:  # pages are laid out by tables, too
        again.clear()
    return again, column + _width(cell)


def _width(cell: Tag) -> int:
    return _number(cell, "colspan") or 1


def _number(cell: Tag, name: str) -> int:
    found = re.match(r"\s*(\d+)", str(cell.get(name, "1")))
    return min(int(found[1]), _WIDEST) if found else 1
