"""`multigrain card`."""

from __future__ import annotations

from multigrain.cli.console import console
from multigrain.cli.options import CompleteRunArgument


def card(run: CompleteRunArgument) -> None:
    """Write the cards of a run's models: RUN/model/README.md of the chosen one, RUN/models/NAME/README.md of others.

    `multigrain run` and `multigrain report` write them as well.
    """
    from multigrain.export.run_model import evaluated_config
    from multigrain.report.cards import write_cards
    from multigrain.storage.rundir import RunDirectory

    directory = RunDirectory(run)
    for path in write_cards(directory, evaluated_config(directory)):
        console().print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
