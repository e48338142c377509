"""What is wrong is said before anybody is paid: nothing listens at the endpoint of these runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from multigrain.config.file import parse_config
from multigrain.errors import (
    ConfigError,
    EndpointUnreachableError,
    EvaluationError,
    MissingExtraError,
    ModelError,
    MultigrainError,
)
from multigrain.stages import run, run_stages
from multigrain.stages.preflight import check_base_models, check_prices
from multigrain.storage.rundir import RunDirectory


@pytest.fixture
def values(corpus_file: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    return {
        "documents": {"path": str(corpus_file), "validation_share": 0.2, "test_share": 0.3},
        "llm": {"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "max_retries": 0},
        "training": {"base_model": str(small_bert), "max_seq_length": 32},
        "evaluation": {},
    }


@pytest.mark.parametrize(
    ("section", "change", "error", "words"),
    [
        ("training", {"base_model": "./nowhere"}, ModelError, "nowhere: no such model folder"),
        ("training", {"base_model": "someone/never-published"}, ModelError, "never-published: cannot be loaded"),
        ("training", {"base_model": "package:no-such-package"}, MissingExtraError, "pip install"),
        ("training", {"max_seq_length": 512}, ModelError, "max_seq_length 512 is more than the 64 tokens"),
        ("training", {"attention": "causal"}, ModelError, "attention: causal needs a decoder"),
        ("training", {"lora": {}, "quantize": "4bit"}, ModelError, "4bit needs a CUDA GPU"),
        ("training", {"loss": "guided", "loss_options": {"guide": "./nobody"}}, ModelError, "nobody: no such model"),
        ("audit", {"reference_model": "./elsewhere"}, ModelError, "elsewhere: no such model folder"),
        ("evaluation", {"sets": [{"name": "own", "path": "./no-set"}]}, EvaluationError, "no-set"),
        ("evaluation", {"queries": "none"}, EvaluationError, "nothing to evaluate on"),
    ],
)
def test_the_error_comes_before_the_first_request(
    tmp_path: Path,
    values: dict[str, Any],
    section: str,
    change: dict[str, Any],
    error: type[MultigrainError],
    words: str,
) -> None:
    values[section] = {**values.get(section, {}), **change}

    with pytest.raises(error, match=words) as caught:
        run(parse_config(values), tmp_path / "run")

    assert "\n" not in str(caught.value)
    assert not RunDirectory(tmp_path / "run").journal_path.exists()


_TWO = {"candidates": {"a": {}, "b": {}}}


@pytest.mark.parametrize(
    ("share", "training", "evaluation", "error", "words"),
    [
        (0.2, _TWO, {"queries": "none"}, EvaluationError, r"2 candidates \(a, b\) need .*queries is none: "),
        (0.2, {"merge": [0.5, 1.0]}, {"queries": "none"}, ConfigError, r"merge: .* needs .*queries is none: "),
        (0.0, _TWO, {}, EvaluationError, r"2 candidates \(a, b\) need .*validation_share is 0: "),
    ],
)
def test_a_choice_with_nothing_to_choose_by_is_refused_before_the_first_request(
    tmp_path: Path,
    values: dict[str, Any],
    share: float,
    training: dict[str, Any],
    evaluation: dict[str, Any],
    error: type[MultigrainError],
    words: str,
) -> None:
    values["documents"]["validation_share"] = share
    values["training"] |= training
    values["evaluation"] = evaluation | {"sets": [{"name": "t", "path": "./anything"}]}

    with pytest.raises(error, match=f"{words}add a labelled set with role: validation to evaluation.sets") as caught:
        run(parse_config(values), tmp_path / "run")

    assert "\n" not in str(caught.value)
    assert not RunDirectory(tmp_path / "run").journal_path.exists()


def test_candidates_may_be_trained_without_anything_to_choose_them_by(tmp_path: Path, values: dict[str, Any]) -> None:
    values["training"] |= _TWO
    values["evaluation"] = {"queries": "none"}

    with pytest.raises(EndpointUnreachableError):
        run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis", "audit", "training"])


def test_titles_are_asked_for_and_there_are_none(tmp_path: Path, corpus_file: Path, values: dict[str, Any]) -> None:
    rows = [json.loads(line) for line in corpus_file.read_text().splitlines()]
    corpus_file.write_text("\n".join(json.dumps({"id": row["id"], "text": row["text"]}) for row in rows))
    values["evaluation"] = {"queries": "titles"}

    with pytest.raises(EvaluationError, match=r"none of the \d+ held-out documents has a title"):
        run(parse_config(values), tmp_path / "run")


@pytest.mark.parametrize(("queries", "refused"), [("auto", True), ("synthetic", True), ("titles", False)])
def test_another_model_for_the_held_out_queries_needs_its_own_price(
    values: dict[str, Any], queries: str, refused: bool
) -> None:
    values["llm"]["prices"] = {"m": {"prompt": 1.0, "completion": 2.0}}
    values["synthesis"] = {"max_cost": 5}
    values["evaluation"] = {"queries": queries, "llm": {**values["llm"], "model": "other", "prices": {}}}

    with pytest.raises(ConfigError, match=r"other costs: set evaluation\.llm\.prices") if refused else nullcontext():
        check_prices(parse_config(values))


def test_writing_alone_needs_no_model_to_train(tmp_path: Path, values: dict[str, Any]) -> None:
    values["training"]["base_model"] = "./nowhere"

    with pytest.raises(EndpointUnreachableError):
        run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis"])


def test_a_sound_config_passes_and_meets_the_endpoint(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(EndpointUnreachableError):
        run(parse_config(values), tmp_path / "run")


def test_a_wrong_documents_path_is_told_before_libraries_are_imported(tmp_path: Path, values: dict[str, Any]) -> None:
    values["documents"]["path"] = "no-such-folder"
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))

    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "multigrain", "run", "c.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )

    assert done.returncode == 3
    assert "no-such-folder: no such file or folder" in done.stderr
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert loaded.isdisjoint({"torch", "transformers", "sentence_transformers", "datasets"})


def _routed(small_bert: Path, folder: Path, *behind_documents: Any) -> str:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router

    queries, documents = (SentenceTransformer(str(small_bert), device="cpu") for _ in range(2))
    router = Router.for_query_document([queries[0], queries[1]], [documents[0], documents[1], *behind_documents])
    SentenceTransformer(modules=[router], device="cpu").save_pretrained(str(folder))
    return str(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora": {"r": 4}}, "lora needs a transformer; Router has no layers"),
        ({"pooling": "ata"}, "no pooling over a transformer's tokens to replace"),
        ({"max_seq_length": 512}, "max_seq_length 512 is more than the 64 tokens"),
        ({"fsdp": True}, "training.fsdp shards models of one transformer"),
    ],
)
def test_what_a_router_cannot_be_given_is_refused_before_the_first_request(
    change: dict[str, Any], words: str, tmp_path: Path, values: dict[str, Any], small_bert: Path
) -> None:
    base = _routed(small_bert, tmp_path / "router")
    config = parse_config(values | {"training": values["training"] | {"base_model": base} | change})
    with pytest.raises(ModelError, match=words):
        check_base_models(config)


def test_routes_whose_vectors_cannot_be_compared_are_refused_before_the_first_request(
    tmp_path: Path, values: dict[str, Any], small_bert: Path
) -> None:
    from sentence_transformers.base.modules import Dense

    base = _routed(small_bert, tmp_path / "router", Dense(32, 16))
    with pytest.raises(ModelError, match=r"different lengths \(query 32, document 16\)"):
        check_base_models(parse_config(values | {"training": values["training"] | {"base_model": base}}))
    fitting = _routed(small_bert, tmp_path / "fitting")
    check_base_models(parse_config(values | {"training": values["training"] | {"base_model": fitting}}))


def test_adapters_whose_base_is_gone_are_refused_before_the_first_request(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    folder = tmp_path / "adapters"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "./gone"}))
    config = parse_config(values | {"training": {"base_model": str(folder)}})
    with pytest.raises(ModelError, match=r"adapters were tuned on \./gone: no such model folder"):
        check_base_models(config)
