"""Held-out queries on disk: what a model wrote for documents that training never sees."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

__all__ = ["dump_heldout_queries", "read_heldout_queries"]


def dump_heldout_queries(queries: Mapping[str, str]) -> str:
    """Document ids and their queries as JSON lines."""
    return "".join(
        json.dumps({"document_id": identifier, "query": query}, ensure_ascii=False) + "\n"
        for identifier, query in queries.items()
    )


def read_heldout_queries(path: Path) -> dict[str, str]:
    """Read what `dump_heldout_queries` made; a file that is not there holds none."""
    if not path.exists():
        return {}
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)
    return {row["document_id"]: row["query"] for row in rows}
