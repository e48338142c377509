"""The text of `multigrain` without a command: its purpose, and the next command to type in this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import multigrain

_COLUMN: Final = 38


def welcome(folder: Path) -> str:
    """A few lines of introduction and the next commands.

    Args:
        folder: where they are; a config or a run there decides which command comes next.
    """
    lines = [
        f"multigrain {multigrain.__version__}: teach a text-embedding model your domain, coarse to fine.",
        "",
        *_commands(
            ("multigrain init", "asks what it must know, writes config.yaml"),
            ("multigrain run config.yaml", "documents → queries and negatives → model/ and report.html"),
            ("multigrain status", "where your runs stand"),
        ),
        "",
        *_commands(
            ("multigrain demo", "no documents yet? tunes a small model on docstrings, and proves it"),
            ("multigrain doctor", "what this machine lacks, and what to do about it"),
            ("multigrain --help", "every command"),
        ),
    ]
    if here := _here(folder):
        lines += ["", here]
    return "\n".join(lines)


def _commands(*pairs: tuple[str, str]) -> list[str]:
    return [f"  {command:<{_COLUMN}}{about}" for command, about in pairs]


def _here(folder: Path) -> str:
    run = folder / "runs" / "config"
    if (run / "report.html").is_file():
        return f"runs/config is complete: open {run.relative_to(folder) / 'report.html'}"
    if (folder / "config.yaml").is_file():
        about = "runs/config is begun, and the same command goes on" if run.is_dir() else "it has not been run yet"
        return f"config.yaml is here; {about}: multigrain run config.yaml"
    return ""
