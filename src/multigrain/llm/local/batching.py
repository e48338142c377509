"""A thread that feeds OpenVINO's continuous batching: requests join as they come and leave as they end."""

from __future__ import annotations

import atexit
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from multigrain.errors import LLMError
from multigrain.llm.protocol import CompletionFailure

_TRIES: Final = 2
_PATIENCE_SECONDS: Final = 120.0
_LEAST_BUSY: Final = 0.02
"""Processor time a second of a step that is at work, however slow it is."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a request came to.

    Attributes:
        tokens: what was written, the end token among them.
        log_probabilities: of each token, where they were asked for.
        end: "stop", or "length" where it was cut.
    """

    tokens: list[int]
    log_probabilities: list[float]
    end: Literal["stop", "length"]


@dataclass(eq=False, slots=True)
class _Job:
    prompt: Any
    settings: Any
    schema: str | None
    answer: Future[Generated] = field(default_factory=Future)
    handle: Any = None
    tries: int = 0


class Batcher:
    """Runs one pipeline from one thread.

    What a request does wrong may surface only in a step, and then the whole pipeline is unusable: a schema that
    cannot be followed does that. So a schema that is new waits until nothing else is being written, and after a failed
    step the pipeline is opened anew, for everybody but whoever brought the schema.

    A step can also never come back: openvino-genai 2026.4.1 was once seen to stand still in one, at no processor time.
    Then every request fails with an `LLMError`, for another runtime to take over.

    Args:
        opened: opens the pipeline; called in the constructor, and again after a step that failed.
        slots: requests in work at once; the others wait.
        patience: seconds of one step in which the process may do nothing.
    """

    def __init__(self, opened: Callable[[], Any], slots: int, patience: float = _PATIENCE_SECONDS) -> None:
        self._opened = opened
        self._pipeline: Any = opened()
        self._slots = slots
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._proven: set[str] = set()
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closing = False
        self._broken: Exception | None = None
        self._patience = patience
        self._step_began: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="multigrain-llm", daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, name="multigrain-llm-watch", daemon=True).start()
        atexit.register(self.close)  # a thread that is still inside the library as Python ends brings it down

    def submit(self, prompt: Any, settings: Any, schema: str | None = None) -> Future[Generated]:
        """Queue a request; cancelling what is returned takes it out again.

        Args:
            prompt: token ids, an OpenVINO tensor of shape (1, tokens).
            settings: a `GenerationConfig`.
            schema: the JSON schema in `settings`, if there is one.

        Raises:
            LLMError: the pipeline is unusable.
        """
        job = _Job(prompt, settings, schema)
        with self._changed:
            if self._broken is not None:
                raise self._broken
            if self._closing:
                raise RuntimeError("the model is closed")
            self._waiting.append(job)
            self._changed.notify()
        return job.answer

    def tokenizer(self) -> Any:
        """The pipeline's tokenizer; it outlives the pipeline."""
        return self._pipeline.get_tokenizer()

    def close(self) -> None:
        """Finish what is being written, drop what waits, and free the model. Safe to call twice."""
        atexit.unregister(self.close)
        with self._changed:
            self._closing = True
            dropped, self._waiting = list(self._waiting), deque()
            self._changed.notify()
            stands_still = self._broken is not None and self._step_began is not None
        for job in dropped:
            job.answer.cancel()
        if not stands_still:
            self._thread.join()
            self._pipeline = None

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            self._ended.set()

    def _turn(self) -> bool:
        """One step, with what comes before and after it; False where nothing is left to do."""
        with self._changed:
            while not (self._waiting or self._running or self._closing):
                self._changed.wait()
            if not (self._waiting or self._running):
                return False
            self._admit()
            self._step_began = time.monotonic()
        problem: Exception | None = None
        try:
            if self._pipeline.has_non_finished_requests():
                self._pipeline.step()
        except Exception as error:  # the library raises C++ exceptions of any kind
            problem = error
        with self._changed:
            self._step_began = None
            if self._broken is not None:
                return False
        if problem is not None:
            self._start_anew(problem)
        self._settle()
        return True

    def _watch(self) -> None:
        """Give up a step that lasts while the whole process does nothing."""
        watched: float | None = None
        since = busy = 0.0
        while not self._ended.wait(self._patience / 10):
            began, now, used = self._step_began, time.monotonic(), time.process_time()
            if began is None or began != watched or used - busy > _LEAST_BUSY * (now - since):
                watched, since, busy = began, now, used
            elif now - since > self._patience and self._give_up(began):
                return

    def _give_up(self, step: float) -> bool:
        with self._changed:
            if self._step_began != step:
                return False
            jobs = [*self._running, *self._waiting]
            self._waiting.clear()
            self._closing = True
            self._broken = LLMError(
                f"OpenVINO stands still: {self._patience:.0f} s in one step, at no processor time "
                f"(llm.runtime: llamacpp does without it; what was answered is kept)"
            )
        _fail_all(jobs, self._broken)
        return True

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            job = self._waiting[0]
            alone = job.schema is not None and job.schema not in self._proven
            if alone and self._running:
                return
            self._waiting.popleft()
            if job.answer.cancelled():
                continue
            try:
                job.handle = self._pipeline.add_request(next(self._numbers), job.prompt, job.settings)
            except (RuntimeError, ValueError) as error:
                _fail(job, CompletionFailure("bad_request", _one_line(error)))
                continue
            self._running.append(job)
            if alone:
                return

    def _settle(self) -> None:
        for job in list(self._running):
            if job.answer.cancelled():
                job.handle.cancel()
                self._running.remove(job)
                continue
            status = job.handle.get_status().name
            if status == "RUNNING":
                continue
            self._running.remove(job)
            if status != "FINISHED":
                # No output, or a piece that looks like any other: only the status tells.
                _fail(job, CompletionFailure("too_long", f"the request does not fit the model's cache ({status})"))
                continue
            if job.schema is not None:
                self._proven.add(job.schema)
            (output,) = job.handle.read_all()
            end: Literal["stop", "length"] = "length" if output.finish_reason.name == "LENGTH" else "stop"
            _answer(job, Generated(list(output.generated_ids), list(output.generated_log_probs), end))

    def _start_anew(self, error: Exception) -> None:
        again, self._running = self._running, []
        for job in list(again):
            job.handle = None
            job.tries += 1
            unproven = job.schema is not None and job.schema not in self._proven
            if unproven or job.tries >= _TRIES:
                again.remove(job)
                _fail(job, CompletionFailure("bad_request" if unproven else "server_error", _one_line(error)))
        self._pipeline = None
        try:
            self._pipeline = self._opened()
        except Exception as problem:  # whatever it is, those who wait must hear of it
            with self._changed:
                again += self._waiting
                self._waiting.clear()
                self._closing, self._broken = True, problem
            _fail_all(again, problem)
            return
        with self._changed:
            self._waiting.extendleft(reversed(again))


def _answer(job: _Job, generated: Generated) -> None:
    if job.answer.set_running_or_notify_cancel():
        job.answer.set_result(generated)


def _fail(job: _Job, failure: Exception) -> None:
    if job.answer.set_running_or_notify_cancel():
        job.answer.set_exception(failure)


def _fail_all(jobs: Iterable[_Job], failure: Exception) -> None:
    for job in jobs:
        _fail(job, failure)


def _one_line(error: Exception) -> str:
    """The end of an error, where the library says what is wrong; before that it says where in its sources."""
    return " ".join(str(error).split())[-200:]
