"""A package as pip leaves it in a folder: its modules and its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["install"]


def install(
    folder: Path, name: str, entry_points: Mapping[str, Mapping[str, str]], modules: Mapping[str, str] | None = None
) -> Path:
    """Write a distribution into a folder, which is then to be on the path.

    Args:
        folder: where to.
        name: the distribution's.
        entry_points: "module:attribute" by group and name.
        modules: the text of each module.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for module, text in (modules or {}).items():
        (folder / f"{module}.py").write_text(text, encoding="utf-8")
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, parts in entry_points.items():
        lines += [f"[{group}]", *(f"{part} = {value}" for part, value in parts.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
