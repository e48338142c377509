"""Checks the prose of pages, help, settings and messages by proselint, with rules of our own.

--figures prints readability figures instead.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from proselint.checks import __register__ as usual_checks
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckFlags, types
from proselint.tools import LintFile, LintResult
from pydantic import BaseModel

from multigrain.config import Config

ROOT: Final = Path(__file__).resolve().parents[1]
LONG: Final = 25
"""Words: a longer sentence is hard to read at once."""

PLAIN: Final[dict[str, str]] = {
    "mend": "fix",
    "mended": "fixed",
    "makes it again": "reproduces it",
    "make it again": "reproduce it",
    "turned away": "rejected",
    "turns away": "rejects",
    "turn away": "reject",
    "in the place of": "instead of",
    "all the same": "anyway",
    "heed": "use",
    "heeds": "uses",
    "anew": "again",
    "afresh": "again",
    "shall": "must",
    "beforehand": "first",
    "thereof": "of it",
    "whereby": "by which",
    "hence": "so",
    "thus": "so",
    "lest": "so that … not",
    "hitherto": "so far",
    "albeit": "although",
    "upon": "on",
    "amongst": "among",
    "whilst": "while",
    "unto": "to",
    "oft": "often",
    "of no use": "useless",
    "is of use": "is useful",
    "bear it out": "confirm it",
    "bear out": "confirm",
    "bears it out": "confirms it",
    "holds it": "keeps it",
    "knows none": "has none",
    "that is none": "that is not one",
    "know none": "have none",
    "in so many words": "explicitly",
    "for want of": "without",
    "comes to nothing": "fails",
    "came to nothing": "failed",
    "come to nothing": "fail",
    "goes on": "continues",
    "go on": "continue",
    "is told": "is reported",
    "are told": "are reported",
    "need not": "does not have to",
    "at hand": "available",
    "but for": "except",
    "goes by": "follows",
    "go by": "follow",
    "passing reason": "temporary reason",
    "passing troubles": "temporary errors",
    "somebody else's": "another person's",
    "must needs": "must",
    "nought": "nothing",
    "told apart": "distinguished",
    "tell apart": "distinguish",
    "goes before": "overrides",
    "go before": "override",
    "wherever it is read": "everywhere",
    "unasked": "without asking",
    "draws near": "approaches",
    "deals out": "distributes",
    "dealt out": "distributed",
    "what that bought": "what that gained",
    "what it bought": "what it gained",
    "of like": "of similar",
    "worth having": "useful",
}
"""Turns that we do not use, and what to say instead. Some are archaic, others are home-made."""

_OFF: Final = (
    "typography",
    "hedging",
    "annotations",
    "cliches",
    "restricted",
    "weasel_words",
    "lexical_illusions",
    "dates_times",
)
_CODE: Final = re.compile(r"^( *)```.*?^\1```|`[^`\n]*`|<[^>\n]+>|\]\([^)\n]*\)|https?://\S+", re.M | re.S)
_MARKUP: Final = re.compile(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]+>", re.S)
_SKIPPED: Final = ("docs/samples.md", "docs/reference/config.md")  # what models wrote; and what `settings` has
_SENTENCE: Final = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"”)*]))\s+(?=[\"“(*]*[A-Z0-9])")
_WORD: Final = re.compile(r"\w[\w'’.@-]*")
_MESSAGE: Final = 3  # words: shorter texts are keys and names


def pages() -> dict[str, str]:
    """The text of each page by its path, with code blanked out so that lines keep their numbers."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    texts["CONTRIBUTING.md"] = _examples_left_out(texts["CONTRIBUTING.md"])
    return {name: _CODE.sub(_blank, text) for name, text in texts.items() if name not in _SKIPPED}


def _examples_left_out(page: str) -> str:
    """The page without the left column of the table that shows how not to write."""
    before, head, after = page.partition("| not | but |\n")
    table, end, rest = after.partition("\n\n")
    return before + head + re.sub(r"^\|[^|]*\|", "| X |", table, flags=re.M) + end + rest


def settings() -> dict[str, str]:
    """What each setting says about itself, by section and key."""
    found: dict[str, str] = {}
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for key, setting in section.model_fields.items():
                found[f"{name}.{key}"] = " ".join((setting.description or "").split())
    return found


