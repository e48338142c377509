"""The matrices of the experiment: each is valid, and a dry run plans it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from multigrain.ablation.matrix import load_matrix
from multigrain.cli.main import app

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "experiment"
MATRICES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", MATRICES, ids=lambda path: path.stem)
def test_every_matrix_expands_to_arms_with_three_seeds_or_says_one(path: Path) -> None:
    found = load_matrix(path)
    assert len(found.arms) >= 2
    assert len(found.file.seeds) >= (1 if path.stem.endswith("-one-seed") else 3)
    assert len({arm.name for arm in found.arms}) == len(found.arms)
    config = found.reference.config
    assert Path(str(config.documents.path)).resolve().is_relative_to((FOLDER.parent / "data").resolve())
    assert any(each.role == "forgetting" for each in config.evaluation.sets)


@pytest.mark.parametrize("path", MATRICES, ids=lambda path: path.stem)
def test_every_matrix_can_be_planned(path: Path, tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    # The same settings on texts that are at hand, with a model that is fast.
    values = yaml.safe_load(path.read_text())
    config = yaml.safe_load((path.parent / values["config"]).read_text())
    config["documents"] = {"path": str(corpus_file)}
    config["llm"] = {"provider": "scripted"}
    config["training"] |= {"base_model": str(small_bert), "max_seq_length": 32}
    config["evaluation"]["sets"] = []
    if config["evaluation"]["queries"] == "none":  # judged by sets alone, which are not here
        config["evaluation"]["queries"] = "titles"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / path.name).write_text(yaml.safe_dump(values | {"config": "config.yaml"}))
    done = CliRunner().invoke(
        app, ["ablate", str(tmp_path / path.name), "--dry-run", "--json", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout.strip().splitlines()[-1])
    assert plan["arms"] * plan["seeds"] >= 6
    assert plan["done"] == 0
    assert plan["seconds"] > 0
    assert not (tmp_path / "out").exists()
