"""Stage 6: draw the page, write the model's card."""

from __future__ import annotations

from pathlib import Path

from multigrain.report.card import write_card
from multigrain.report.write import write_report
from multigrain.stages.context import RunContext
from multigrain.stages.fingerprints import require_current, results_identity

__all__ = ["report_stage"]


def report_stage(context: RunContext) -> Path:
    """Write the report page and the model's card; drawing takes a second, so they are drawn anew every time."""
    require_current(context, "results", results_identity(context), "multigrain evaluate")
    path = write_report(context.run)
    write_card(context.run)
    context.progress.say(f"report: {path}")
    return path
