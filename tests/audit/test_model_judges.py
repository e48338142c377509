"""What rows were written from is looked up, and not held: a corpus may be larger than memory."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from multigrain.config.file import parse_config
from multigrain.records import SynthesizedRow
from multigrain.stages import run_stages
from multigrain.synthesis.inputs import read_inputs, row_units, training_units
from multigrain.synthesis.strategies.protocol import row_id

DOCUMENTS, CHARACTERS = 300, 19_000


def _values(folder: Path, start_from: str) -> dict[str, Any]:
    texts = [f"document {number} " + f"w{number} " * (CHARACTERS // 5) for number in range(DOCUMENTS)]
    path = folder / "input.jsonl"
    rows = [
        {"id": f"d{number}", "text": text} if start_from == "documents" else {"query": f"w{number}", "positive": text}
        for number, text in enumerate(texts)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    documents = {"validation_share": 0.1, "test_share": 0.1}
    if start_from == "documents":
        return {"documents": {**documents, "path": str(path)}, "llm": {"provider": "scripted"}}
    return {
        "start_from": "pairs",
        "pairs": {"path": str(path)},
        "documents": documents,
        "llm": {"provider": "scripted"},
    }


@pytest.mark.parametrize("start_from", ["documents", "pairs"])
def test_units_are_found_by_row_and_their_texts_stay_on_the_disk(tmp_path: Path, start_from: str) -> None:
    config = parse_config(_values(tmp_path, start_from))
    run = run_stages(config, tmp_path / "run", ["documents"])
    expected = {row_id("mgh", unit): unit.query for unit in training_units(config, read_inputs(config, run))}
    written = list(expected)[::2]
    rows = [SynthesizedRow(key, "d", "query", "positive") for key in written]
    assert len(written) > DOCUMENTS // 4

    gc.collect()
    tracemalloc.start()
    units = row_units(config, run, rows)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < len(expected) * CHARACTERS / 3
    assert set(units) == set(written), "only rows that were written are known"
    for key in written:
        assert row_id("mgh", units[key]) == key
        assert len(units[key].document.text) > CHARACTERS // 3
