"""The blocks of code in README, CONTRIBUTING and the documentation, and the commands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SKILL = ROOT / "skills" / "multigrain" / "SKILL.md"
GENERATED = ROOT / "docs" / "reference" / "cli.md"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted({*(ROOT / "docs").rglob("*.md")} - {GENERATED}), SKILL)
SHELL = ("bash", "console", "shell", "sh")
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)(?P<rest>[^\n]*)\n(?P<body>.*?)^(?P=indent)```", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        page: path of its page, from the root of the repository.
        number: which of the page's blocks it is, from 0.
        language: the word after the fence.
        title: the file that it shows, where it says so; else empty.
        body: its text.
    """

    page: str
    number: int
    language: str
    title: str
    body: str

    @property
    def name(self) -> str:
        """What a test calls it."""
        return f"{self.page}:{self.number}"


def blocks(*languages: str) -> list[Block]:
    """Every block in one of these languages, page by page."""
    matching = []
    for page in PAGES:
        for number, match in enumerate(_BLOCK.finditer(page.read_text(encoding="utf-8"))):
            if match["language"] in languages:
                title = re.search(r'title="(.*?)"', match["rest"])
                place = page.relative_to(ROOT).as_posix()
                matching.append(Block(place, number, match["language"], title[1] if title else "", match["body"]))
    return matching


def commands(body: str) -> Iterator[str]:
    """The commands of a shell block, one line each, without comments, prompts and continuations."""
    for line in re.sub(r"\\\n\s*", "", body).splitlines():
        command = re.sub(r"(^|\s+)#.*", "", line).strip().removeprefix("$ ")
        yield from filter(None, command.split(" && "))
