"""`multigrain push`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from multigrain.cli.console import console, print_json
from multigrain.cli.options import CompleteRunArgument, JsonOption

__all__ = ["push", "register"]


def push(
    run: CompleteRunArgument,
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="OWNER/NAME on the Hugging Face hub.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public. Default: private.")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Commit to this branch. Default: the repository's own.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files; upload nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload a run's chosen model and its card to the Hugging Face hub, private unless you say otherwise.

    The token is the hub client's own: `hf auth login`, or $HF_TOKEN.
    """
    from multigrain.report.card import write_card
    from multigrain.report.hub import files_to_push, push_model
    from multigrain.rundir import RunDirectory

    held = RunDirectory(run)
    write_card(held)
    files = files_to_push(held)
    summary = {"repo_id": repo_id, "private": not public, "files": [asdict(each) for each in files]}
    if dry_run:
        for each in files:
            console().print(f"{each.bytes:>13,}  {each.path}", highlight=False, soft_wrap=True, markup=False)
        total = sum(each.bytes for each in files)
        console().print(
            f"{total:>13,}  bytes would go to {repo_id}, {'public' if public else 'private'}", highlight=False
        )
    else:
        summary["commit"] = push_model(held, repo_id, private=not public, revision=revision)
        console().print(f"pushed {len(files)} files: {summary['commit']}", highlight=False, soft_wrap=True)
    if as_json:
        print_json(summary)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(push)
