"""Threads that feed OpenVINO's continuous batching: requests join as they come and leave as they end."""

from __future__ import annotations

import atexit
import ctypes
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
_MOST_KEPT: Final = 3
"""Pipelines that may stay in memory because their `generate` failed."""

_PATIENCE_SECONDS: Final = 120.0
_LEAST_BUSY: Final = 0.02
"""Processor time a second of a pipeline that is at work, however slow it is."""

_POLL_SECONDS: Final = 0.01
_ENDS: Final[dict[str, Literal["stop", "length"]]] = {"STOP": "stop", "LENGTH": "length"}


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
    tokens: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Filler:
    """A request of a few tokens that nobody reads.

    Attributes:
        prompt: token ids, an OpenVINO tensor of shape (1, tokens).
        settings: a `GenerationConfig`.
        streamer: makes the library's listener to tokens, which calls back at each one.
    """

    prompt: Any
    settings: Any
    streamer: Callable[[Callable[[], None]], Any]


class Batcher:
    """Keeps one pipeline busy.

    A step of the pipeline holds Python's global lock in openvino-genai 2026.4.1, and with it every other thread of the
    process for most of the time; `generate` does not. So one thread is inside `generate` for as long as there is
    work, and another one adds requests to it and collects what has ended. `generate` wants a request of its own to
    begin with: a short filler that nobody reads. It numbers it 0 and counts its own at the start. So ours have other
    numbers, and join once the filler has a token.

    What a request does wrong may surface only in a step, and then the whole pipeline is unusable: a schema that
    cannot be followed does that. So a schema that is new waits until nothing else is being written, and is tried
    alone, in steps: a pipeline can be freed after a failed step, but not after a failed `generate`. Then the pipeline
    is opened again, for everybody but whoever brought the schema.

    A step can also never come back: openvino-genai 2026.4.1 was seen to stand still in one, at no processor time.
    Then every request fails with an `LLMError`, for another runtime to take over.

    Args:
        opened: opens the pipeline; called in the constructor, and again after a step that failed.
        slots: requests in work at once; the others wait.
        filler: a request of a few tokens; None steps instead, for requests whose `echo` has prompts scored: beside a
            request without it, their numbers would be another prompt's.
        patience: seconds in which the process may do nothing while there is work.
    """

    def __init__(
        self,
        opened: Callable[[], Any],
        slots: int,
        *,
        filler: Filler | None,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        self._opened = opened
        self._pipeline: Any = opened()
        self._slots = slots
        self._filler = filler
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._proven: set[str] = set()
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._closing = False
        self._broken: Exception | None = None
        self._patience = patience
        self._generating: threading.Thread | None = None
        self._began: float | None = None
        self._joinable = self._stepping = False
        self._under_way = threading.Event()
        self._problem: str | None = None
        self._own_seconds = 0.0
        self._kept = 0
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
            stands_still = self._broken is not None and self._began is not None
        for job in dropped:
            job.answer.cancel()
        if not stands_still:
            self._thread.join()
            self._pipeline = None

    def _run(self) -> None:
        try:
            while self._turn():
                pass
            if self._generating is not None and self._broken is None:
                self._generating.join()
        finally:
            self._ended.set()

    def _turn(self) -> bool:
        """Collect what has ended and admit what waits; False where nothing is left to do."""
        with self._changed:
            while not (self._waiting or self._running or self._closing):
                self._changed.wait()
            if self._broken is not None or not (self._waiting or self._running):
                return False
            working = self._began is not None
        self._settle(more_may_come=working or self._problem is not None)
        if not working:
            if self._problem is not None:
                self._start_anew(self._problem)
            elif self._waiting:
                self._generate()
            return True
        with self._changed:
            if self._joinable:
                self._admit()
            self._own_seconds = time.thread_time()
            self._changed.wait(_POLL_SECONDS)
        return True

    def _generate(self) -> None:
        """Have the pipeline work in a thread of its own; returns once others may join."""
        with self._changed:
            self._began = time.monotonic()
            alone = bool(self._waiting) and self._is_unproven(self._waiting[0])
            self._stepping = alone or self._filler is None
            if self._stepping:
                self._admit()
            self._joinable = not alone
            self._under_way.clear()
        self._generating = threading.Thread(target=self._work, name="multigrain-llm-steps", daemon=True)
        self._generating.start()
        while not self._stepping and self._began is not None and self._broken is None:
            self._own_seconds = time.thread_time()
            if self._under_way.wait(_POLL_SECONDS / 10):
                break

    def _work(self) -> None:
        # Neither a local name nor an exception's traceback may keep the pipeline: it would be freed in any thread.
        problem: str | None = None
        try:
            if not self._stepping and self._filler is not None:
                filler = self._filler
                self._pipeline.generate([filler.prompt], [filler.settings], filler.streamer(self._under_way.set))
            else:
                self._steps()
            with self._changed:
                self._joinable = False
            self._steps()  # what joined in the last moment
        except Exception as error:  # the library raises C++ exceptions of any kind
            problem = _one_line(error)
        with self._changed:
            self._began, self._joinable, self._problem = None, False, problem
            self._changed.notify_all()

    def _steps(self) -> None:
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()

    def _watch(self) -> None:
        """Give up where there is work and the whole process does nothing."""
        watched: float | None = None
        since = busy = 0.0
        while not self._ended.wait(self._patience / 10):
            began, now, used = self._began, time.monotonic(), time.process_time() - self._own_seconds
            if began is None or began != watched or used - busy > _LEAST_BUSY * (now - since):
                watched, since, busy = began, now, used
            elif now - since > self._patience and self._give_up(began):
                return

    def _give_up(self, began: float) -> bool:
        with self._changed:
            if self._began != began:
                return False
            jobs = [*self._running, *self._waiting]
            self._waiting.clear()
            self._closing = True
            self._changed.notify_all()
            self._broken = LLMError(
                f"OpenVINO stands still: {self._patience:.0f} s without any work, although requests wait "
                f"(llm.runtime: llamacpp does without it; what was answered is kept)"
            )
        _fail_all(jobs, self._broken)
        return True

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            job = self._waiting[0]
            alone = self._is_unproven(job)
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

    def _is_unproven(self, job: _Job) -> bool:
        return job.schema is not None and job.schema not in self._proven

    def _settle(self, *, more_may_come: bool) -> None:
        """Answer what has ended.

        Args:
            more_may_come: whether the pipeline is still at work, or its requests will be asked again.
        """
        for job in list(self._running):
            if job.answer.cancelled():
                job.handle.cancel()
                self._running.remove(job)
                continue
            status = job.handle.get_status().name
            if status not in ("RUNNING", "FINISHED"):
                # No output, or a piece that looks like any other: only the status tells.
                self._running.remove(job)
                _fail(job, CompletionFailure("too_long", f"the request does not fit the model's cache ({status})"))
                continue
            end = None if status == "RUNNING" else _read(job)
            if end is None:  # also where the status came before the last tokens
                if not more_may_come:
                    self._running.remove(job)
                    _fail(job, CompletionFailure("server_error", "the runtime ended the request without an answer"))
                continue
            self._running.remove(job)
            if job.schema is not None:
                self._proven.add(job.schema)
            _answer(job, Generated(job.tokens, job.log_probabilities, end))

    def _start_anew(self, problem: str) -> None:
        self._problem = None
        with self._changed:
            again, self._running = self._running, []
            if not again:  # the filler itself failed: that is held against whoever waits
                again = list(self._waiting)
                self._waiting.clear()
        for job in list(again):
            job.handle, job.tokens, job.log_probabilities = None, [], []
            job.tries += 1
            unproven = self._is_unproven(job)
            if unproven or job.tries >= _TRIES:
                again.remove(job)
                _fail(job, CompletionFailure("bad_request" if unproven else "server_error", problem))
        if not self._stepping:
            _never_free(self._pipeline)
            self._kept += 1
        self._pipeline = None
        try:
            if self._kept > _MOST_KEPT:
                raise LLMError(f"OpenVINO fails again and again ({problem}): set llm.runtime: llamacpp")
            self._pipeline = self._opened()
        except Exception as error:  # whatever it is, those who wait must hear of it
            with self._changed:
                again += self._waiting
                self._waiting.clear()
                self._closing, self._broken = True, error
            _fail_all(again, error)
            return
        with self._changed:
            self._waiting.extendleft(reversed(again))


def _never_free(pipeline: Any) -> None:
    """Keep a pipeline whose `generate` has failed: freeing it brings the process down (openvino-genai 2026.4.1)."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(pipeline))


def _read(job: _Job) -> Literal["stop", "length"] | None:
    """Take what has been written; says how it ended, or None where it has not yet."""
    if not job.handle.can_read():
        return None
    for output in job.handle.read_all():
        job.tokens += output.generated_ids
        job.log_probabilities += output.generated_log_probs
        if output.finish_reason.name in _ENDS:
            return _ENDS[output.finish_reason.name]
    return None


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
