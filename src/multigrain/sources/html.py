"""What HTML says by its tags: titles, headings, and what plain text would lose (powers, cells that span rows)."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Final

from multigrain.sources.words import fold_repeated

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from bs4.element import PageElement, Tag

_ORDINALS: Final = frozenset(["st", "nd", "rd", "th", "er", "re", "e", "ème", "nde", "o", "a", "º", "ª"])
_NUMBER_BEFORE: Final = re.compile(r"(?:\d|\b[IVXLC]+|\b[nN])$")  # 1st, XIXe, no
_MARKS: Final = frozenset(("tm", "sm", "™", "℠", "®", "©", "(r)", "(c)"))
_LONGEST_VALUE: Final = 200  # characters of a cell that is said again
_WIDEST: Final = 1000  # what browsers read of a wider span
_BLOCKS: Final = r"(?:article|blockquote|body|div|dl|figure|h[1-6]|head|header|html|main|ol|p|pre|section|table|ul)"
_BLOCK: Final = re.compile(rf"\s*(?:<!doctype html|<{_BLOCKS}(?:\s[^<>]*)?>)", re.IGNORECASE)
_END_OF_BLOCK: Final = re.compile(rf"</{_BLOCKS}\s*>", re.IGNORECASE)
_MARKUP: Final = re.compile(r"</?[A-Za-z][^<>]*>|<!|&#?\w+;")
_HEADINGS: Final = ("h1", "h2", "h3", "h4", "h5", "h6")
_OF_PROGRAMS: Final = ("script", "style")
WORD_TITLE: Final = "word-title"
"""The class of the `h1` that Word's style Title becomes."""
_HAVE_LINKS: Final = (*_HEADINGS, "dt", "caption", "figcaption")
_TO_ITSELF: Final = frozenset(
    ["headerlink", "hash-link", "header-anchor", "heading-anchor", "anchorjs-link", "anchor"]
)
"""Classes of links that Sphinx, Docusaurus, VuePress, AnchorJS and others put beside a heading, to that heading."""


def looks_like_html(text: str) -> bool:
    """Whether a text is a piece of a page: it begins with a block and ends that, or another one."""
    return _BLOCK.match(text) is not None and _END_OF_BLOCK.search(text) is not None


def say_in_words(soup: BeautifulSoup) -> None:
    """Change a page so that its text alone says what a reader sees.

    - A superscript keeps its mark: 10<sup>6</sup> is 10^6, a note's number [1]; ordinals and trade marks stay plain.
    - A cell that spans several rows stands in each of them, so that no value moves under another heading. A long one
      stands once.
    - Scripts, styles, and the links of headings to themselves go.

    What a page hides stays: answers that unfold and tabs are hidden too.

    Args:
        soup: the page; changed in place.
    """
    for tag in soup(_OF_PROGRAMS):
        tag.extract()
    for tag in soup("a", href=True):
        if _leads_to_itself(tag):
            tag.extract()
    for tag in soup("sup"):
        tag.replace_with(_raised(tag))
    for table in reversed(soup("table")):  # those within cells first
        _fill_rows(table)


def has_markup(text: str) -> bool:
    """Whether there is anything in a text that HTML would show as something else."""
    return _MARKUP.search(text) is not None


def take_page_title(soup: BeautifulSoup) -> str | None:
    """Take off a page the title that its head says, as it is shown; None where it says none.

    Titles of drawings in the page are none of it.
    """
    titles = [tag for tag in soup("title") if tag.find_parent("svg") is None]
    words = [_words(tag.extract()) for tag in titles]
    return next(filter(None, words), None)


def take_page_heading(soup: BeautifulSoup, title: str | None) -> str | None:
    """Take off a page the heading that is its own, as it is shown; None where no heading is.

    That is its only `h1`, wherever it stands, or the one that a Word file calls its title. Or else it is the heading
    that the page begins with, where there is no title, or none of other words.

    Args:
        soup: the page; changed in place.
        title: what its head says.
    """
    main = [tag for tag in soup("h1") if _words(tag)]
    of_word = [tag for tag in main if WORD_TITLE in tag.get_attribute_list("class")]
    own = main[0] if len(main) == 1 else of_word[0] if of_word else _first_heading(soup)
    if own is None or not (
        len(main) == 1 or of_word or title is None or fold_repeated(title) == fold_repeated(_words(own))
    ):
        return None
    return _words(own.extract())


def _first_heading(soup: BeautifulSoup) -> Tag | None:
    """The heading before which there are no words."""
    from bs4.element import NavigableString, Tag

    for each in (soup.body or soup).descendants:
        if isinstance(each, Tag) and each.name in _HEADINGS and _words(each):
            return each
        if type(each) is NavigableString and each.strip():  # comments are of other types
            return None
    return None


def _words(tag: PageElement) -> str:
    """What is shown of a tag, in one line."""
    from bs4.element import NavigableString, Tag

    if not isinstance(tag, Tag):
        return ""
    lines = (
        " " if isinstance(each, Tag) and each.name == "br" else str(each)
        for each in tag.descendants
        if type(each) is NavigableString or (isinstance(each, Tag) and each.name == "br")
    )
    return " ".join("".join(lines).split())


def _leads_to_itself(link: Tag) -> bool:
    """Whether a link to a place in a page shows but a mark (¶, #, §), or stands in a heading, beside its words."""
    if "#" not in str(link["href"]) or link.find("img") is not None:
        return False
    words = link.get_text()
    if not any(map(str.isalnum, words)):
        return True
    if _TO_ITSELF.isdisjoint(link.get_attribute_list("class")) or link.parent is None:
        return False
    return link.parent.name in _HAVE_LINKS and link.parent.get_text().strip() != words.strip()


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
