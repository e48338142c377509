"""Files of other tools' rows, written and read."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import strategies as st

from multigrain.dataset.foreign import ForeignRow, read_foreign
from multigrain.storage.reading import Reading

text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=20).filter(
    str.strip
)


def written(path: Path, *rows: object) -> Path:
    """A file of rows, one a line."""
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def read_all(path: Path, reading: Reading) -> tuple[list[ForeignRow], str]:
    """All rows of a file, and the form that they were taken for."""
    rows, form = read_foreign(path, "auto", reading=reading)
    return list(rows), form
