"""The demo's time: what each stage may take here, how many documents that allows and how many training steps."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from multigrain.config import Config
from multigrain.display.progress import Progress
from multigrain.stages.run import run_stages
from multigrain.stages.table import STAGES
from multigrain.storage.files import atomic_write
from multigrain.storage.rundir import RunDirectory, StageManifest
from multigrain.tools.speed import SECONDS_A_MODEL, TOKENS_A_QUERY, TRAINED_TOKEN, step_tokens, tokens_per_second

SECONDS: Final = 420.0
"""What the whole demo is planned to take at most: where speed was read wrong by a third, it still ends within ten
minutes."""

FEWEST_STEPS: Final = 8
"""Training steps that are taken however slow the machine is: fewer teach nothing."""

FEWEST_DOCUMENTS: Final = 500
"""Documents that are taken however slow the machine is: fewer show nothing."""

PLAN_FILE: Final = "demo.json"
_EVALUATION_SECONDS: Final = 200.0
_BEFORE: Final = ("documents", "synthesis", "audit")
_AFTER: Final = ("training", "evaluation", "report")


@dataclass(frozen=True)
class DemoPlan:
    """What a machine was found to manage; kept in the run directory, so that the same command goes on with it.

    Attributes:
        seed: of the demo.
        tokens_per_second: that the base model embeds.
        documents: that are read.
        steps: of training; 0 before it is known how long the stages before it took.
        wanted: steps of the recipe.
        seconds: that the whole is expected to take.
    """

    seed: int
    tokens_per_second: float
    documents: int
    steps: int = 0
    wanted: int = 0
    seconds: float = 0.0

    def sentence(self) -> str:
        """The plan in a line, for people."""
        steps = f"all {self.steps}" if self.steps == self.wanted else f"{self.steps} of {self.wanted}"
        why = "" if self.steps == self.wanted else ", since more would take too long here"
        return (
            f"demo: this machine embeds {self.tokens_per_second:,.0f} tokens a second: {steps} training steps{why}; "
            f"about {self.seconds / 60:.0f} minutes in all"
        )


def plan_documents(config: Config, *, tokens_per_second: float) -> DemoPlan:
    """How many documents all models can embed in the evaluation's time.

    Args:
        config: the demo's; its `documents.limit` is the most.
        tokens_per_second: that the base model embeds on this machine.
    """
    settings = config.documents
    limit = settings.limit or FEWEST_DOCUMENTS
    shares = {"documents": 1.0, "validation": settings.validation_share, "test": settings.test_share}
    shares["train"] = 1 - shares["validation"] - shares["test"]
    others = _other_tokens(config)
    fit = (_EVALUATION_SECONDS * tokens_per_second - others) / _own_tokens(config, shares)
    documents = max(min(limit, FEWEST_DOCUMENTS), min(limit, int(fit)))
    return DemoPlan(config.seed, round(tokens_per_second, 1), documents)


def plan_steps(config: Config, plan: DemoPlan, counts: Mapping[str, int], *, elapsed: float) -> DemoPlan:
    """How many steps fit between what has been spent and what the evaluation will take.

    Args:
        config: the demo's; its steps are the most.
        plan: with the speed of this machine.
        counts: of the documents: `documents`, `train`, `validation` and `test`.
        elapsed: seconds since the demo began.
    """
    wanted, tokens_per_second = config.training.steps_for(0), plan.tokens_per_second
    after = (_own_tokens(config, counts) + _other_tokens(config)) / tokens_per_second
    after += SECONDS_A_MODEL * (2 * len(config.training.candidates) + 1)
    tokens = sum(step_tokens(config.training.resolve(name)) for name in config.training.candidates)
    a_step = TRAINED_TOKEN * tokens / tokens_per_second
    steps = max(min(wanted, FEWEST_STEPS), min(wanted, int((SECONDS - elapsed - after) / a_step)))
    return replace(plan, steps=steps, wanted=wanted, seconds=round(elapsed + after + steps * a_step, 1))


def run_demo(
    config: Config, directory: Path, *, progress: Progress, redo: bool = False
) -> tuple[RunDirectory, Config, DemoPlan]:
    """Run the demo within its time; interrupted anywhere, the same call goes on where it stopped.

    Args:
        config: the recipe.
        directory: where to keep it.
        progress: who is told.
        redo: run complete stages again whose settings have changed, and plan anew.

    Returns:
        The run, the recipe with the steps that were planned, and the plan.

    Raises:
        MultigrainError: something that the user can mend.
    """
    started = time.monotonic()
    for stage in STAGES.values():
        if stage.check_settings is not None:  # what is missing for the last stage is said before the first
            stage.check_settings(config, RunDirectory(directory))
    plan = None if redo else _kept_plan(directory, config)
    begun = RunDirectory(directory)
    if plan is None:
        plan = plan_documents(config, tokens_per_second=tokens_per_second(config))
        if not redo:
            plan = replace(plan, documents=documents_of_run(begun, config) or plan.documents)
    if plan.documents != config.documents.limit:
        progress.say(f"demo: {plan.documents} of {config.documents.limit} documents, since this machine is slow")
    documents = config.documents.model_copy(update={"limit": plan.documents})
    config = config.model_copy(update={"documents": documents})
    run = run_stages(config, directory, _BEFORE, progress=progress, redo=redo)
    if not plan.steps:
        counts = run.require("documents", "multigrain demo").counts
        plan = plan_steps(config, plan, counts, elapsed=time.monotonic() - started)
        if not redo:
            plan = replace(plan, steps=steps_of_run(begun, config) or plan.steps)
        atomic_write(run.path / PLAN_FILE, json.dumps(asdict(plan)))
    progress.say(plan.sentence())
    training = config.training.model_copy(update={"steps": plan.steps})
    planned = config.model_copy(update={"training": training})
    run_stages(planned, directory, _AFTER, progress=progress, redo=redo)
    return run, planned, plan


def documents_of_run(run: RunDirectory, config: Config) -> int | None:
    """How many documents an interrupted demo of the same seed has read; None where it has read none.

    Args:
        run: where the demo is kept.
        config: the recipe.
    """
    limit = _settings(run.manifest("documents"), config).get("documents", {}).get("limit")
    return limit if isinstance(limit, int) else None


def steps_of_run(run: RunDirectory, config: Config) -> int | None:
    """How many steps an interrupted demo of the same seed has trained; None where it has trained no model.

    Args:
        run: where the demo is kept.
        config: the recipe.
    """
    for name in config.training.candidates:
        steps = _settings(run.manifest(f"models/{name}"), config).get("training", {}).get("steps")
        if isinstance(steps, int):
            return steps
    return None


def _settings(manifest: StageManifest | None, config: Config) -> dict[str, Any]:
    """The settings that a stage was completed with; none where it is not complete, or of another seed."""
    settings = {} if manifest is None else manifest.settings
    return settings if settings.get("seed") == config.seed else {}


def _kept_plan(directory: Path, config: Config) -> DemoPlan | None:
    path = directory / PLAN_FILE
    if not path.exists():
        return None
    try:
        plan = DemoPlan(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # of another version: the machine is measured again
    return plan if plan.seed == config.seed and plan.steps else None


def _own_tokens(config: Config, counts: Mapping[str, float]) -> float:
    """Tokens of the run's own documents and queries that models embed to be compared; see `plan_steps` for the counts.

    The base model has embedded the training side for the audit.
    """
    length = config.training.max_seq_length or 0
    models = len(config.training.candidates) + 1
    queries = (counts["validation"] + counts["test"]) * TOKENS_A_QUERY
    return models * (counts["documents"] * length + queries) - counts["train"] * length


def _other_tokens(config: Config) -> float:
    """Tokens of the other sets, on which base and chosen model are compared."""
    length = config.training.max_seq_length or 0
    return 2 * sum(
        (chosen.max_documents or 0) * length + (chosen.max_queries or 0) * TOKENS_A_QUERY
        for chosen in config.evaluation.sets
    )
