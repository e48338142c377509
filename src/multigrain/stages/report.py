"""Stage 6: draw the page, write the models' cards."""

from __future__ import annotations

from multigrain.report.cards import write_cards
from multigrain.report.render import write_report
from multigrain.stages.base import RunContext, Stage


def run(context: RunContext, _: Stage) -> None:
    """Write the report page and the models' cards; drawing takes a second, so they are drawn anew every time."""
    path = write_report(context.run)
    write_cards(context.run, context.config)
    context.progress.say(f"report: {path}")
