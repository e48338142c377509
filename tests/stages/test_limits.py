"""Spending limits over whole runs: what is asked, what is said, and what a higher limit makes good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.stages.chat_endpoint import WORDS, ChatEndpoint, graded_answer, run_values

from multigrain.audit.judges import open_judges
from multigrain.config.file import parse_config
from multigrain.dataset.store import read_rows
from multigrain.display.progress import SilentProgress
from multigrain.errors import ConfigError, UnusableOutputError
from multigrain.llm.session.usage import read_usage
from multigrain.stages import run, run_stages
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.inputs import row_units

pytestmark = pytest.mark.usefixtures("api_key")

TOKENS = 9 + 7
"""What the endpoint says of every answer."""

DOLLARS = 7.0
"""Of an answer at this price."""
PRICES = {"prompt": 0.0, "completion": 1e6}


class _Heard(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def other_endpoint() -> Iterator[ChatEndpoint]:
    with ChatEndpoint() as serving:
        yield serving


@pytest.fixture
def values(corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint) -> dict[str, Any]:
    """One request at a time: a row for each training document, then a query for each held-out one."""
    endpoint.answer = lambda body: graded_answer(body) if is_row(body) else quoted(body)
    found = run_values(corpus_file, small_bert, endpoint.url, concurrency=1)
    found["evaluation"]["queries"] = "synthetic"
    return found


def is_row(body: dict[str, Any]) -> bool:
    return "JSON" in body["messages"][-1]["content"]


def quoted(body: dict[str, Any]) -> str:
    """A query of its own for each document."""
    return " ".join([word for word in body["messages"][-1]["content"].split() if word in WORDS][:4])


def parts(held: RunDirectory) -> tuple[int, int]:
    """How many documents there are to train on, and how many are held out."""
    counts = held.require("documents", "").counts
    return counts["train"], counts["validation"] + counts["test"]


@pytest.fixture
def sizes(tmp_path: Path, values: dict[str, Any]) -> tuple[int, int]:
    return parts(run_stages(parse_config(values), tmp_path / "run", ["documents"]))


def test_a_limit_in_dollars_holds_when_every_row_could_be_asked_for_at_once(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url, concurrency=64, prices={"m": PRICES})
    values["synthesis"]["max_cost"] = 3 * DOLLARS
    endpoint.delay = 0.2

    held = run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis"])

    counts = held.require("synthesis", "").counts
    assert counts["stopped_by_limit"]
    assert counts["cost"] == 3 * DOLLARS
    assert len(endpoint.prompts) == counts["written"] == 3


def test_another_model_is_not_asked_where_the_first_has_used_the_limit_up(
    tmp_path: Path, values: dict[str, Any], sizes: tuple[int, int], other_endpoint: ChatEndpoint
) -> None:
    rows, queries = sizes
    values["llm"]["prices"] = {"m": PRICES}
    values["synthesis"]["max_cost"] = rows * DOLLARS
    other = {"provider": "openai", "model": "other", "base_url": other_endpoint.url, "prices": {"other": PRICES}}
    values["evaluation"]["llm"] = other

    counts = (
        run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis"]).require("synthesis", "").counts
    )

    assert counts["written"] == rows
    assert other_endpoint.prompts == []
    assert counts["stopped_by_limit"]
    assert counts["heldout_failed"] == {"over_limit": queries}


def test_held_out_queries_that_a_limit_cuts_off_are_told_and_written_under_a_higher_one(
    tmp_path: Path, values: dict[str, Any], sizes: tuple[int, int], endpoint: ChatEndpoint
) -> None:
    rows, queries = sizes
    stages, heard = ["documents", "synthesis"], _Heard()
    values["synthesis"]["max_total_tokens"] = TOKENS * (rows + queries - 3)
    held = run_stages(parse_config(values), tmp_path / "run", stages, progress=heard)
    first = held.require("synthesis", "").counts
    assert first["written"] == rows
    assert first["stopped_by_limit"]
    assert first["heldout_queries_written"] == queries - 3
    assert first["heldout_failed"] == {"over_limit": 3}
    assert "(the spending limit ended it), " in heard.lines[-1], "all rows were asked for"
    assert f"{queries - 3} of {queries} held-out queries (3 over limit), " in heard.lines[-1]

    asked = len(endpoint.prompts)
    values["synthesis"]["max_total_tokens"] = 10**6
    counts = run_stages(parse_config(values), tmp_path / "run", stages).require("synthesis", "").counts
    assert len(endpoint.prompts) - asked == 3
    assert counts["heldout_queries_written"] == queries
    assert not counts["heldout_failed"]
    assert not counts["stopped_by_limit"]


def test_a_run_without_any_of_its_held_out_queries_ends_before_training_and_goes_on_under_a_higher_limit(
    tmp_path: Path, values: dict[str, Any], sizes: tuple[int, int], endpoint: ChatEndpoint
) -> None:
    rows, queries = sizes
    values["synthesis"]["max_total_tokens"] = TOKENS * rows
    for _ in range(2):  # the second call finds the stage complete
        with pytest.raises(
            ConfigError, match=r"spending limit .* before any held-out query .*max_total_tokens"
        ) as told:
            run(parse_config(values), tmp_path / "run")
    assert "title" not in str(told.value)
    assert "\n" not in str(told.value)
    assert len(endpoint.prompts) == rows
    assert not RunDirectory(tmp_path / "run").dataset_path.exists()

    values["synthesis"]["max_total_tokens"] = 10**6
    values["training"]["candidates"] = {"mean": {}}
    run(parse_config(values), tmp_path / "run")
    assert len(endpoint.prompts) == rows + queries


def test_held_out_queries_that_an_endpoint_failed_are_asked_for_again_by_the_same_command(
    tmp_path: Path, values: dict[str, Any], sizes: tuple[int, int], endpoint: ChatEndpoint
) -> None:
    rows, queries = sizes

    def fails_at_queries(body: dict[str, Any]) -> str:
        endpoint.status = 200 if is_row(body) else 500
        return graded_answer(body)

    working, endpoint.answer = endpoint.answer, fails_at_queries
    with pytest.raises(UnusableOutputError, match=rf"no held-out query .*\({queries} server_error\)"):
        run(parse_config(values), tmp_path / "run")
    assert not RunDirectory(tmp_path / "run").dataset_path.exists()

    endpoint.answer, endpoint.status = working, 200
    asked = len(endpoint.prompts)
    held = run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis"])
    counts = held.require("synthesis", "").counts
    assert (counts["written"], counts["heldout_queries_written"]) == (rows, queries)
    assert len(endpoint.prompts) - asked == queries


def test_the_judge_and_the_strategy_asked_again_share_what_every_model_has_left(
    tmp_path: Path,
    values: dict[str, Any],
    sizes: tuple[int, int],
    endpoint: ChatEndpoint,
    other_endpoint: ChatEndpoint,
) -> None:
    rows, queries = sizes
    other_endpoint.answer = quoted
    values["evaluation"]["llm"] = {"provider": "openai", "model": "other", "base_url": other_endpoint.url}
    held = run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis"])
    assert len(endpoint.prompts) + len(other_endpoint.prompts) == rows + queries
    endpoint.answer = lambda body: '{"score": 3}' if "score" in str(body["response_format"]) else graded_answer(body)
    values["audit"] |= {"judge": {}, "repair": ["regenerate"]}
    values["synthesis"]["max_total_tokens"] = TOKENS * (rows + queries + 9)
    config = parse_config(values)
    written = read_rows(held.rows_path)
    assert rows > 9

    with open_judges(config, held, lambda: row_units(config, held, written)) as ((judge,), rewrite):
        judge.on_positives([(row.query, row.positive) for row in written[:5]])
        assert rewrite is not None
        rewrite(written, 1)
        judge.on_positives([(row.query, row.positive) for row in written])

    assert len(endpoint.prompts) == rows + 9
    usage = read_usage(held, config).summary()
    assert usage["prompt_tokens"] + usage["completion_tokens"] == TOKENS * (rows + queries + 9)
