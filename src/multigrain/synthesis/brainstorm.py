"""The paper's first step: a model thinks of tasks, kind by kind, until there are enough that differ."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, create_model
from pydantic import Field as ShapeField

from multigrain.config import LLMConfig, TasksConfig
from multigrain.engine.protocol import Engine, Failure
from multigrain.llm.answers import answer_schema, ask
from multigrain.llm.protocol import CompletionRequest, LLMClient
from multigrain.records import Task, TaskKind
from multigrain.sources.grouping import near_duplicate_groups
from multigrain.sources.tasks import make_task
from multigrain.synthesis.plain_text import Text
from multigrain.synthesis.prompts import BUILT_IN, Prompts

BRAINSTORM: Final = "brainstorm"
"""What the journal calls the one who asks for tasks."""

_TASK_TOKENS: Final = 40
_SPARE_TOKENS: Final = 64
_FEWEST_WORDS: Final = 4
_MOST_WORDS: Final = 80
_MARGIN: Final = 1.2  # asked for at once, of what is missing: some will repeat others


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """One list of tasks to ask for.

    Attributes:
        kind: of the tasks.
        number: of the request, over all kinds and rounds.
        count: how many tasks.
        topic: what they are about; None for anything.
    """

    kind: TaskKind
    number: int
    count: int
    topic: str | None = None


@dataclass
class Brainstorm:
    """What came of it.

    Attributes:
        tasks: those that differ, kinds in the order of the config.
        targets: how many of each kind to end with.
        suggested: how many were suggested.
        near_duplicates: how many of them repeat another of their kind.
        unusable: how many were no task: too short, too long.
        failed: requests that came to nothing, by kind of failure.
        failure: one of them, for people.
    """

    tasks: list[Task] = field(default_factory=list)
    targets: dict[TaskKind, int] = field(default_factory=dict)
    suggested: int = 0
    near_duplicates: int = 0
    unusable: int = 0
    failed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failure: Failure | None = None

    def missing(self) -> dict[TaskKind, int]:
        """How many tasks each kind is short of."""
        counts = {kind: sum(task.kind is kind for task in self.tasks) for kind in self.targets}
        return {kind: target - counts[kind] for kind, target in self.targets.items() if target > counts[kind]}


def brainstorm(
    config: TasksConfig,
    client: LLMClient,
    engine: Engine,
    llm: LLMConfig,
    *,
    seed: int,
    prompts: Prompts = BUILT_IN,
    stop: Callable[[], bool] | None = None,
    on_done: Callable[[Failure | None], None] | None = None,
) -> Brainstorm:
    """Ask for tasks until every kind has its share, or asking again brings nothing new.

    Requests of a round depend on what earlier rounds brought and on nothing else, so that a brainstorm that was
    interrupted asks for the same lists again and finds them in its journal.

    Args:
        config: how many of which kinds, about what.
        client: the model.
        engine: where the work runs.
        llm: its sampling, but for the temperature.
        seed: of the sampler.
        prompts: the templates.
        stop: asked before each request; True starts no further one.
        on_done: told of each request that is done.

    Raises:
        LLMError: the model cannot be used at all.
    """
    result = Brainstorm(targets=shares_of(config.count, config.kinds))
    by_kind: dict[TaskKind, list[Task]] = {kind: [] for kind in result.targets}
    number = 0

    async def write(request: TaskRequest) -> tuple[str, ...]:
        completion = _completion(request, config, llm, seed=seed, prompts=prompts)
        answer: Any = await ask(client, completion, _shape(request.count))
        return tuple(answer.tasks)

    for _ in range(config.rounds):
        requests = _requests(result.missing(), config, number)
        number += len(requests)
        answers: dict[TaskRequest, tuple[str, ...]] = {}
        for outcome in engine.map(write, requests, stop=stop):
            if on_done is not None:
                on_done(outcome.failure)
            if outcome.value is not None:
                answers[outcome.unit] = outcome.value
            elif outcome.failure is not None:
                result.failed[outcome.failure.kind] += 1
                result.failure = outcome.failure
        before = sum(map(len, by_kind.values()))
        # In the order in which they were asked for: answers come in any.
        for request in requests:
            _keep(answers.get(request, ()), request.kind, by_kind, result, config)
        result.tasks = [task for kind, tasks in by_kind.items() for task in tasks[: result.targets[kind]]]
        if not result.missing() or sum(map(len, by_kind.values())) == before:
            break
    return result


def first_requests(
    config: TasksConfig, llm: LLMConfig, *, seed: int, prompts: Prompts = BUILT_IN
) -> list[CompletionRequest]:
    """What the first round asks for, in the form in which a journal keeps it."""
    requests = _requests(shares_of(config.count, config.kinds), config, 0)
    completions = [_completion(request, config, llm, seed=seed, prompts=prompts) for request in requests]
    shapes = [answer_schema(_shape(request.count)) for request in requests]
    return [replace(completion, schema=schema) for completion, schema in zip(completions, shapes, strict=True)]


def shares_of(count: int, weights: Mapping[TaskKind, float]) -> dict[TaskKind, int]:
    """Share a number out by weight, the largest remainders first; every kind with a weight gets one if there is."""
    weighted = {kind: weight for kind, weight in weights.items() if weight > 0}
    total = sum(weighted.values())
    exact = {kind: count * weight / total for kind, weight in weighted.items()}
    shares = {kind: math.floor(share) for kind, share in exact.items()}
    by_remainder = sorted(weighted, key=lambda kind: shares[kind] - exact[kind])
    for kind in by_remainder[: count - sum(shares.values())]:
        shares[kind] += 1
    return {kind: share for kind, share in shares.items() if share > 0}


def _requests(missing: Mapping[TaskKind, int], config: TasksConfig, number: int) -> list[TaskRequest]:
    """The lists to ask for where so many tasks of each kind are missing; `number` is the first one's."""
    requests: list[TaskRequest] = []
    for kind, count in missing.items():
        total = math.ceil(count * _MARGIN)
        for begin in range(0, total, config.per_request):
            place = number + len(requests)
            topic = config.topics[place % len(config.topics)] if config.topics else None
            requests.append(TaskRequest(kind, place, min(total - begin, config.per_request), topic))
    return requests


