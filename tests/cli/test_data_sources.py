"""Every way to start a run, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.errors import SourceError


def _synthesize(tmp_path: Path, **values: Any) -> dict[str, Any]:
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"llm": {"provider": "scripted", "model": "plausible"}, **values}))
    done = CliRunner().invoke(
        app, ["synthesize", str(config), "--run", str(tmp_path / "run"), "--json"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_documents(tmp_path: Path, corpus_file: Path) -> None:
    assert _synthesize(tmp_path, documents={"path": str(corpus_file)})["synthesis"]["written"] > 0


def test_pairs_need_no_documents(tmp_path: Path) -> None:
    pairs = [
        {"query": f"what is number {n}", "positive": f"Number {n} is a number, {'and ' * 8}so on."} for n in range(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))

    assert _synthesize(tmp_path, start_from="pairs", pairs={"path": "pairs.jsonl"})["synthesis"]["written"] > 0
    (tmp_path / "pairs.jsonl").unlink()
    with pytest.raises(SourceError, match=r"pairs\.jsonl"):
        _synthesize(tmp_path, start_from="pairs", pairs={"path": "pairs.jsonl"})


def test_tasks_need_no_documents(tmp_path: Path) -> None:
    tasks = {"count": 5, "rows": 20, "per_request": 5}

    assert _synthesize(tmp_path, start_from="tasks", tasks=tasks)["synthesis"]["written"] > 0
