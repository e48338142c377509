"""Asks a model for every sample, one after another, and keeps all that it says."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.samples.inputs import (
    DOCUMENTS,
    EXAMPLES,
    LLM,
    LONGEST_DOCUMENT,
    OWN_TASKS,
    SEED,
    SELECTORS,
    TASKS_ASKED_FOR,
    VARIANTS,
)
from multigrain.config import SynthesisConfig, TasksConfig
from multigrain.engine.local import LocalEngine
from multigrain.engine.protocol import Engine
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, LLMClient
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient
from multigrain.records import Document, SynthesizedRow, Task, TaskKind
from multigrain.sources.tasks import make_task
from multigrain.synthesis.attributes import Attributes, task_attributes
from multigrain.synthesis.brainstorm import brainstorm
from multigrain.synthesis.likelihood import Scorer, rank_by_likelihood
from multigrain.synthesis.strategies.from_task import for_tasks
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.synthesize import build_strategy, synthesize


@dataclass(frozen=True)
class Sample:
    """What became of one unit."""

    unit: WritingUnit
    row: SynthesizedRow | None
    failure: CompletionFailure | None
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Ideas:
    """What a model thought of when it was asked for tasks of a kind.

    Attributes:
        kept: the tasks that can be used and differ.
        suggested: how many it named.
        answers: all that it said.
        own: whether none could be used, so that a task of ours stands in.
    """

    kept: tuple[Task, ...]
    suggested: int
    answers: tuple[str, ...]
    own: bool


@dataclass
class Section:
    """One way of asking, and all that came of it. The counts are of rows; `ideas` were asked for besides."""

    title: str
    samples: list[Sample] = field(default_factory=list)
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    note: str = ""
    ideas: Ideas | None = None


class CpuTimed:
    """Counts a completion's seconds in processor time, which other work and pauses leave as it is.

    Implements `LLMClient`, for a model that runs inside this process.
    """

    def __init__(self, inner: LLMClient) -> None:
        self._inner = inner
        self._turn = asyncio.Lock()

    @property
    def identity(self) -> str:
        """The inner client's."""
        return self._inner.identity

    async def complete(self, request: CompletionRequest) -> Completion:
        """Pass on, and time. One at a time: the processor's clock does not say for whom it ran."""
        async with self._turn:
            started = time.process_time()
            completion = await self._inner.complete(request)
            return replace(completion, seconds=time.process_time() - started)

    async def aclose(self) -> None:
        """The inner client's."""
        await self._inner.aclose()


class Recorder:
    """Keeps what a model says, unusable answers too. Implements `LLMClient`."""

    def __init__(self, inner: LLMClient) -> None:
        self._inner = inner
        self.completions: list[Completion] = []

    @property
    def identity(self) -> str:
        """The inner client's."""
        return self._inner.identity

    async def complete(self, request: CompletionRequest) -> Completion:
        """Pass on, and note what came back."""
        completion = await self._inner.complete(request)
        self.completions.append(completion)
        return completion

    async def aclose(self) -> None:
        """The inner client stays open."""


