"""The command that adds an extra to this installation: by where multigrain came from, and by what installed it.

multigrain may come from a clone (editable or not), a wheel file, a repository's address or an index of packages; what
installed it has noted which (`direct_url.json`, PEP 610, and `INSTALLER`, PEP 376).
"""

from __future__ import annotations

import json
import shlex
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_NAME = "multigrain"


def install_line(extra: str) -> str:
    """The command for a shell that installs what an extra needs.

    Args:
        extra: one of `project.optional-dependencies`, e.g. "lora".
    """
    try:
        installed = distribution(_NAME)
    except PackageNotFoundError:  # run from a clone that nobody installed
        return _line("pip", str(Path(__file__).parents[3]), extra)
    return line_for(installed, extra)


def line_for(installed: Distribution, extra: str) -> str:
    """The same for an installation that is given.

    Args:
        installed: multigrain's distribution.
        extra: see `install_line`.
    """
    tool = "uv pip" if (installed.read_text("INSTALLER") or "").strip() == "uv" else "pip"
    origin: dict[str, Any] = json.loads(installed.read_text("direct_url.json") or "{}")
    url = str(origin.get("url", ""))
    path = unquote(urlsplit(url).path) if url.startswith("file:") else ""
    if "dir_info" in origin and Path(path).is_dir():
        return _line(tool, path, extra, editable=bool(origin["dir_info"].get("editable")))
    if "archive_info" in origin and Path(path).is_file():
        return _line(tool, path, extra)
    if "vcs_info" in origin:
        wanted = f"{_NAME}[{extra}] @ {origin['vcs_info']['vcs']}+{url}"
        return f"{tool} install {shlex.quote(wanted)}"
    return f'{tool} install "{_NAME}[{extra}]"'


def _line(tool: str, path: str, extra: str, *, editable: bool = False) -> str:
    """The command for a folder or a file; a short one where the folder is the current one."""
    shown = "." if Path(path) == Path.cwd() else path
    named = f'"{shown}[{extra}]"' if '"' not in shown else shlex.quote(f"{shown}[{extra}]")
    return f"{tool} install {'--editable ' if editable else ''}{named}"