def messages() -> Iterator[tuple[str, str]]:
    """The texts in the source that people may read, with their places: no docstrings, no names."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = {
            id(statement.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            for statement in node.body
            if isinstance(statement, ast.Expr)
        }
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if (
                isinstance(text, str)
                and text.isprintable()
                and id(node) not in documented
                and len(text.split()) >= _MESSAGE
            ):
                yield f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", text
    for path in sorted((ROOT / "src" / "multigrain" / "report" / "templates").rglob("*.jinja")):
        text = _MARKUP.sub(_blank, path.read_text(encoding="utf-8"))
        yield from ((f"{path.relative_to(ROOT).as_posix()}:{n}", line) for n, line in enumerate(text.splitlines(), 1))


def lint(text: str, *, own_only: bool = False) -> list[LintResult]:
    """What proselint and our own rules say of a text.

    Args:
        text: without code.
        own_only: by our own rules alone; messages are too short for the others.
    """
    registry = CheckRegistry()
    if not registry.checks:
        own = types.PreferredForms({turn.replace(" ", r"\s+"): plain for turn, plain in PLAIN.items()})
        flags = CheckFlags(allow_quotes=True)
        registry.register(Check(check_type=own, path="multigrain", message="say '{}', not '{}'.", flags=flags))
        registry.register_many(usual_checks)
    usual = {f"{name}": value and name not in _OFF for name, value in DEFAULT["checks"].items()}
    checks = {"multigrain": True} | ({} if own_only else usual)
    return LintFile("text", content=text).lint({"max_errors": 1000, "checks": checks}) if text.strip() else []


def problems() -> Iterator[str]:
    """One line for each problem, everywhere."""
    for name, text in pages().items():
        yield from (f"{name}:{found.pos[0]}: {_message(found)}" for found in lint(text))
    for name, text in settings().items():
        yield from (f"{name}: {_message(found)}" for found in lint(text, own_only=True))
    for place, text in messages():
        yield from (f"{place}: {_message(found)}" for found in lint(text, own_only=True))


def _message(found: LintResult) -> str:
    return " ".join(found.check_result.message.split())


def sentences(text: str) -> Iterator[str]:
    """The sentences of a page or a setting; no tables, no headings, no code."""
    plain = "\n".join("" if line.lstrip().startswith(("|", "#", "!!!")) else line for line in text.splitlines())
    plain = re.sub(r"^\s*([-*]|\d+\.)\s+", "\n\n", plain, flags=re.M)
    for paragraph in re.split(r"\n\s*\n", plain):
        for sentence in _SENTENCE.split(" ".join(paragraph.split())):
            if len(_WORD.findall(sentence)) > 2:
                yield sentence


def figures() -> dict[str, dict[str, float]]:
    """Sentences, the share of long ones, and hits of our own rules, by group and in all."""
    groups: dict[str, list[str]] = {"README": [], "CONTRIBUTING": [], "docs": [], "help": [], "settings": []}
    for name, text in pages().items():
        group = "help" if name.endswith("cli.md") else name.removesuffix(".md")
        groups[group if group in groups else "docs"].append(text)
    groups["settings"] += settings().values()
    said = [text for _, text in messages()]
    table = {}
    groups["all"] = list(chain.from_iterable(groups.values()))
    for name, texts in groups.items():
        lengths = [len(_WORD.findall(sentence)) for text in texts for sentence in sentences(text)]
        hits = sum(len(lint(text, own_only=True)) for text in texts)
        long = sum(length > LONG for length in lengths) / len(lengths)
        table[name] = {"sentences": len(lengths), "long": round(long, 3), "hits": hits}
    table["messages"] = {"texts": len(said), "hits": sum(len(lint(text, own_only=True)) for text in said)}
    return table


def _blank(match: re.Match[str]) -> str:
    """Code as one made-up word and its line breaks."""
    return "X" + "\n" * match[0].count("\n") if match[0].count("\n") else "X"


def main() -> int:
    """Lint, or print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", action="store_true", help="count sentences, long ones and hits; exit with 0")
    if parser.parse_args().figures:
        print(json.dumps(figures(), indent=2))
        return 0
    found = list(problems())
    print("\n".join(found))
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
