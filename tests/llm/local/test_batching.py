"""The thread that feeds a batching pipeline, with a pipeline that can be made to stand still or to fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from multigrain.errors import LLMError
from multigrain.llm.local.batching import Batcher


class Pipeline:
    """Answers every request in one step, unless told to wait."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.requests: list[SimpleNamespace] = []

    def add_request(self, number: int, prompt: Any, settings: Any) -> Any:
        request = SimpleNamespace(status="RUNNING", number=number)
        request.get_status = lambda: SimpleNamespace(name=request.status)
        output = SimpleNamespace(
            finish_reason=SimpleNamespace(name="STOP"), generated_ids=[number], generated_log_probs=[]
        )
        request.read_all = lambda: [output]
        self.requests.append(request)
        return request

    def has_non_finished_requests(self) -> bool:
        return any(request.status == "RUNNING" for request in self.requests)

    def step(self) -> None:
        self.gate.wait(30)
        for request in self.requests:
            request.status = "FINISHED"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_step_that_never_comes_back_fails_every_request_and_those_to_come(gate: threading.Event) -> None:
    batcher = Batcher(lambda: Pipeline(gate), slots=2, patience=0.2)
    answers = [batcher.submit(None, None) for _ in range(5)]  # three of them wait for a slot

    for answer in answers:
        with pytest.raises(LLMError, match=r"OpenVINO stands still: .*llm\.runtime: llamacpp"):
            answer.result(timeout=10)
    with pytest.raises(LLMError, match="stands still"):
        batcher.submit(None, None)
    batcher.close()  # does not wait for the step
    gate.set()


def test_steps_that_come_back_in_time_are_left_alone(gate: threading.Event) -> None:
    gate.set()
    batcher = Batcher(lambda: Pipeline(gate), slots=2, patience=0.2)

    for _ in range(3):
        assert [batcher.submit(None, None).result(timeout=10).end for _ in range(4)] == ["stop"] * 4
        threading.Event().wait(0.3)  # nothing to do is no standstill
    batcher.close()


def test_a_slow_step_is_no_standstill(gate: threading.Event) -> None:
    gate.set()
    pipeline = Pipeline(gate)
    finish = pipeline.step

    def busy() -> None:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            sum(range(1000))
        finish()

    pipeline.step = busy  # type: ignore[method-assign]
    batcher = Batcher(lambda: pipeline, slots=2, patience=0.2)

    assert batcher.submit(None, None).result(timeout=10).end == "stop"
    batcher.close()


def test_a_pipeline_that_cannot_be_opened_again_says_so_to_all_who_come(gate: threading.Event) -> None:
    opened = []

    def open_once() -> Pipeline:
        if opened:
            raise LLMError("no room for the model")
        opened.append(Pipeline(gate))
        opened[0].step = lambda: (_ for _ in ()).throw(RuntimeError("lost"))
        return opened[0]

    batcher = Batcher(open_once, slots=2)
    with pytest.raises(LLMError, match="no room"):
        batcher.submit(None, None).result(timeout=10)
    with pytest.raises(LLMError, match="no room"):
        batcher.submit(None, None)
    batcher.close()
