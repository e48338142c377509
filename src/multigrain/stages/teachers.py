"""Between audit and training: teachers score every passage of the graded rows, once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

from multigrain.config import TeacherConfig
from multigrain.dataset.store import open_examples, writing_examples
from multigrain.errors import ConfigError, ModelError
from multigrain.llm.prices import cost_of
from multigrain.llm.session.usage import read_usage
from multigrain.stages.base import RunContext, Stage, complete_stage
from multigrain.stages.fingerprints import (
    any_candidate,
    scored_path,
    scores_fingerprint,
    scores_folder,
    taught_by,
    teachers_of,
)
from multigrain.stages.models import RunModels
from multigrain.stages.spending import too_dear
from multigrain.storage.files import remove
from multigrain.teachers.build import open_teachers
from multigrain.teachers.score import ScoreCounts, score_rows, texts_to_read
from multigrain.teachers.spending import embedding_price


def run(context: RunContext, _: Stage) -> None:
    """Score the graded rows by every teacher that is there; candidates of the run score once they are trained."""
    training = context.config.training
    for name in training.candidates:
        teachers = teachers_of(training.resolve(name))
        if teachers and not any_candidate(teachers):
            score_rows_by(context, teachers)


def score_rows_by(context: RunContext, teachers: Sequence[TeacherConfig], *, data: RunContext | None = None) -> None:
    """Score the graded rows by teachers, unless they have been.

    Args:
        context: the run.
        teachers: which; candidates among them are trained.
        data: the context that made the data set, where it is another.
    """
    complete_stage(
        context,
        scores_folder(teachers),
        scores_fingerprint(context, teachers, data=data),
        partial(_score, context, teachers, data),
    )


def _score(context: RunContext, teachers: Sequence[TeacherConfig], data: RunContext | None) -> dict[str, Any]:
    config, run = context.config, context.run
    examples = open_examples(run.dataset_path)
    path = scored_path(run, teachers)
    vectors = path.parent / "vectors"
    counts = ScoreCounts()
    named = [teacher.model for teacher in teachers]
    with (
        context.progress.task(f"Scoring passages by {' and '.join(named)}", len(examples), unit="rows") as task,
        open_teachers(
            config,
            run,
            teachers,
            partial(taught_by, context, data=data),
            vectors=context.embeddings or vectors,
        ) as opened,
        writing_examples(path) as table,
    ):
        spent = _paid_for_base(context) if any(each.usage is not None for each in opened) else 0.0
        for teacher, each in zip(teachers, opened, strict=True):
            if each.usage is not None and (
                words := too_dear(config, run, teacher.model, texts_to_read(examples, each.known), spent=spent)
            ):
                raise ConfigError(f"training.teacher: {words}; what was scored is kept")
        for example in score_rows(examples, opened, counts):
            table.add([example])
            task.advance()
        scale = opened[0].teacher.scale if len(opened) == 1 else "rank"
        kept = zip(teachers, opened, strict=True)
        embedded = [(teacher, each.known.usage()) for teacher, each in kept if each.usage is not None]
    if not counts.scored:
        raise ModelError(
            f"training.teacher {', '.join(named)}: gave no score for any of {counts.passages} passages; "
            "`multigrain journal` tells what a language model answered"
        )
    remove(vectors)
    summary: dict[str, Any] = {
        "teachers": named,
        "scale": str(scale),
        "rows": counts.rows,
        "passages": counts.passages,
        "scored": counts.scored,
        "asked": dict(zip(named, counts.asked, strict=True)),
        "unanswered": dict(zip(named, counts.unanswered, strict=True)),
    }
    costs = [read_usage(run, config).cost] if any(teacher.is_judge for teacher in teachers) else []
    if embedded:
        summary["embeddings"] = {}
    for teacher, usage in embedded:
        price = embedding_price(config, teacher)
        cost = None if price is None else cost_of(price, prompt_tokens=usage.tokens, completion_tokens=0)
        summary["embeddings"][teacher.model] = {"requests": usage.requests, "tokens": usage.tokens, "cost": cost}
        costs.append(cost)
    paid = [cost for cost in costs if cost is not None]
    if paid and len(paid) == len(costs):
        summary["cost"] = round(sum(paid), 6)
    context.progress.say(
        f"teachers: {counts.scored:,} of {counts.passages:,} passages of {counts.rows:,} rows scored by "
        f"{' and '.join(named)}"
    )
    return summary


def _paid_for_base(context: RunContext) -> float:
    """US dollars for what a base behind an endpoint has embedded; 0 where it runs here or its price is unknown."""
    with closing(RunModels(context)) as models:
        return models.paid or 0.0
