"""`multigrain card`."""

from __future__ import annotations

from multigrain.cli.console import console
from multigrain.cli.options import CompleteRunArgument


def card(run: CompleteRunArgument) -> None:
    """Write the model card of a run's chosen model: RUN/model/README.md.

    `multigrain run` and `multigrain report` write it as well.
    """
    from multigrain.report.card import write_card
    from multigrain.storage.rundir import RunDirectory

    path = write_card(RunDirectory(run))
    console().print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
