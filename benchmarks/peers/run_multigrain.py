"""Rows by multigrain: the synthesis stage of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from multigrain.config.file import parse_config
from multigrain.dataset.store import open_rows
from multigrain.stages.run import run_stages


def main(url: str, inputs: str, out: str, concurrency: int) -> None:
    """Write the rows, and their texts where they can be compared."""
    folder = Path(out)
    config = parse_config(
        {
            "documents": {"path": inputs, "validation_share": 0.0, "test_share": 0.0},
            "llm": {"provider": "openai", "model": "stub", "base_url": url, "concurrency": concurrency},
            "synthesis": {"query_first": False, "unfit_share": None},
            "evaluation": {"queries": "none"},
        }
    )
    run = run_stages(config, folder / "run", ["documents", "synthesis"])
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for row in open_rows(run.rows_path):
            stream.write(json.dumps({"id": row.document_id, "query": row.query}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))
