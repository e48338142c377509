"""A hook of mkdocs: writes llms.txt into the built site, a list of all pages for language models (llmstxt.org)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_FILE = "llms.txt"
_NO_PROSE = ("#", "|", "```", "- ", "!", "<", "*", "1.")


def on_post_build(config: Any) -> None:
    """Write the list; pages come in the order of the navigation."""
    folder = Path(config["docs_dir"])
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}"]
    for group, pages in _groups(config["nav"], config["site_name"]):
        lines += ["", f"## {group}", ""]
        for title, path in pages:
            about = first_sentence((folder / path).read_text(encoding="utf-8"))
            place = "./" if path == "index.md" else f"{path.removesuffix('.md')}/"
            lines.append(f"- [{title}]({place}): {about}".rstrip(": "))
    (Path(config["site_dir"]) / _FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def first_sentence(page: str) -> str:
    """The first sentence of a page's prose, as plain text; empty where there is none."""
    for paragraph in re.split(r"\n\s*\n", page):
        if paragraph.strip() and not paragraph.startswith(_NO_PROSE):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
            return re.split(r"(?<=[.!?:])\s", text.replace("`", ""), maxsplit=1)[0].rstrip(":")
    return ""


def _groups(nav: list[Any], name: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """The navigation's groups with their pages; pages outside any group come first, under the site's name."""
    alone: list[tuple[str, str]] = []
    groups: list[tuple[str, list[tuple[str, str]]]] = [(name, alone)]
    for entry in nav:
        for title, inside in entry.items():
            if isinstance(inside, str):
                alone.append((title, inside))
            else:
                groups.append((title, [pair for page in inside for pair in page.items()]))
    return groups
