"""A synthesis whose first rows are mostly of no use ends early, says what to change, and goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from multigrain.config import AuditConfig, Config
from multigrain.config.file import parse_config
from multigrain.engine import local
from multigrain.engine.protocol import Failure
from multigrain.errors import UnusableOutputError
from multigrain.llm.protocol import CompletionFailure, UnusableAnswer
from multigrain.llm.scripted import ScriptedLLM
from multigrain.records import SynthesizedRow
from multigrain.stages.first_rows import FIRST_ROWS, FirstRows
from multigrain.stages.run import run_stages
from multigrain.storage.rundir import RunDirectory

DOCUMENT = "The relief valve closes when the pressure of the boiler falls below nine bar."


def row(number: int, query: str) -> SynthesizedRow:
    return SynthesizedRow(f"r{number}", "d", f"{query} {number}".strip(), DOCUMENT)


def told(first: FirstRows, bad: int, *, query: str = "I cannot help with that.") -> str:
    for number in range(FIRST_ROWS):
        first.done(row(number, query if number < bad else "when does the relief valve close"), None)
    return first.verdict


@pytest.mark.parametrize("bad", [0, 50, 51, 100])
def test_more_than_the_share_ends_it(bad: int) -> None:
    verdict = told(FirstRows(AuditConfig(), 0.5), bad)
    assert bool(verdict) == (bad > 50)
    assert "synthesis.unfit_share: null" in verdict or bad <= 50


def test_it_can_be_switched_off_and_says_nothing_before_it_has_seen_enough() -> None:
    assert told(FirstRows(AuditConfig(), None), 100) == ""
    first = FirstRows(AuditConfig(), 0.5)
    for number in range(FIRST_ROWS - 1):
        first.done(row(number, "I cannot help with that."), None)
    assert first.verdict == ""


@pytest.mark.parametrize(
    ("kind", "advice"), [("reasoning", "llm.extra_body"), ("truncated", "llm.max_tokens"), ("schema", "stepwise")]
)
def test_failures_of_the_model_count_and_the_line_says_what_to_change(kind: str, advice: str) -> None:
    first = FirstRows(AuditConfig(), 0.5)
    error = UnusableAnswer(kind, "as the endpoint words it")
    for _ in range(FIRST_ROWS):
        first.done(None, Failure(kind, str(error), error))
    assert advice in first.verdict
    assert "as the endpoint words it" in first.verdict


@pytest.mark.parametrize("kind", ["timeout", "rate_limited", "server_error", "over_limit"])
def test_failures_of_the_moment_do_not(kind: str) -> None:
    first = FirstRows(AuditConfig(), 0.5)
    error = CompletionFailure(kind, "later")
    for _ in range(300):
        first.done(None, Failure(kind, str(error), error))
    assert first.verdict == ""


def _config(folder: Path, **synthesis: Any) -> Config:
    documents = folder / "docs.jsonl"
    if not documents.exists():
        texts = (f"{DOCUMENT} Boiler number {number} of hall {number % 7}." for number in range(400))
        lines = (json.dumps({"id": f"d{number}", "text": text}) for number, text in enumerate(texts))
        documents.write_text("\n".join(lines))
    return parse_config(
        {
            "documents": {"path": str(documents), "near_duplicate_similarity": 1.0},
            "llm": {"provider": "scripted", "concurrency": 4},
            "synthesis": {"strategy": "mined", **synthesis},
            "evaluation": {"queries": "none"},
        }
    )


def test_a_run_ends_early_keeps_what_was_written_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = ScriptedLLM(lambda request: "I cannot help with that.")
    monkeypatch.setattr(local, "build_client", lambda *_, **__: llm)
    run = tmp_path / "run"
    with pytest.raises(UnusableOutputError, match=r"of the first 100 rows .*the model refused.*llm\.model"):
        run_stages(_config(tmp_path), run, ["documents", "synthesis"])
    asked = llm.calls
    assert FIRST_ROWS <= asked <= FIRST_ROWS + 8
    with pytest.raises(UnusableOutputError):
        run_stages(_config(tmp_path), run, ["documents", "synthesis"])
    assert llm.calls <= asked + 8  # what was answered was kept
    run_stages(_config(tmp_path, unfit_share=None), run, ["documents", "synthesis"])
    assert RunDirectory(run).manifest("synthesis") is not None
