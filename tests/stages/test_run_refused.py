"""Endpoints that refuse, are not there, or only chat: each ends a run in one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.stages.chat_endpoint import ChatEndpoint, run_values

from multigrain.config.file import parse_config
from multigrain.errors import (
    EndpointRefusedError,
    EndpointUnreachableError,
    UnusableOutputError,
)
from multigrain.stages import run_stages
from multigrain.storage.rundir import RunDirectory

pytestmark = pytest.mark.usefixtures("api_key")


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(401, EndpointRefusedError, "OPENAI_API_KEY"), (404, EndpointRefusedError, "404")],
)
def test_an_endpoint_that_refuses_ends_the_run_at_once(
    tmp_path: Path,
    corpus_file: Path,
    small_bert: Path,
    endpoint: ChatEndpoint,
    status: int,
    error: type[Exception],
    words: str,
) -> None:
    endpoint.status = status
    config = parse_config(run_values(corpus_file, small_bert, endpoint.url, concurrency=2))

    with pytest.raises(error, match=words) as caught:
        run_stages(config, tmp_path / "run", ["documents", "synthesis"])

    assert endpoint.url in str(caught.value)
    assert "sk-secret" not in str(caught.value)
    assert len(endpoint.prompts) <= 4
    assert RunDirectory(tmp_path / "run").manifest("synthesis") is None


def test_an_endpoint_where_nothing_answers_is_named(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    config = parse_config(run_values(corpus_file, small_bert, "http://127.0.0.1:9/v1"))

    with pytest.raises(EndpointUnreachableError, match=r"127\.0\.0\.1:9"):
        run_stages(config, tmp_path / "run", ["documents", "synthesis"])


def test_a_model_that_only_chats_ends_in_one_clear_line(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    endpoint.answer = lambda _: "What a lovely document! Let me think about it."
    config = parse_config(run_values(corpus_file, small_bert, endpoint.url))

    with pytest.raises(UnusableOutputError, match=r"none of \d+ answers could be used \(\d+ prose\)"):
        run_stages(config, tmp_path / "run", ["documents", "synthesis"])

    assert not RunDirectory(tmp_path / "run").rows_path.exists()
