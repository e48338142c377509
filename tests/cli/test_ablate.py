from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from multigrain.cli.ablate import ablate
from multigrain.errors import ConfigError

app = typer.Typer()
app.command()(ablate)


def test_a_matrix_file_becomes_one_table(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    config = {
        "documents": {"path": str(corpus_file), "validation_share": 0.2, "test_share": 0.3},
        "llm": {"provider": "scripted"},
        "audit": {"round_trip_rank": None, "false_negative_margin": 0.0, "min_level_gap": 0.0, "negatives": "mined"},
        "training": {"base_model": str(small_bert), "steps": 2, "batch_size": 4, "precision": "float32"},
        "evaluation": {"bootstrap_samples": 200},
    }
    config["training"]["max_seq_length"] = 32
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "matrix.yaml").write_text(yaml.safe_dump({"config": "run.yaml", "vary": {"pooling": ["mean", "cls"]}}))

    done = CliRunner().invoke(app, [str(tmp_path / "matrix.yaml"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert done.stdout == (tmp_path / "out" / "ablation.md").read_text()
    cells = {cell.strip() for line in done.stdout.splitlines() for cell in line.split("|")}
    assert {"mean", "cls"} <= cells

    again = CliRunner().invoke(app, [str(tmp_path / "matrix.yaml"), "--out", str(tmp_path / "out"), "--json"])
    (line,) = again.stdout.strip().splitlines()
    rows = json.loads(line)["rows"]
    assert [row["values"] for row in rows] == [{"pooling": "mean"}, {"pooling": "cls"}]
    assert all(set(row["cells"]) == {"validation", "test", "seen documents"} for row in rows)
    assert set(rows[1]["cells"]["test"]["from_base"]) == {"difference", "adjusted_p", "size"}


def test_a_wrong_matrix_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "matrix.yaml").write_text("vary: {pooling: [mean]}")
    done = CliRunner().invoke(app, [str(tmp_path / "matrix.yaml"), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, ConfigError)
    with pytest.raises(FileNotFoundError):
        next((tmp_path / "out").iterdir())
