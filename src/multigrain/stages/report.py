"""Stage 6: draw the page, write the model's card."""

from __future__ import annotations

from multigrain.report.card import write_card
from multigrain.report.render import write_report
from multigrain.stages.base import RunContext, Stage


def run(context: RunContext, _: Stage) -> None:
    """Write the report page and the model's card; drawing takes a second, so they are drawn anew every time."""
    path = write_report(context.run)
    write_card(context.run)
    context.progress.say(f"report: {path}")
