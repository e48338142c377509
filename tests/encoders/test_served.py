"""Embedding models behind an endpoint, asked over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluation.sets.test_beir import write as write_beir
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.encoders import served
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.models import Encoding, ModelSpec, open_encoder, parse_model, with_poolings
from multigrain.encoders.served import EmbeddingUsage, ServedEncoder
from multigrain.errors import EndpointRefusedError, EndpointUnreachableError, EvaluationError
from multigrain.evaluation.scoring import score_models
from multigrain.evaluation.sets.loading import OpenedSets
from multigrain.evaluation.sets.mteb_tasks import as_mteb_task
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.sts import SimilaritySet

from .embedding_server import MODEL, Answer, EmbeddingServer, embedded


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    running = EmbeddingServer()
    yield running
    running.close()


def test_a_served_model_scores_as_it_does_when_it_runs_here(
    server: EmbeddingServer, animals: EvaluationSet, tmp_path: Path
) -> None:
    MODEL.save(str(tmp_path / "model"))
    pairs = SimilaritySet("pairs", "test", "l", (("cat", "cat"), ("cat", "dog"), ("owl", "dog cat")), (5, 2, 1))
    task_set = EvaluationSet("task", "test", "l", animals.corpus, animals.queries, animals.qrels)
    sets = OpenedSets((animals,), (pairs,), ((as_mteb_task(task_set), "test"),))

    scored = score_models(
        [ModelSpec("here", str(tmp_path / "model")), parse_model(f"there={server.model}")], sets, Encoding()
    )

    for name in ("animals", "task"):
        assert scored.scores[name]["there"] == scored.scores[name]["here"]
    here, there = (scored.similarities["pairs"][name] for name in ("here", "there"))
    np.testing.assert_allclose(there, here, atol=1e-6)
    assert {body["model"] for body in server.bodies} == {"served"}
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer sk-secret-key"}


def test_prompts_go_before_texts(server: EmbeddingServer) -> None:
    encoder = ServedEncoder(server.model, query_prompt="query: ", document_prompt="passage: ")
    encoder.encode_queries(["cat"])
    encoder.encode_documents(["owl", ""])

    assert [body["input"] for body in server.bodies] == [["query: cat"], ["passage: owl", "passage: "]]
    assert ServedEncoder(server.model).fingerprint != encoder.fingerprint


def test_an_empty_text_is_asked_as_a_blank_which_endpoints_take(server: EmbeddingServer) -> None:
    ServedEncoder(server.model).encode_documents([""])
    assert server.bodies[0]["input"] == [" "]


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        (400, "maximum context length is 60"),
        (500, "input (90 tokens) is too large to process. increase the batch size"),
    ],
)
def test_batches_are_halved_and_long_texts_cut_until_they_are_taken(
    status: int, complaint: str, server: EmbeddingServer, caplog: pytest.LogCaptureFixture
) -> None:
    def limits(number: int, body: dict[str, Any]) -> Answer | None:
        if len(body["input"]) > 2:
            return 422, {"error": "batch size 5 > maximum allowed batch size 2"}, {}
        if any(len(text) > 60 for text in body["input"]):
            return status, {"error": {"message": complaint}}, {}
        return None

    server.refuse = limits
    texts = ["cat", "dog", "owl cat", "owl " * 30, "cat dog"]
    with caplog.at_level(logging.WARNING):
        vectors = ServedEncoder(server.model).encode_documents(texts)

    shortened = next(body["input"][0] for body in server.bodies if len(body["input"][0]) in range(40, 61))
    assert texts[3].startswith(shortened)
    expected = SentenceTransformerEncoder(MODEL).encode_documents([*texts[:3], shortened, texts[4]])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert "served: 1 texts are longer than it reads and were cut" in caplog.text


def test_passing_failures_are_asked_again(server: EmbeddingServer) -> None:
    pause = {"retry-after-ms": "1"}
    failures: dict[int, Answer] = {0: (429, {}, pause), 1: (500, {"error": "busy"}, pause), 2: (503, b"<html>", pause)}
    server.refuse = lambda number, body: failures.get(number)

    vectors = ServedEncoder(server.model).encode_queries(["cat"])

    np.testing.assert_allclose(vectors, SentenceTransformerEncoder(MODEL).encode_queries(["cat"]), atol=1e-6)
    assert len(server.bodies) == 4


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (401, {"error": {"message": "no: sk-secret-key"}}, "does not accept the key: .* OPENAI_API_KEY"),
        (404, {"error": {"message": "no such model sk-secret-key"}}, r"or no model 'served': no such model \[key\]"),
        (307, {}, "it redirects"),
        (402, {"message": "no credit"}, "answers 402: no credit"),
    ],
)
def test_what_no_attempt_can_change_is_said_once_without_the_key(
    status: int, answer: Any, words: str, server: EmbeddingServer
) -> None:
    server.refuse = lambda number, body: (status, answer, {})
    with pytest.raises(EndpointRefusedError, match=words) as caught:
        ServedEncoder(server.model).encode_queries(["cat"])
    assert "secret" not in str(caught.value)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"<html>", "answers with a web page instead of vectors"),
        (b"data:", "its answer holds no vectors"),
        ({"data": []}, "0 vectors for 1 texts"),
        ({"data": [{"index": 0, "embedding": []}]}, "1 vectors for 1 texts|holds no vectors"),
        ({"data": [{"index": 0, "embedding": [float("nan"), 1.0]}]}, "not finite"),
        ([], "0 vectors for 1 texts"),
    ],
)
def test_answers_without_vectors_are_refused(answer: Any, words: str, server: EmbeddingServer) -> None:
    server.refuse = lambda number, body: (200, answer, {})
    with pytest.raises(EvaluationError, match=words):
        ServedEncoder(server.model).encode_queries(["cat"])


def test_a_text_that_nothing_helps_is_named(server: EmbeddingServer) -> None:
    server.refuse = lambda number, body: (400, {"error": "I do not like it"}, {})
    with pytest.raises(EvaluationError, match=r"query 1 of 1 \('cat'\): turned down: I do not like it"):
        ServedEncoder(server.model).encode_queries(["cat"])


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        (
            422,
            {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "encoding_format"], "msg": "Extra"}]}},
        ),
        (400, {"detail": "extra fields not permitted: ['encoding_format']"}),
    ],
)
def test_a_parameter_that_an_endpoint_does_not_know_is_left_out_from_then_on(
    status: int, complaint: Any, server: EmbeddingServer
) -> None:
    server.refuse = lambda number, body: (status, complaint, {}) if "encoding_format" in body else None
    encoder = ServedEncoder(server.model, batch_size=2)
    texts = ["cat", "dog", "owl", "cat dog", "owl cat"]
    vectors = encoder.encode_documents(texts)
    np.testing.assert_allclose(vectors, SentenceTransformerEncoder(MODEL).encode_documents(texts), atol=1e-6)
    assert sorted(text for body in server.bodies if "encoding_format" not in body for text in body["input"]) == sorted(
        texts
    ), "nothing was halved or cut"
    refused = sum("encoding_format" in body for body in server.bodies)
    encoder.encode_queries(["cat"])
    assert sum("encoding_format" in body for body in server.bodies) == refused


@pytest.mark.parametrize(
    "complaint",
    [
        "batch size is invalid, it should not be larger than 3",
        "batch size 8 > maximum allowed batch size 3",
        "<400> Value error, at most 3 texts in a request: input.contents",
    ],
)
def test_how_many_texts_a_request_may_have_is_remembered(complaint: str, server: EmbeddingServer) -> None:
    server.refuse = lambda number, body: (
        (400, {"error": {"message": complaint}}, {}) if len(body["input"]) > 3 else None
    )
    encoder = ServedEncoder(server.model, batch_size=8)
    texts = [f"cat {'dog ' * number}" for number in range(8)]
    vectors = encoder.encode_documents(texts)
    np.testing.assert_allclose(vectors, SentenceTransformerEncoder(MODEL).encode_documents(texts), atol=1e-6)
    assert [len(body["input"]) for body in server.bodies] == [8, 3, 3, 2]
    encoder.encode_queries(texts)
    assert sorted(len(body["input"]) for body in server.bodies[4:]) == [2, 3, 3]


@pytest.mark.parametrize("form", ["an error", "null", "numbers that are none"])
def test_one_text_that_a_server_cannot_embed_costs_itself(
    form: str, server: EmbeddingServer, caplog: pytest.LogCaptureFixture
) -> None:
    """llama.cpp and Ollama fail over NaN, which JSON does not have; others write null."""

    def fails(number: int, body: dict[str, Any]) -> Answer | None:
        bad = [place for place, text in enumerate(body["input"]) if text.startswith("owl")]
        if not bad:
            return None
        if form == "an error":
            return 500, {"error": {"message": "failed to encode response: json: unsupported value: NaN"}}, {}
        answer = embedded(body["input"], MODEL)
        for item in answer["data"]:
            if item["index"] in bad:
                item["embedding"] = None if form == "null" else [float("nan")] * 8
        return 200, answer, {}

    server.refuse = fails
    texts = [*(f"cat {'dog ' * number}" for number in range(12)), "owl"]
    with caplog.at_level(logging.WARNING):
        vectors = ServedEncoder(server.model, batch_size=8).encode_documents(texts)
    expected = SentenceTransformerEncoder(MODEL).encode_documents(texts)
    np.testing.assert_allclose(vectors[:-1], expected[:-1], atol=1e-6)
    assert not vectors[-1].any()
    assert "document 13 of 13 ('owl')" in caplog.text


@pytest.mark.parametrize("vector", [[0.0] * 8, [None] * 8, [0.5] * 8])
def test_a_server_that_gives_nothing_to_compare_is_refused_by_the_texts_numbers(
    vector: list[Any], server: EmbeddingServer
) -> None:
    server.refuse = lambda number, body: (
        200,
        {"data": [{"index": place, "embedding": vector} for place in range(len(body["input"]))]},
        {},
    )
    with pytest.raises(EvaluationError, match=r"document 1( of 5)? \('cat'\)"):
        ServedEncoder(server.model).encode_documents(["cat", "dog", "owl", "cat dog", "owl cat"])


def test_vectors_of_another_length_half_way_are_refused_by_the_texts_number(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    def answers(number: int, body: dict[str, Any]) -> Answer | None:
        width = 4 if "owl" in body["input"] else 8
        data = [{"index": place, "embedding": [1.0 + place] * width} for place in range(len(body["input"]))]
        return 200, {"data": data}, {}

    server.refuse = answers
    with pytest.raises(
        EvaluationError, match=r"document 3 \('owl'\) got a vector of 4 dimensions, document 1 one of 8"
    ):
        ServedEncoder(server.model, batch_size=2).encode_documents(["cat", "dog", "owl"])
    with open_encoder(parse_model(server.model), Encoding(cache=tmp_path)) as (encoder, _):
        encoder.encode_documents(["cat"])
        with pytest.raises(EvaluationError, match=r"text 2 \('owl'\) has a vector of 4 dimensions.*another model"):
            encoder.encode_documents(["cat", "owl"])


@pytest.mark.parametrize("form", ["base64", "in a list", "without numbers"])
def test_vectors_are_read_in_the_forms_that_servers_send(form: str, server: EmbeddingServer) -> None:
    def answers(number: int, body: dict[str, Any]) -> Answer:
        vectors = MODEL.encode(body["input"], prompt="")
        data: list[dict[str, Any]] = [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]
        for item in data:
            raw = item["embedding"]
            item["embedding"] = base64.b64encode(raw.tobytes()).decode() if form == "base64" else raw.tolist()
            if form == "in a list":
                item["embedding"] = [item["embedding"]]
            if form == "without numbers":
                del item["index"]
        return 200, {"data": data}, {}

    server.refuse = answers
    texts = ["cat", "dog owl"]
    np.testing.assert_allclose(
        ServedEncoder(server.model).encode_queries(texts),
        SentenceTransformerEncoder(MODEL).encode_queries(texts),
        atol=1e-6,
    )


def test_the_words_of_an_error_under_status_200_are_passed_on(server: EmbeddingServer) -> None:
    server.refuse = lambda number, body: (200, {"error": "Unexpected endpoint or method. (POST /embeddings)"}, {})
    with pytest.raises(EndpointRefusedError, match=r"Unexpected endpoint or method"):
        ServedEncoder(server.model).encode_queries(["cat"])


def test_a_dead_endpoint_is_given_up_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_ATTEMPTS", 2)
    with pytest.raises(EndpointUnreachableError, match=r"2 attempts failed .*is the server running"):
        ServedEncoder("openai:served@http://127.0.0.1:9/v1").encode_queries(["cat"])


def test_vectors_that_were_paid_for_are_kept_when_the_endpoint_dies(
    server: EmbeddingServer, tmp_path: Path, animals: EvaluationSet
) -> None:
    corpus = {f"d{number}": f"{'cat ' * (number % 5)}{number}" for number in range(40)}
    big = EvaluationSet("big", "test", "l", corpus, animals.queries, {key: {"d1": 1} for key in animals.queries})
    encoding = Encoding(batch_size=1, cache=tmp_path)
    spec = parse_model(server.model)
    server.refuse = lambda number, body: (401, {}, {}) if number > 24 else None
    with pytest.raises(EndpointRefusedError):
        score_models([spec], OpenedSets((big,)), encoding)
    requests_before, server.refuse = len(server.bodies), lambda number, body: None

    score_models([spec], OpenedSets((big,)), encoding)

    texts = [text for body in server.bodies[requests_before:] for text in body["input"]]
    assert 0 < len(texts) <= 40 + len(animals.queries) - 16, "what was embedded before is not asked for again"
    sent = len(server.bodies)
    score_models([spec], OpenedSets((big,)), encoding)
    assert len(server.bodies) == sent


@pytest.mark.parametrize("form", ["a list alone", "numbers as text"])
def test_other_forms_of_an_answer_are_read_in_the_same_order(server: EmbeddingServer, form: str) -> None:
    texts = [f"cat {number}" * (1 + number % 3) for number in range(12)]
    plain = ServedEncoder(server.model).encode_queries(texts)

    def answer(number: int, body: dict[str, Any]) -> Answer:
        data = embedded(body["input"], MODEL)["data"]
        if form == "a list alone":  # llama.cpp's /embeddings, without /v1
            return 200, [{"index": item["index"], "embedding": [item["embedding"]]} for item in data], {}
        return 200, {"data": [item | {"index": str(item["index"])} for item in data]}, {}

    server.refuse = answer
    np.testing.assert_allclose(ServedEncoder(server.model).encode_queries(texts), plain, rtol=1e-6)


def test_it_works_inside_a_running_event_loop(server: EmbeddingServer) -> None:
    async def notebook() -> np.ndarray:
        return ServedEncoder(server.model).encode_queries(["cat"])

    assert asyncio.run(notebook()).shape == (1, 8)


def test_served_models_are_named_by_their_own_name() -> None:
    address = "http://localhost:8080/v1"
    assert parse_model("openai:text-embedding-3-small") == ModelSpec(
        "text-embedding-3-small", "openai:text-embedding-3-small"
    )
    assert parse_model(f"tei=openai:BAAI/bge-m3@{address}") == ModelSpec("tei", f"openai:BAAI/bge-m3@{address}")
    for wrong in ("openai:", "openai:some@mean"):
        with pytest.raises(EvaluationError, match="without a pooling"):
            parse_model(wrong)
    assert with_poolings([ModelSpec("a", "openai:a")], ["mean", "ata"]) == [ModelSpec("a", "openai:a")]


def test_the_command_line_compares_a_served_model_and_exits_by_the_kind_of_failure(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    MODEL.save(str(tmp_path / "model"))
    write_beir(tmp_path / "mine")
    arguments = ["evaluate", f"here={tmp_path / 'model'}", server.model, "--set", str(tmp_path / "mine")]

    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["models"] == ["here", "served"]

    server.refuse = lambda number, body: (401, {}, {})
    failed = subprocess.run(
        [sys.executable, "-m", "multigrain", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert failed.returncode == EndpointRefusedError.exit_code
    assert "Traceback" not in failed.stderr
    assert "check the environment variable OPENAI_API_KEY" in failed.stderr


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "total_tokens": 9}, 7),
        ({"total_tokens": 9}, 9),
        ({"prompt_tokens": -1}, 5),
        ({"prompt_tokens": "many", "total_tokens": None}, 5),
        ([3], 5),
        (None, 5),
    ],
)
def test_what_was_read_is_counted_as_reported_or_by_the_length_of_the_texts(
    server: EmbeddingServer, usage: Any, tokens: int
) -> None:
    server.refuse = lambda number, body: (200, {**embedded(body["input"], MODEL), "usage": usage}, {})
    encoder = ServedEncoder(server.model)

    encoder.encode_documents(["cat", "dog", "owl cat dog"])
    encoder.encode_queries(["cat"])

    assert encoder.usage == EmbeddingUsage(2, tokens + (1 if tokens == 5 else tokens))
