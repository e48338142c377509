"""The demo's summary: one object with the figures of base and candidates."""

from __future__ import annotations

from typing import Any

from multigrain.config import Config
from multigrain.evaluation.choice import choose_model, plain_choice
from multigrain.evaluation.results import BASE, EvaluationResults, SetResult, read_results
from multigrain.evaluation.stored import RESULTS_FILE
from multigrain.evaluation.verdict import conclusions_of, judge_forgetting
from multigrain.stages.table import STAGES
from multigrain.storage.rundir import RunDirectory
from multigrain.tools.demo_budget import DemoPlan


def demo_summary(
    run: RunDirectory, config: Config, plan: DemoPlan, *, total_seconds: float, setup_seconds: float | None
) -> dict[str, Any]:
    """What `multigrain demo --json` prints.

    Args:
        run: a complete run of the demo recipe.
        config: the recipe, with the steps that were planned.
        plan: what the machine was found to manage.
        total_seconds: wall-clock time of the demo, environment set-up not included.
        setup_seconds: how long the environment took to set up, where the caller knows it.
    """
    results = read_results(run.results_path / RESULTS_FILE)
    test = results.with_role("test")[0]
    names = [name for name in results.models if name != BASE]
    seconds: dict[str, float | None] = {
        stage.name: round(sum(run.require(folder, "multigrain demo").seconds for folder in folders), 1)
        for stage in STAGES.values()
        if (folders := stage.folders(config))
    }
    audit = run.require("dataset", "multigrain demo").counts
    counted = ("requested", "written", "kept", "negatives_written", "negatives_mined", "written_candidates")
    return {
        BASE: _scores(test, BASE),
        **{f"tuned_{name}": _scores(test, name) for name in names},
        "delta": {
            f"tuned_{name}": {end: round(getattr(test.delta[name], end), 4) for end in ("mean", "low", "high")}
            for name in names
        },
        "verdict": {
            f"tuned_{conclusion.model}": conclusion.verdict.value
            for conclusion in conclusions_of(results)
            if conclusion.result.name == test.name
        },
        "choice": plain_choice(choose_model(results, conclusions_of(results))),
        "chosen": BASE if results.chosen == BASE else f"tuned_{results.chosen}",
        "validation": {
            name: round(scores.score, 4)
            for result in results.with_role("validation")
            for name, scores in result.models.items()
        },
        "forgetting": _forgetting(results),
        "queries": test.queries,
        "rows": {key: audit[key] for key in counted},
        "documents": plan.documents,
        "steps": {"taken": plan.steps, "wanted": plan.wanted, "tokens_per_second": plan.tokens_per_second},
        "seconds": {
            **seconds,
            "total": round(total_seconds, 1),
            "setup": None if setup_seconds is None else round(setup_seconds, 1),
        },
        "report": str(run.report_path),
    }


def _scores(result: SetResult, name: str) -> dict[str, float]:
    scores = result.models[name]
    return {"ndcg_at_10": round(scores.score, 4), "recall_at_10": round(scores.metrics["recall_at_10"], 4)}


def _forgetting(results: EvaluationResults) -> dict[str, Any] | None:
    """How much the chosen model lost on the unrelated set: base minus chosen."""
    for judged in judge_forgetting(results):
        delta = judged.result.delta[results.chosen]
        return {
            "set": judged.result.name,
            "queries": judged.result.queries,
            "mean": round(-delta.mean, 4),
            "low": round(-delta.high, 4),
            "high": round(-delta.low, 4),
        }
    return None
