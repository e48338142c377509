"""The title of a text file: in its front matter or its first heading, which are taken off the text."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from html import unescape
from typing import Any, Final

import yaml
from markdown_it import MarkdownIt

from multigrain.storage.text import text_lines

_COMMENT: Final = r"<!--(?:(?!-->).)*-->"
_FRONT_MATTER: Final = re.compile(
    rf"\A(?:\s*{_COMMENT})*\s*?^(?:(?P<yaml>---)|\+\+\+)[ \t]*\n(?P<values>.*?)(?<=\n)"
    r"(?(yaml)(?:---|\.\.\.)|\+\+\+)[ \t]*(?:\n|\Z)",
    re.S | re.M,
)
_TARGET: Final = r"(?:\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)|\[[^\[\]\n]*\])"
_PICTURE: Final = rf"!\[[^\[\]\n]*\]{_TARGET}"
_SHOWS_NO_WORDS: Final = re.compile(
    rf"(?:\s|{_COMMENT}"
    r"|</?(?:a|br|center|div|img|p|picture|source|span)\b[^<>]*>"
    r"|^\([^()\n]+\)=[ \t]*$"  # a label of MyST
    rf"|{_PICTURE}|\[{_PICTURE}\]{_TARGET}"  # also one that is a link, as badges are
    r"|^\[{1,2}_?(?:TOC|toc)_?\]{1,2}[ \t]*$"
    r"|^import\s(?:[\w*{},$\s]{1,999}?\sfrom\s+)?(?:'[^'\n]+'|\"[^\"\n]+\");?[ \t]*$"  # of MDX
    r")*",
    re.S | re.M,
)
_HTML_HEADING: Final = re.compile(r"<h(?P<level>[1-6])\b[^>]*>(?P<words>.*?)</h(?P=level)\s*>", re.S | re.I)
_TAG: Final = re.compile(rf"{_COMMENT}|</?[A-Za-z][^<>]*>", re.S)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")  # of Python's __init__, which nobody means to be bold
_TYPE: Final = re.compile(
    r"<(?!(?:a|abbr|b|big|br|center|cite|code|del|div|em|font|i|img|ins|kbd|mark|p|picture|q|s|samp|small|span|strong"
    r"|sub|sup|tt|u|var|wbr)>)[A-Za-z][\w-]*>",
    re.I,
)
"""What looks like a tag and is none, such as the type in List<T> and the place in `cp <file>`."""
_ATTRIBUTES: Final = re.compile(r"[ \t]*\{:?[ \t]*[#.][^{}]*\}\Z")  # {#label .class} behind a heading
_USUAL_KEYS: Final = frozenset(
    [
        "title",
        "date",
        "layout",
        "tags",
        "author",
        "authors",
        "categories",
        "category",
        "description",
        "summary",
        "slug",
        "draft",
        "weight",
        "permalink",
    ]
)
"""Where values are no YAML, one of these tells front matter from text between two rules."""
_KEY: Final = re.compile(r"(?P<key>[A-Za-z_][\w.-]*)[ \t]*[:=](?:[ \t]+(?P<value>.*))?")
_ALSO_IN_IT: Final = re.compile(r"\s|[-#\[\]{}]")  # how other lines of front matter begin: lists, comments, templates
_QUOTED: Final = re.compile(r"""(['"])(.+)\1\s*(?:#.*)?""")
_LINES_OF_HEADING: Final = 2  # words, and a line of marks under them
_LONGEST_HEADING: Final = 2_000  # characters of a line; parsing more would take long, and it is a paragraph
_NOT_TITLES: Final = ("null", "~", ">", "|", ">-", "|-")
_RST_LINE: Final = re.compile(r"([!-/:-@\[-`{-~])\1+")
_RST_NOT_LINES: Final = ("::", "..")
_RST_LONG: Final = 4  # marks that make a line under a longer title
# Labels, comments, fields such as :orphan:, and directives that set something and show nothing.
_RST_SETTING: Final = re.compile(
    r"\.\.(?:\s*$|\s+(?:_|\||\[|(?:meta|highlight|default-role|role|module|currentmodule|index|contents|sectnum"
    r"|image)::"
    r"|(?![\w:+.-]+::)))|:[\w -]+:(?:\s|$)|(?:\|[^|\s][^|]*\|_{0,2}\s*)+$"
)


def take_front_matter(text: str) -> tuple[str | None, str]:
    """The title that front matter gives, between lines of --- (YAML) or +++ (TOML), and the text without it.

    YAML may end with a line of dots. Comments may go before it, such as those about a licence.

    Front matter that cannot be parsed, such as that with templates in it, is known by its lines: each sets a key.
    """
    found = _FRONT_MATTER.match(text)
    if found is None:
        return None, text
    values = _parse(found["yaml"], found["values"])
    if values is None:
        values = _read_keys(found["values"])
    if values is None:
        return None, text  # a rule and some text between two dashed lines, and no front matter
    title = next((value for key, value in values.items() if isinstance(key, str) and key.lower() == "title"), None)
    words = str(title).strip() if isinstance(title, str | int | float) else ""
    return words if words and words not in _NOT_TITLES and "{{" not in words else None, text[found.end() :]


def take_heading(text: str, *, rst: bool = False) -> tuple[str | None, str]:
    """The heading that a text begins with, in the words that are shown of it, and what follows it.

    What shows no words may go before it: comments, labels, imports, pictures.

    Args:
        text: of a file.
        rst: whether it is reStructuredText, where any mark underlines a title, and labels may go before it.
    """
    if rst and (found := _take_rst(text)) is not None:
        return found
    before = _SHOWS_NO_WORDS.match(text)
    start = before.end() if before is not None else 0
    if heading := _HTML_HEADING.match(text, start):
        words = unescape(_TAG.sub("", heading["words"]))
        return (" ".join(words.split()), text[heading.end() :]) if words.strip() else (None, text)
    start = text.rfind("\n", 0, start) + 1  # spaces before a line are part of it
    lines = text[start:].split("\n", _LINES_OF_HEADING)
    if len(lines[0]) > _LONGEST_HEADING:
        return None, text
    tokens = _markdown().parse("\n".join(line[:_LONGEST_HEADING] for line in lines[:_LINES_OF_HEADING]))
    if not tokens or tokens[0].type != "heading_open" or tokens[0].map is None:
        return None, text
    if rst and tokens[0].markup in ("=", "-"):
        return None, text  # too short a line under it
    words = _shown(_ATTRIBUTES.sub("", tokens[1].content))
    return (words, "\n".join(lines[tokens[0].map[1] :])) if words else (None, text)


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("strikethrough")


def _shown(markup: str) -> str:
    """The words that are shown of a line of Markdown."""
    (line,) = _markdown().parseInline(markup)
    words = []
    mark = ""
    for each in line.children or ():
        if mark == "__" and _NAME.fullmatch(each.content):
            words.append(f"{mark}{each.content}{mark}")
        elif each.type in ("text", "code_inline") or (each.type == "html_inline" and _TYPE.fullmatch(each.content)):
            words.append(each.content)
        elif each.type in ("softbreak", "hardbreak") or each.content.lower().startswith("<br"):
            words.append(" ")
        mark = each.markup if each.type == "strong_open" else ""
    return " ".join("".join(words).split())


def _parse(yaml_mark: str | None, text: str) -> Mapping[Any, Any] | None:
    """The keys and values; None where it is not what its marks say."""
    try:
        # Every value stays as it is written: dates need not exist, numbers are titles, and tags mean nothing to us.
        values = yaml.load(text, yaml.BaseLoader) if yaml_mark else tomllib.loads(text)  # noqa: S506
    except (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError, RecursionError):
        return None
    if not values and not text.strip():
        return {}
    return values if isinstance(values, dict) else None


def _read_keys(text: str) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for line in text_lines(text):
        if key := _KEY.fullmatch(line):
            value = (key["value"] or "").strip()
            quoted = _QUOTED.fullmatch(value)
            values.setdefault(key["key"], quoted[2] if quoted else value)
        elif line and not _ALSO_IN_IT.match(line):
            return None
    return values if _USUAL_KEYS & {key.lower() for key in values} else None


def _take_rst(text: str) -> tuple[str, str] | None:
    lines = text.split("\n")
    start = _after_settings(lines)
    over = _line(lines, start)
    title = start + (over is not None)
    words = lines[title].strip() if title < len(lines) else ""
    under = _line(lines, title + 1)
    if not words or under is None or _RST_LINE.fullmatch(words) or (over is not None and over != under):
        return None
    if over is None and (lines[title] != lines[title].lstrip() or len(under) < min(len(words), _RST_LONG)):
        return None
    return words, "\n".join(lines[title + 2 :])


def _after_settings(lines: list[str]) -> int:
    """The first line that shows something."""
    place, inside = 0, False
    while place < len(lines):
        line = lines[place]
        if _RST_SETTING.match(line):
            inside = True
        elif line.strip() and not (inside and line[0].isspace()):
            break
        place += 1
    return place


def _line(lines: list[str], place: int) -> str | None:
    """A line of one mark again and again."""
    line = lines[place].rstrip() if place < len(lines) else ""
    return line if _RST_LINE.fullmatch(line) and line not in _RST_NOT_LINES else None
