"""A run that version 0.1.0 made, before its modules moved: read, reported, compared and continued by today's code."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from multigrain import load_config, run
from multigrain.cli.main import app
from multigrain.storage.rundir import RunDirectory

ARCHIVE = Path(__file__).parents[1] / "stored" / "run-0.1.0.tar.gz"
# Fingerprints hold the paths of documents and base model, so the run lies where it was made.
PLACE = Path("/tmp/multigrain-stored-run")
STAGES = ("documents", "synthesis", "dataset", "models/mean", "models/ata", "results")


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The run's folder; its endpoint is gone, so whatever would ask a language model again fails."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-fixture")
    with FileLock(f"{PLACE}.lock"):  # another run of the tests may be at work in the same place
        shutil.rmtree(PLACE, ignore_errors=True)
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(PLACE.parent, filter="data")
        yield PLACE
        shutil.rmtree(PLACE)


def _results(folder: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / "run" / "results" / "evaluation.json").read_text("utf-8"))
    return values


def _as_far_as(known: object, values: object) -> object:
    """Values without what an earlier version did not write, and with its intervals where today's are near them.

    Version 0.1.0 resampled queries; today's intervals are Student's, wider and symmetric for few queries.
    """
    if isinstance(known, dict) and isinstance(values, dict):
        about = {
            key: known[key]
            for key in {"low", "high"} & known.keys() & values.keys()
            if known[key] == pytest.approx(values[key], abs=known["high"] - known["low"])
        }
        return {key: _as_far_as(known[key], value) for key, value in values.items() if key in known} | about
    if isinstance(known, list) and isinstance(values, list) and len(known) == len(values):
        return [_as_far_as(one, other) for one, other in zip(known, values, strict=True)]
    return values


def test_every_stage_is_kept(stored: Path) -> None:
    manifests = {stage: (stored / "run" / stage / "manifest.json").read_bytes() for stage in STAGES}

    run(load_config(stored / "config.yaml"), stored / "run")

    assert {stage: (stored / "run" / stage / "manifest.json").read_bytes() for stage in STAGES} == manifests


@pytest.mark.parametrize("first_lost", STAGES)
def test_it_is_continued_from_any_stage_to_the_same_figures(stored: Path, first_lost: str) -> None:
    before = _results(stored)
    for stage in STAGES[STAGES.index(first_lost) :]:
        if stage.startswith("models/"):
            shutil.rmtree(stored / "run" / stage)
        else:
            (stored / "run" / stage / "manifest.json").unlink()

    finished = run(load_config(stored / "config.yaml"), stored / "run")

    assert _as_far_as(before, _results(stored)) == before, "later versions say more, and nothing else"
    assert all(finished.manifest(stage) is not None for stage in STAGES)


def test_it_is_reported_compared_and_described(stored: Path) -> None:
    runner, folder = CliRunner(), str(stored / "run")
    held = RunDirectory(stored / "run")
    held.report_path.unlink()

    reported = runner.invoke(app, ["report", folder, "--share", "--json"])
    compared = runner.invoke(app, ["compare", folder, "--json"])
    status = runner.invoke(app, ["status", folder, "--json"])
    journal = runner.invoke(app, ["journal", folder, "--json"])

    assert [each.exit_code for each in (reported, compared, status, journal)] == [0, 0, 0, 0], reported.output
    assert held.report_path.is_file()
    assert json.loads(reported.stdout)["shared_report"] == str(held.shared_report_path)
    queries = (row["query"] for row in pq.read_table(held.results_path / "per_query.parquet").to_pylist())
    copy = held.shared_report_path.read_text(encoding="utf-8")
    assert not any(query in copy for query in queries)
    assert str(stored) not in copy
    scores = {each["name"]: each["models"] for each in _results(stored)["sets"]}  # type: ignore[attr-defined]
    conclusions = json.loads(compared.stdout)["comparisons"]
    assert {each["set"] for each in conclusions} == {"test"}
    for each in conclusions:
        assert each["score"] == pytest.approx(scores[each["set"]][each["model"]]["score"], abs=1e-6)
    assert {stage["state"] for stage in json.loads(status.stdout)["stages"]} == {"complete"}
    assert json.loads(journal.stdout)["completions"] == 60