def _completion(
    request: TaskRequest, config: TasksConfig, llm: LLMConfig, *, seed: int, prompts: Prompts
) -> CompletionRequest:
    """A list of tasks as it is asked for."""
    return CompletionRequest(
        messages=prompts.render(
            "brainstorm", kind=str(request.kind), count=request.count, topic=request.topic, index=request.number
        ),
        temperature=config.temperature,
        top_p=llm.top_p,
        max_tokens=max(llm.max_tokens, request.count * _TASK_TOKENS + _SPARE_TOKENS),
        seed=seed + request.number,
        asked_by=BRAINSTORM,
        room=llm.max_tokens,
    )


def _keep(
    texts: Iterable[str], kind: TaskKind, by_kind: dict[TaskKind, list[Task]], result: Brainstorm, config: TasksConfig
) -> None:
    """Add those that are tasks and unlike any that the kind has."""
    tasks = by_kind[kind]
    new = []
    for text in texts:
        result.suggested += 1
        plain = " ".join(text.split())
        if not _FEWEST_WORDS <= len(plain.split()) <= _MOST_WORDS:
            result.unusable += 1
            continue
        new.append(make_task(kind, plain))
    together: Sequence[Task] = [*tasks, *new]
    groups = near_duplicate_groups((task.text for task in together), config.near_duplicate_similarity)
    taken = set(groups[: len(tasks)])
    for task, group in zip(new, groups[len(tasks) :], strict=True):
        if group in taken:
            result.near_duplicates += 1
        else:
            taken.add(group)
            tasks.append(task)


@cache
def _shape(count: int) -> type[BaseModel]:
    """A list of tasks. A grammar is told where to stop; a model that writes more has done no harm."""
    return create_model(
        f"Tasks{count}", tasks=(list[Text], ShapeField(min_length=1, json_schema_extra={"maxItems": count}))
    )
