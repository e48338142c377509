"""`multigrain dataset export --format sft | preference | kto`, of a run that was written and audited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.dataset.store import open_examples
from multigrain.errors import RunDirectoryError, RunMismatchError, SourceError
from multigrain.records import Split
from multigrain.sources.store import read_document_table
from multigrain.storage.rundir import RunDirectory
from multigrain.writer.attempts import run_attempts
from multigrain.writer.run_data import export_completions, open_audited


def exported(run: Path, to: Path, form: str, *options: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(
        app,
        ["dataset", "export", str(run), "--to", str(to), "--format", form, "--json", *options],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in to.read_text(encoding="utf-8").splitlines()]
    assert json.loads(done.stdout) == {"rows": len(rows), "format": form, "file": str(to)}
    return rows


def test_every_row_is_found_again_with_what_was_asked_for_it(written_run: Path) -> None:
    config, run = open_audited(written_run)

    attempts = run_attempts(config, run)

    written = {attempt.row.id: attempt for attempt in attempts if attempt.row is not None}
    assert {example.id for example in open_examples(run.dataset_path)} <= written.keys()
    assert len(attempts) == run.require("synthesis", "").counts["requested"]
    assert {len(attempt.exchanges) for attempt in attempts} == {1, 2}


def test_accepted_rows_become_demonstrations_and_nothing_held_out_is_among_them(
    written_run: Path, tmp_path: Path
) -> None:
    rows = exported(written_run, tmp_path / "sft.jsonl", "sft")

    run = RunDirectory(written_run)
    kept = {example.id: example for example in open_examples(run.dataset_path)}
    assert rows
    assert {row["id"] for row in rows} <= kept.keys()
    for row in rows:
        assert json.loads(row["completion"][0]["content"])["query"] == kept[row["id"]].query
        assert 0 < row["reward"] <= 1
    heldout = [each for each in read_document_table(run.documents_path) if each.split is not Split.TRAIN]
    assert heldout
    everything = "".join(
        (tmp_path / f"{form}.jsonl").read_text(encoding="utf-8")
        for form in ("sft", "preference", "kto")
        if exported(written_run, tmp_path / f"{form}.jsonl", form)
    )
    assert not [each.id for each in heldout if each.text in everything]


def test_pairs_come_from_second_tries_and_kto_has_both_sides(written_run: Path, tmp_path: Path) -> None:
    pairs = exported(written_run, tmp_path / "pairs.jsonl", "preference")
    labelled = exported(written_run, tmp_path / "kto.jsonl", "kto")

    assert pairs
    for pair in pairs:
        assert pair["rejected"][0]["content"] == "Let me see what would be a good query here."
        assert pair["reasons"] == ["unusable"]
        assert pair["margin"] > 0
    assert {row["label"] for row in labelled} == {True, False}
    assert any("too_short" in row["reasons"] for row in labelled)
    assert all(row["reward"] == 0 for row in labelled if "too_short" in row["reasons"] and len(row["reasons"]) == 1)


def test_plain_texts_and_parquet(written_run: Path, tmp_path: Path) -> None:
    plain = exported(written_run, tmp_path / "plain.jsonl", "sft", "--plain")
    count = export_completions(written_run, tmp_path / "sft.parquet", "sft")

    assert all(isinstance(row["prompt"], str) and isinstance(row["completion"], str) for row in plain)
    assert count == len(plain)


def test_what_cannot_be_exported_is_one_line(written_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no run in it"):
        export_completions(tmp_path, tmp_path / "x.jsonl", "sft")
    with pytest.raises(SourceError, match=r"end it in \.jsonl or \.parquet"):
        export_completions(written_run, tmp_path / "x.csv", "sft")
    config, run = open_audited(written_run)
    other = config.updated({"synthesis": {"query_types": {"claim": 1.0}}})
    with pytest.raises(RunMismatchError, match="is found again"):
        run_attempts(other, run)
    unheeded = CliRunner().invoke(
        app, ["dataset", "export", str(written_run), "--to", str(tmp_path / "x.jsonl"), "--plain"]
    )
    assert unheeded.exit_code == 2
