"""Options that have no use in what a command was asked for are refused by name, not ignored."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from multigrain.cli.main import app

_RUN = ["evaluate", "runs/mine"]
_MODELS = ["evaluate", "bm25", "--set", "data/mine"]
_STORED = ["compare", "runs/mine"]


@pytest.mark.parametrize(
    ("command", "given"),
    [
        (_RUN, ["--pooling", "ata"]),
        (_RUN, ["--query-prompt", "find: "]),
        (_RUN, ["--document-prompt", "text: "]),
        (_RUN, ["--max-queries", "9"]),
        (_RUN, ["--max-documents", "9"]),
        (_RUN, ["--forgetting-threshold", "0.1"]),
        (_RUN, ["--smallest", "0.02"]),
        (_RUN, ["--confidence", "0.95"]),  # the default, and still somebody's wish
        (_RUN, ["--samples", "200"]),
        (_RUN, ["--seed", "1"]),
        (_RUN, ["--batch-size", "8"]),
        (_RUN, ["--cache", "kept"]),
        (_RUN, ["--out", "there"]),
        (_RUN, ["--trust-remote-code"]),
        (_MODELS, ["--run", "runs/mine"]),
        (_MODELS, ["--redo"]),
        (_MODELS, ["--depths", "10"]),
        (_STORED, ["--batch-size", "8"]),
        (_STORED, ["--cache", "kept"]),
        (_STORED, ["--max-queries", "9"]),
        (_STORED, ["--max-documents", "9"]),
        (_STORED, ["--trust-remote-code"]),
        (["compare", "bm25", "model", "--set", "data/mine"], ["--base", "model"]),
        (["export", "model", "--to", "onnx"], ["--distil"]),
        (["export", "model", "--to", "vllm"], ["--int8"]),
    ],
    ids=" ".join,
)
def test_an_option_that_would_be_ignored_is_refused(command: list[str], given: list[str]) -> None:
    done = CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"}).invoke(app, [*command, *given])

    assert done.exit_code == 2
    assert f"{given[0]} is for " in done.output
