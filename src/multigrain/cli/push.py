"""`multigrain push`."""

from __future__ import annotations

from typing import Annotated

import typer

from multigrain.cli.console import print_json
from multigrain.cli.options import CompleteRunArgument, JsonOption
from multigrain.cli.upload import DryRunOption, PublicOption, RepositoryArgument, upload


def push(
    run: CompleteRunArgument,
    repository: RepositoryArgument,
    public: PublicOption = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Commit to this branch. Default: the repository's own.")
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Upload a run's chosen model and its card to the Hugging Face hub, private unless you say otherwise.

    The token is the hub client's own: `hf auth login`, or $HF_TOKEN.
    """
    from multigrain.report.card import write_card
    from multigrain.storage.rundir import RunDirectory

    card = write_card(RunDirectory(run))
    summary = upload(card.parent, repository, kind="model", public=public, revision=revision, dry_run=dry_run)
    if as_json:
        print_json(summary)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(push)