@dataclass
class Asking:
    """Everything it takes to ask.

    Attributes:
        model: writes, through the journal.
        scorer: ranks few-shot examples; None leaves that selector out.
        engine: where the asking runs, one request at a time.
        journal: keeps answers, so that nothing is asked twice.
        rows: documents for each strategy; and at most so many tasks of each kind, with a row each.
    """

    model: LLMClient
    scorer: Scorer | None
    engine: Engine
    journal: Journal
    rows: int

    def client(self, strategy: str) -> LLMClient:
        """The model behind the journal, under a strategy's name."""
        return JournaledClient(self.model, self.journal, strategy=strategy)

    def strategies(self, names: Sequence[str] = tuple(VARIANTS)) -> list[Section]:
        """Each way of asking about the first documents."""
        return [
            self._written(name, build(settings), settings["strategy"], self._documents())
            for name, settings in VARIANTS.items()
            if name in names
        ]

    def few_shot(self, folder: Path, selectors: Sequence[str] = SELECTORS) -> list[Section]:
        """`mgh` with examples before the task, chosen in each of the ways."""
        path = folder / "examples.jsonl"
        path.write_text("\n".join(each.model_dump_json(exclude_none=True) for each in EXAMPLES), encoding="utf-8")
        found = []
        for selector in selectors:
            settings = {"strategy": "mgh", "few_shot": selector, "few_shot_path": path}
            settings["few_shot_count"] = 3 if selector == "balanced" else 2
            more: dict[str, Any] = {}
            note = ""
            if selector == "likelihood":
                if self.scorer is None:
                    continue
                ranked = rank_by_likelihood(EXAMPLES, self.scorer, self.engine, seed=SEED)
                more["demonstrations"] = [example for example, _ in ranked]
                order = ", ".join(f"{example.kind} {score:.3f}" for example, score in ranked)
                note = f"Examples by the gain in log-likelihood of the others' queries, per character: {order}."
            section = self._written(f"mgh, {selector} few-shot", build(settings, **more), "mgh", self._documents())
            section.note = note
            found.append(section)
        return found

    def tasks(self, kinds: Sequence[TaskKind] = tuple(TaskKind)) -> list[Section]:
        """The paper's two steps for each kind of task: the model thinks of tasks, then writes a row for the first."""
        return [self._task(kind) for kind in kinds]

    def _documents(self) -> list[WritingUnit]:
        return [WritingUnit(document, style=Attributes(query_type="summary")) for document in DOCUMENTS[: self.rows]]

    def _task(self, kind: TaskKind) -> Section:
        languages = {"English": 1.0, "German": 1.0} if kind is TaskKind.BITEXT else {"English": 1.0}
        config = TasksConfig(kinds={kind: 1.0}, count=TASKS_ASKED_FOR, rounds=1, languages=languages)
        recorder = Recorder(self.client("mgh"))
        found = brainstorm(config, recorder, self.engine, LLM, seed=SEED)
        kept = tuple(found.tasks) or (make_task(kind, OWN_TASKS[kind]),)
        answers = tuple(each.text for each in recorder.completions)
        print(f"  {kind}: {len(found.tasks)} tasks", flush=True)
        settings = SynthesisConfig(strategy="mgh")
        strategy = for_tasks(build({"strategy": "mgh"}), settings, LLM, seed=SEED)
        units = [_task_unit(task, config) for task in kept[: self.rows]]
        section = self._written(f"task of kind {kind}", strategy, "mgh", units)
        section.ideas = Ideas(kept, found.suggested, answers, own=not found.tasks)
        return section

    def _written(self, title: str, strategy: Strategy, asker: str, units: Sequence[WritingUnit]) -> Section:
        """Have every unit written, one after another."""
        section = Section(title)
        for unit in units:
            recorder = Recorder(self.client(asker))
            (outcome,) = synthesize([unit], strategy, recorder, self.engine)
            failure = outcome.failure.error if outcome.failure is not None else None
            if failure is not None and not isinstance(failure, CompletionFailure):
                raise failure
            answers = tuple(each.text for each in recorder.completions)
            section.samples.append(Sample(unit, outcome.value, failure, answers))
            section.calls += len(answers)
            section.prompt_tokens += sum(each.prompt_tokens for each in recorder.completions)
            section.completion_tokens += sum(each.completion_tokens for each in recorder.completions)
            section.seconds += sum(each.seconds for each in recorder.completions)
            print(f"  {title}: {failure or 'written'}", flush=True)
        return section


@contextmanager
def asking(model: LLMClient, scorer: Scorer | None, journal_path: Path, *, rows: int) -> Iterator[Asking]:
    """Open the journal, and an engine that writes one row at a time; the model is closed at the end."""
    with Journal(journal_path) as journal, LocalEngine(concurrency=1) as engine:
        yield Asking(model, scorer, engine, journal, rows)
        engine.run(model.aclose())


def build(settings: Mapping[str, Any], **more: Any) -> Strategy:
    """The strategy that settings describe; `mgh`, `hybrid` and `single` write everything in one answer."""
    return build_strategy(SynthesisConfig.model_validate({"query_first": False, **settings}), LLM, seed=SEED, **more)


def _task_unit(task: Task, config: TasksConfig) -> WritingUnit:
    """The task's first row that is short enough; everything else about it is drawn as in a run."""
    styles = ((index, task_attributes(task, index, config, seed=SEED)) for index in itertools.count())
    index, style = next(each for each in styles if (each[1].document_words or 0) <= LONGEST_DOCUMENT)
    return WritingUnit(Document(task.id, task.text), index=index, style=style, task=task)
