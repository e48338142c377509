"""Runs: their stages, where they stand, their journals."""

from __future__ import annotations

from pydantic import JsonValue

from multigrain.cli.shapes.base import Open, Shape
from multigrain.stages.status import StageStatus, Verified
from multigrain.storage.rundir import StageFailure
from multigrain.tools.verdict_line import RunVerdict
from multigrain.training.estimate import TrainingEstimate


class StageSummary(Open):
    """What a complete stage left: its counts under their names, as in the stage's `manifest.json`."""

    seconds: float
    """Of the session that completed it."""


class StagesSummary(Open):
    """What `run` and the commands of single stages print."""

    __pydantic_extra__: dict[str, StageSummary]
    run: str
    """The run directory."""
    report: str | None = None
    """The report page, where it was drawn."""
    shared_report: str | None = None
    """The copy of it without texts, where `--share` asked for one."""
    verdict: RunVerdict | None = None
    """What the run may claim, where it was evaluated."""


class JournalUsage(Shape):
    """What `journal` prints, over all journals of the run."""

    journal: str
    completions: int
    from_batches: int
    awaiting_batch: int
    cut_at_limit: int
    failures: dict[str, int]
    failure_details: dict[str, str]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    uncounted: int
    """Completions without a count of tokens."""
    cost: float | None
    """US dollars; null where a price is unknown."""


class RunStanding(Shape):
    """What `status RUN` prints."""

    path: str
    holder: str | None
    """Who works in it now."""
    stages: list[StageStatus]
    journal: JournalUsage | dict[str, JsonValue]
    """Empty where there is none."""
    report: str | None
    advice: str
    failure: StageFailure | None
    verified: Verified | None = None
    """With `--verify`."""


class RunsStanding(Shape):
    """What `status` prints where there are several runs."""

    runs: list[RunStanding]


class TrainingEstimates(Shape):
    """What `train --dry-run` prints."""

    candidates: list[TrainingEstimate]
