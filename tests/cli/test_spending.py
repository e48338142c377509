"""Dry runs, limits, the journal and batch files, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.errors import ConfigError, MultigrainError, RunDirectoryError, SourceError
from multigrain.llm.protocol import CompletionRequest, Message
from multigrain.llm.scripted import plausible_answer

KEY = "sk-very-secret-0123456789"
Call = Callable[..., str]


@pytest.fixture
def call() -> Call:
    """Runs the command line; an error of ours leaves as itself."""

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        if isinstance(result.exception, MultigrainError):
            raise result.exception
        assert result.exception is None, result.output
        return result.stdout

    return run


@pytest.fixture
def config(tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def write(**llm: Any) -> Path:
        path = tmp_path / "config.yaml"
        values = {"documents": {"path": str(corpus_file)}, "llm": llm, "synthesis": {"strategy": "stepwise"}}
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def answer_batch(path: Path) -> Path:
    rows = []
    for line in path.read_text().splitlines():
        asked = json.loads(line)
        prompt = Message("user", asked["body"]["messages"][-1]["content"])
        text = plausible_answer(CompletionRequest((prompt,)))
        body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9}}
        rows.append(json.dumps({"custom_id": asked["custom_id"], "response": {"status_code": 200, "body": body}}))
    results = path.with_name("results.jsonl")
    results.write_text("\n".join(rows))
    return results


def test_a_dry_run_shows_prompts_and_price_and_writes_nothing(
    call: Call, config: Callable[..., Path], tmp_path: Path
) -> None:
    path = config(provider="openai", model="gpt-4o-mini", base_url="https://api.openai.com/v1")
    run = tmp_path / "run"
    shown = call("synthesize", path, "--run", run, "--dry-run")
    assert "prompt 1 of about" in shown
    assert "price       about $" in shown
    assert KEY not in shown
    values = json.loads(call("synthesize", path, "--run", run, "--dry-run", "--json"))
    assert values["requests"] == 5 * values["rows"] > 0
    assert values["cost_at_most"] >= values["cost"] > 0
    assert not run.exists()


def test_synthesis_is_priced_and_shown_by_the_journal(call: Call, config: Callable[..., Path], tmp_path: Path) -> None:
    prices = {"auto": {"prompt": 1.0, "completion": 2.0}}
    path, run = config(provider="scripted", prices=prices), tmp_path / "run"
    done = json.loads(call("synthesize", path, "--run", run, "--json"))["synthesis"]
    assert done["cost"] > 0
    assert done["cost_per_row"] == pytest.approx(done["cost"] / done["written"], rel=1e-3)
    values = json.loads(call("journal", run, "--json"))
    assert values["completions"] == 5 * done["written"]
    assert values["cost"] == done["cost"]
    assert f"completions {values['completions']}" in call("journal", run / "synthesis" / "journal.sqlite")
    rows = call("journal", run, "--export", "-").splitlines()
    assert len(rows) == values["completions"]
    assert all(json.loads(row)["completion"]["text"] for row in rows)
    with pytest.raises(RunDirectoryError, match="no journal there yet"):
        call("journal", tmp_path / "elsewhere")


def test_a_limit_ends_the_writing_and_a_higher_one_goes_on(
    call: Call, config: Callable[..., Path], tmp_path: Path
) -> None:
    path, run = config(provider="scripted"), tmp_path / "run"
    first = json.loads(call("synthesize", path, "--run", run, "--json", "--max-tokens", 5000))["synthesis"]
    assert first["stopped_by_limit"]
    assert first["written"] > 0
    tokens = first["prompt_tokens"] + first["completion_tokens"]
    assert 2500 < tokens < 5500
    more = call("synthesize", path, "--run", run, "--json", "--max-tokens", 8000, "--redo")
    second = json.loads(more)["synthesis"]
    assert first["written"] < second["written"]
    assert second["prompt_tokens"] + second["completion_tokens"] < 8800
    everything = json.loads(call("synthesize", path, "--run", run, "--json", "--redo"))["synthesis"]
    assert not everything["stopped_by_limit"]


@pytest.mark.parametrize("arguments", [["run"], ["synthesize"], ["synthesize", "--dry-run"]], ids=" ".join)
def test_a_limit_in_dollars_without_a_price_is_refused_before_anything_is_begun(
    call: Call, config: Callable[..., Path], tmp_path: Path, arguments: list[str]
) -> None:
    unpriced = config(provider="openai", model="mine", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match=r"what mine costs: set llm\.prices.*or limit tokens with --max-tokens"):
        call(*arguments, unpriced, "--run", tmp_path / "other", "--max-cost", 1)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("arguments", [["run"], ["synthesize"], ["synthesize", "--dry-run"]], ids=" ".join)
@pytest.mark.parametrize("limit", ["0", "-1", "nan"])
def test_a_limit_of_nothing_is_refused_before_anything_is_begun(
    call: Call, config: Callable[..., Path], tmp_path: Path, arguments: list[str], limit: str
) -> None:
    with pytest.raises(ConfigError, match=r"^--max-cost: synthesis\.max_cost: expected a value above 0") as caught:
        call(*arguments, config(provider="scripted"), "--run", tmp_path / "other", "--max-cost", limit)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "other").exists()


def test_batches_from_the_command_line(call: Call, config: Callable[..., Path], tmp_path: Path) -> None:
    path, run = config(provider="openai", model="m", base_url="http://127.0.0.1:9/v1"), tmp_path / "run"
    rounds = 0
    while (done := json.loads(call("batch", "write", path, "--run", run, "--json")))["requests"]:
        rounds += 1
        for file in done["files"]:
            assert KEY not in Path(file).read_text()
            results = answer_batch(Path(file))
            assert json.loads(call("batch", "read", path, results, "--run", run, "--json"))["kept"]
    assert rounds == 2
    finished = json.loads(call("synthesize", path, "--run", run, "--json"))["synthesis"]
    assert finished["written"] == done["rows_finished"] > 0  # and nothing was asked at the closed port
    with pytest.raises(SourceError, match="this is a batch request"):
        call("batch", "read", path, file, "--run", run)
    with pytest.raises(RunDirectoryError, match="no journal there yet"):
        call("batch", "read", path, results, "--run", tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="takes no batch files"):
        call("batch", "write", config(provider="scripted"), "--run", run)


def test_batch_files_and_what_is_asked_live_keep_to_one_limit(
    call: Call, config: Callable[..., Path], tmp_path: Path
) -> None:
    path, run = config(provider="openai", model="m", base_url="http://127.0.0.1:9/v1"), tmp_path / "run"
    everything = json.loads(call("batch", "write", path, "--run", tmp_path / "other", "--json"))["requests"]
    values = yaml.safe_load(path.read_text())
    values["synthesis"]["max_total_tokens"] = 3000
    path.write_text(yaml.safe_dump(values))

    first = json.loads(call("batch", "write", path, "--run", run, "--json"))
    assert 0 < first["requests"] < everything
    assert first["requests_over_limit"] == everything - first["requests"]
    full = json.loads(call("batch", "write", path, "--run", run, "--json"))
    assert (full["requests"], full["requests_over_limit"]) == (0, first["requests_over_limit"])
    again = json.loads(call("batch", "write", path, "--run", run, "--json", "--again"))
    assert again["requests"] == first["requests"]
    call("batch", "read", path, answer_batch(Path(first["files"][0])), "--run", run)
    more = json.loads(call("batch", "write", path, "--run", run, "--json"))
    assert more["requests"] > 0  # the answers were shorter than they might have been
    assert (
        "pass the spending limit and were not written"
        in CliRunner().invoke(app, ["batch", "write", str(path), "--run", str(run)]).stderr
    )
