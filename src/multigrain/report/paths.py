"""Paths as a page that is passed around shows them: from the folder that holds a run, not from the machine's root."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LINE = re.compile(r"^(\s*(?:- )*(?:[\w.-]+:\s+)?)(['\"]?)(/[^'\"\n]*?)\2(\s*)$", re.MULTILINE)


def home_of(run: Path) -> Path:
    """The folder that a run's commands are typed in: the one that holds `runs/`, or else the run."""
    run = run.resolve()
    return run.parents[1] if run.parent.name == "runs" else run.parent


def near(path: str, home: Path) -> str:
    """An absolute path as it is reached from a folder; anything else, or a path with nothing in common, as it is."""
    if not path.startswith("/") or Path(os.path.commonpath([path, home])) == Path("/"):
        return path
    return os.path.relpath(path, home)


def with_near_paths(config: str, home: Path) -> str:
    """A YAML text whose absolute paths are written from a folder; all else in it stays, comments included."""

    def rewrite(found: re.Match[str]) -> str:
        head, quote, path, tail = found.groups()
        return f"{head}{quote}{near(path, home)}{quote}{tail}"

    return _LINE.sub(rewrite, config)
