"""What the model is to be good at, where there are no documents."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from multigrain.config.paths import InputPath
from multigrain.config.section import Section
from multigrain.config.synthesis import Weight, some_weight
from multigrain.records import TaskKind


class TasksConfig(Section):
    """start_from: tasks only. What the model is to be good at, and how much is written for it."""

    path: InputPath | None = None
    """Your own tasks: a .txt file with one a line, or a .jsonl or .yaml file with `task` and `kind`.
    Null: the language model brainstorms them."""

    kinds: Annotated[dict[TaskKind, Weight], AfterValidator(some_weight)] = Field(
        default={
            TaskKind.SHORT_LONG: 1.0,
            TaskKind.LONG_SHORT: 1.0,
            TaskKind.SHORT_SHORT: 1.0,
            TaskKind.LONG_LONG: 1.0,
            TaskKind.STS: 1.0,
        }
    )
    """Kinds of tasks and their weights: short-long (a query finds a document), long-short, short-short, long-long,
    sts (sentences that mean the same), bitext (translations). Tasks and rows are shared out by them."""

    count: int = Field(default=50, ge=1)
    """How many different tasks to brainstorm."""

    topics: list[str] = Field(default_factory=list)
    """What the tasks should be about, e.g. [tax law, payroll]; requests take them in turn. Empty: anything."""

    per_request: int = Field(default=20, ge=1, le=50)
    """Tasks asked for at once."""

    rounds: int = Field(default=5, ge=1, le=50)
    """How often to ask again for kinds that are still short of different tasks."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    """Sampling temperature of the brainstorm; rows are sampled by llm.temperature."""

    near_duplicate_similarity: float = Field(default=0.5, gt=0, le=1)
    """Brainstormed tasks of a kind whose word trigrams overlap this much (Jaccard) count as one."""

    rows: int = Field(default=1000, ge=10)
    """Rows to write for all tasks together, held-out ones included."""

    languages: Annotated[dict[str, Weight], AfterValidator(some_weight)] = Field(default={"English": 1.0})
    """Languages of the rows and their weights. bitext pairs two different ones."""

    hold_out: Literal["auto", "tasks", "rows"] = "auto"
    """What documents.validation_share and test_share hold out: whole tasks, or rows of every task.
    auto: tasks where there are at least 20."""

    @model_validator(mode="after")
    def _bitext_has_two_languages(self) -> Self:
        if self.kinds.get(TaskKind.BITEXT, 0) > 0 and sum(weight > 0 for weight in self.languages.values()) < 2:
            raise ValueError("kinds.bitext needs two languages at least: name them under tasks.languages")
        return self
