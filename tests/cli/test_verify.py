"""`multigrain verify`: what it prints, its exit codes, and servers that are none in one line each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from sentence_transformers import SentenceTransformer
from tests.export.verify.conftest import minilm, served, tiny
from tests.export.verify.scripted import ScriptedServer
from tests.export.verify.test_wrong_servers import pooled
from typer.testing import CliRunner, Result

from multigrain.cli.verify import verify
from multigrain.errors import EndpointRefusedError, EndpointUnreachableError, EvaluationError

__all__ = ["minilm", "tiny"]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(verify)
    return app


@pytest.fixture
def server(tiny: SentenceTransformer) -> Iterator[ScriptedServer]:
    with ScriptedServer(served(tiny)) as running:
        yield running


@pytest.fixture
def folder(tiny: SentenceTransformer, tmp_path: Path) -> Path:
    tiny.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    return tmp_path / "model"


def call(app: typer.Typer, *words: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)


def test_the_folders_own_vectors(
    app: typer.Typer, folder: Path, server: ScriptedServer, small_set_folder: Path
) -> None:
    done = call(app, folder, "--served", server.url, "--set", f"mine={small_set_folder}")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{folder} and tuned at {server.url}/v1 (OpenAI's protocol")
    assert lines[1].startswith("the same vectors: ")
    assert lines[2].startswith("nDCG@10 on mine (2 queries): ")
    facts = json.loads(call(app, folder, "--served", server.url, "--json").stdout)
    assert (facts["same"], facts["reasons"], facts["protocol"], facts["served_model"]) == (True, [], "openai", "tuned")


def test_other_vectors_have_their_exit_code_and_reason(
    app: typer.Typer, folder: Path, tiny: SentenceTransformer
) -> None:
    with ScriptedServer(pooled("cls")(tiny)) as wrong:
        done = call(app, folder, "--served", wrong.url, "--json")
    assert done.exit_code == 12
    facts = json.loads(done.stdout)
    assert [reason["kind"] for reason in facts["reasons"]] == ["pooling"]
    assert "--pooling" in facts["reasons"][0]["advice"]
    assert not facts["same"]


def no_number(path: str, body: dict[str, Any]) -> tuple[int, Any] | None:
    rows = [{"index": place, "embedding": [float("nan")] * 48} for place in range(len(body.get("input", ())))]
    return (200, {"data": rows}) if rows else None


@pytest.mark.parametrize(
    ("refuse", "error", "words"),
    [
        (lambda path, body: (200, b"<html>hello"), EvaluationError, "answers with a web page instead of vectors"),
        (
            lambda path, body: (401, {"error": "no"}),
            EndpointRefusedError,
            "does not accept the key: .* OPENAI_API_KEY",
        ),
        (no_number, EvaluationError, "not finite"),
        (lambda path, body: (404, {"error": "no model"}), EndpointRefusedError, "no such path, or no model"),
    ],
)
def test_what_is_no_embedding_server_is_said_in_a_line(
    refuse: Any, error: type[Exception], words: str, app: typer.Typer, folder: Path, server: ScriptedServer
) -> None:
    server.refuse = refuse
    with pytest.raises(error, match=words) as caught:
        call(app, folder, "--served", server.url)
    assert "\n" not in str(caught.value)


def test_nothing_at_the_address(app: typer.Typer, folder: Path) -> None:
    with pytest.raises(EndpointUnreachableError, match="nothing answers there"):
        call(app, folder, "--served", "http://127.0.0.1:9")


@pytest.fixture
def small_set_folder(tmp_path: Path) -> Path:
    rows = {"d1": "how to rotate the logs", "d2": "bread needs yeast"}
    asked = {"q1": "rotating logs", "q2": "what bread needs"}
    (tmp_path / "set" / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", rows), ("queries", asked)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (tmp_path / "set" / f"{name}.jsonl").write_text("\n".join(lines))
    (tmp_path / "set" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n")
    return tmp_path / "set"
