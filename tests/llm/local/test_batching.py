"""The threads that feed a batching pipeline, with a pipeline that can be made to stand still or to fail."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from multigrain.errors import LLMError
from multigrain.llm.local.batching import Batcher, Filler
from multigrain.llm.protocol import CompletionFailure

FILLER = Filler(None, None, streamer=lambda heard: heard)


class Pipeline:
    """Answers every request in one step, unless told to wait."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.requests: list[SimpleNamespace] = []

    def add_request(self, number: int, prompt: Any, settings: Any) -> Any:
        numbers = [request.number for request in self.requests if request.status == "RUNNING"]
        assert number not in numbers, "the real one keeps its books by number"
        request = SimpleNamespace(number=number, status="RUNNING", unread=[])
        request.get_status = lambda: SimpleNamespace(name=request.status)
        request.can_read = lambda: bool(request.unread)
        request.read_all = lambda: [request.unread.pop(0) for _ in range(len(request.unread))]
        self.requests.append(request)
        return request

    def has_non_finished_requests(self) -> bool:
        return any(request.status == "RUNNING" for request in list(self.requests))

    def generate(self, prompts: Any, settings: Any, streamer: Any) -> None:
        assert not self.has_non_finished_requests(), "the real one refuses to begin while others are being written"
        before = len(self.requests)
        self.add_request(0, None, None)
        time.sleep(0.01)
        assert len(self.requests) == before + 1, "the real one counts its own first"
        streamer()
        while self.has_non_finished_requests():
            time.sleep(0.002)
            self.step()

    def step(self) -> None:
        self.gate.wait(30)
        for request in list(self.requests):
            if request.status == "RUNNING":
                request.status = "FINISHED"  # which is seen before what was written
                request.unread.append(written("NONE", 1))
                request.unread.append(written("STOP", 2))


def written(reason: str, token: int) -> SimpleNamespace:
    return SimpleNamespace(
        finish_reason=SimpleNamespace(name=reason), generated_ids=[token], generated_log_probs=[-float(token)]
    )


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_step_that_never_comes_back_fails_every_request_and_those_to_come(gate: threading.Event) -> None:
    batcher = Batcher(lambda: Pipeline(gate), slots=2, filler=FILLER, patience=0.2)
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
    batcher = Batcher(lambda: Pipeline(gate), slots=2, filler=FILLER, patience=0.2)

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
    batcher = Batcher(lambda: pipeline, slots=2, filler=FILLER, patience=0.2)

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

    batcher = Batcher(open_once, slots=2, filler=FILLER)
    with pytest.raises(LLMError, match="no room"):
        batcher.submit(None, None).result(timeout=10)
    with pytest.raises(LLMError, match="no room"):
        batcher.submit(None, None)
    batcher.close()


def test_nothing_is_lost_and_no_slot_is_doubled_while_requests_come_from_many_threads(gate: threading.Event) -> None:
    gate.set()
    most = []

    class Counting(Pipeline):
        def step(self) -> None:
            most.append(sum(request.status == "RUNNING" for request in list(self.requests)))
            super().step()

    batcher = Batcher(lambda: Counting(gate), slots=3, filler=FILLER)
    answers: list[Any] = []

    def ask() -> None:
        for _ in range(40):
            answers.append(batcher.submit(None, None).result(timeout=20))
            time.sleep(0.001)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batcher.close()

    assert [(answer.tokens, answer.log_probabilities, answer.end) for answer in answers] == [
        ([1, 2], [-1.0, -2.0], "stop")
    ] * 240
    assert max(most) <= 3 + 1  # the filler


def test_without_a_filler_the_pipeline_is_only_stepped(gate: threading.Event) -> None:
    """Beside a filler, the numbers that `echo` gives for prompts would be others."""
    gate.set()

    class Stepped(Pipeline):
        def generate(self, prompts: Any, settings: Any, streamer: Any) -> None:
            raise AssertionError("a filler")

    batcher = Batcher(lambda: Stepped(gate), slots=2, filler=None)
    for _ in range(3):
        assert [batcher.submit(None, None).result(timeout=10).tokens for _ in range(4)] == [[1, 2]] * 4
    batcher.close()


def test_the_last_tokens_are_waited_for_where_the_status_comes_first(gate: threading.Event) -> None:
    gate.set()
    held: list[Any] = []

    class Late(Pipeline):
        def step(self) -> None:
            for request in list(self.requests):
                if request.status == "RUNNING":
                    request.status = "FINISHED"
                    held.append(request)
            time.sleep(0.1)
            while held:
                held.pop().unread.append(written("LENGTH", 7))

    batcher = Batcher(lambda: Late(gate), slots=2, filler=FILLER)
    answer = batcher.submit(None, None).result(timeout=10)
    batcher.close()

    assert (answer.tokens, answer.end) == ([7], "length")


def test_a_request_that_joins_as_the_work_ends_is_written_in_steps(gate: threading.Event) -> None:
    """`generate` may return between a request's arrival and its first step."""
    gate.set()

    class Hasty(Pipeline):
        def generate(self, prompts: Any, settings: Any, streamer: Any) -> None:
            filler = self.add_request(0, None, None)
            streamer()
            while len(self.requests) % 2:
                time.sleep(0.002)
            filler.status = "FINISHED"

    pipeline = Hasty(gate)
    batcher = Batcher(lambda: pipeline, slots=2, filler=FILLER)

    for _ in range(3):
        assert batcher.submit(None, None).result(timeout=10).tokens == [1, 2]
    batcher.close()


class _Failing(Pipeline):
    def generate(self, prompts: Any, settings: Any, streamer: Any) -> None:
        raise RuntimeError("no such operation")


def test_pipelines_whose_work_always_fails_fail_those_who_wait_and_do_not_fill_the_memory(
    gate: threading.Event,
) -> None:
    opened: list[Pipeline] = []

    def open_again() -> Pipeline:
        opened.append(_Failing(gate))
        return opened[-1]

    batcher = Batcher(open_again, slots=2, filler=FILLER)
    for answer in [batcher.submit(None, None) for _ in range(5)]:
        with pytest.raises(CompletionFailure, match="no such operation"):
            answer.result(timeout=10)

    def ask_on() -> None:
        for _ in range(20):
            with contextlib.suppress(CompletionFailure):
                batcher.submit(None, None).result(timeout=10)

    with pytest.raises(LLMError, match=r"again and again \(no such operation\): set llm\.runtime: llamacpp"):
        ask_on()
    batcher.close()
    assert len(opened) <= 5


def test_a_request_that_the_pipeline_forgets_fails_alone(gate: threading.Event) -> None:
    gate.set()

    class Forgetful(Pipeline):
        def has_non_finished_requests(self) -> bool:
            return any(request.status == "RUNNING" for request in self.requests if self.requests.index(request) != 1)

    batcher = Batcher(lambda: Forgetful(gate), slots=2, filler=FILLER)
    batcher._pipeline.step = lambda: [  # all but the first real one
        (setattr(request, "status", "FINISHED"), request.unread.append(written("STOP", 2)))
        for place, request in enumerate(list(batcher._pipeline.requests))
        if place != 1 and request.status == "RUNNING"
    ]
    with pytest.raises(CompletionFailure, match="without an answer"):
        batcher.submit(None, None).result(timeout=10)
    assert batcher.submit(None, None).result(timeout=10).tokens == [2]
    batcher.close()
