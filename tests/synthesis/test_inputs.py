"""What a run writes for: units of rows, found again by the row's id, with the documents left on the disk."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.records import Document, GivenQuery, Split, SynthesizedRow
from multigrain.sources.store import write_document_table, write_query_table
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.inputs import heldout_documents, read_inputs, row_units, training_units
from multigrain.synthesis.strategies.protocol import row_id

DOCUMENTS = 300
CHARACTERS = 40_000


@pytest.fixture(params=["documents", "pairs"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Config, RunDirectory]:
    run = RunDirectory(tmp_path / "run")
    (run.path / "documents").mkdir(parents=True)
    splits = [Split.TEST if number % 10 == 0 else Split.TRAIN for number in range(DOCUMENTS)]
    write_document_table(
        run.documents_path,
        (
            Document(f"d{number}", f"{number} " * (CHARACTERS // len(f"{number} ")), split=split)
            for number, split in enumerate(splits)
        ),
    )
    write_query_table(
        run.queries_path,
        [GivenQuery(f"q{n}", f"query {n}", (f"d{n}", f"d{(n + 1) % 10}"), split) for n, split in enumerate(splits)],
    )
    values: dict[str, Any] = {"llm": {"provider": "scripted"}, "synthesis": {"negatives_share": 0.5}}
    if request.param == "pairs":
        values |= {"start_from": "pairs", "pairs": {"path": "pairs.jsonl"}}
    else:
        values["synthesis"]["queries_per_document"] = 2
    return parse_config(values), run


def row(strategy: str, identifier: str) -> SynthesizedRow:
    return SynthesizedRow(identifier, None, "query", "positive", {}, strategy)


def test_the_unit_of_every_row_is_found_by_its_id(stored: tuple[Config, RunDirectory]) -> None:
    config, run = stored
    units = list(training_units(config, read_inputs(config, run)))
    expected = {row_id(name, unit): unit for unit in units for name in ("mgh", "single")}

    lookup = row_units(config, run, [row(name, "") for name in ("single", "mgh", "mgh")])

    assert len(lookup) == len(expected) == len(units) * 2 > 2 * 500
    assert set(lookup) == set(expected)
    assert all(lookup[identifier] == unit for identifier, unit in expected.items())
    for unknown in ("0" * 16, "f" * 16, "not-hexadecimal", "f" * 20, ""):
        assert unknown not in lookup
        assert lookup.get(unknown) is None


def test_the_lookup_of_units_leaves_the_documents_on_the_disk(stored: tuple[Config, RunDirectory]) -> None:
    config, run = stored
    tracemalloc.start()
    try:
        lookup = row_units(config, run, [row("mgh", "")])
        for identifier in list(lookup)[::50]:
            assert len(lookup[identifier].document.text) > CHARACTERS / 2
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < DOCUMENTS * CHARACTERS / 10


@pytest.mark.parametrize("queries", ["auto", "synthetic", "titles", "none"])
def test_held_out_queries_are_written_where_there_is_nothing_else_to_ask_with(
    stored: tuple[Config, RunDirectory], queries: str
) -> None:
    config, run = stored
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"queries": queries})})

    documents = heldout_documents(config, read_inputs(config, run))

    needed = config.start_from == "documents" and queries in ("auto", "synthetic")
    assert len(documents) == (DOCUMENTS // 10 if needed else 0)
    assert all(document.split is Split.TEST for document in documents)
