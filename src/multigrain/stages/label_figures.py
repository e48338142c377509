"""Classification by the nearest label, where a run starts from labelled texts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from multigrain.evaluation.nearest_label import macro_f1
from multigrain.evaluation.results import EvaluationResults
from multigrain.evaluation.scoring import Scored
from multigrain.evaluation.sets.retrieval_set import GIVEN_PAIRS
from multigrain.stages.base import RunContext


def label_figures(
    context: RunContext, results: EvaluationResults, scored: Scored, tested: str
) -> dict[str, dict[str, dict[str, Any]]]:
    """Macro-F1 on the run's own sets, by set and model, for the stage's counts; nothing without labels.

    Args:
        context: the run; its progress is told.
        results: of the evaluation.
        scored: the rankings.
        tested: the model that is shown beside the base.
    """
    if context.config.pairs.labels is None:
        return {}
    own = {opened.name for opened in scored.sets.values() if opened.provenance == GIVEN_PAIRS}
    figures = macro_f1((row for row in scored.rows() if row.set in own), seed=context.config.seed)
    for name, models in figures.items():
        shown = (f"{model} {models[model]}" for model in dict.fromkeys((results.base, tested)))
        context.progress.say(f"{name}: macro-F1 by nearest label: {', '.join(shown)}")
    plain = {name: {key: asdict(each) for key, each in models.items()} for name, models in figures.items()}
    return {"macro_f1": plain}
