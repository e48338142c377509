"""`multigrain push`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from multigrain.cli.console import console, print_json
from multigrain.cli.options import CandidateOption, CompleteRunArgument, JsonOption
from multigrain.export.hub import RepositoryKind


def push(
    run: CompleteRunArgument,
    repository: RepositoryArgument,
    candidate: CandidateOption = None,
    public: PublicOption = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Commit to this branch. Default: the repository's own.")
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Upload a run's chosen model and its card to the Hugging Face hub, private unless you say otherwise.

    --candidate names a reranker of the run instead. The token is the hub client's own: `hf auth login`, or $HF_TOKEN.
    """
    from multigrain.export.run_model import evaluated_config, run_model
    from multigrain.report.cards import write_cards
    from multigrain.storage.rundir import RunDirectory

    directory = RunDirectory(run)
    config = evaluated_config(directory)
    model = run_model(directory, config, candidate)
    write_cards(directory, config, [model])
    summary = upload(model.folder, repository, kind="model", public=public, revision=revision, dry_run=dry_run)
    if as_json:
        print_json(summary)


RepositoryArgument = Annotated[
    str, typer.Argument(metavar="OWNER/NAME", help="The repository on the Hugging Face hub; made if there is none.")
]
PublicOption = Annotated[bool, typer.Option("--public", help="Make a new repository public. Default: private.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="List the files; upload nothing.")]


def upload(
    folder: Path,
    repo_id: str,
    *,
    kind: RepositoryKind,
    public: bool,
    revision: str | None = None,
    dry_run: bool,
) -> dict[str, Any]:
    """Push a folder and say where it went, or list what would be pushed.

    Args:
        folder: what to push.
        repo_id: OWNER/NAME.
        kind: what the folder holds.
        public: whether everybody sees a new repository.
        revision: the branch to commit to; None for the default one.
        dry_run: list alone, and ask nobody.

    Returns:
        The summary that `--json` prints.

    Raises:
        HubError: the hub refuses or cannot be reached.
    """
    from multigrain.export.hub import files_to_push, push_folder

    files = files_to_push(folder)
    summary: dict[str, Any] = {"repo_id": repo_id, "private": not public, "files": [asdict(file) for file in files]}
    if dry_run:
        for file in files:
            console().print(f"{file.bytes:>13,}  {file.path}", highlight=False, soft_wrap=True, markup=False)
        total = sum(file.bytes for file in files)
        visibility = "public" if public else "private"
        console().print(
            f"{total:>13,}  bytes would go to {repo_id}, {visibility}", markup=False, highlight=False, soft_wrap=True
        )
    else:
        summary["commit"] = push_folder(folder, repo_id, kind=kind, private=not public, revision=revision)
        console().print(
            f"pushed {len(files)} files: {summary['commit']}", markup=False, highlight=False, soft_wrap=True
        )
    return summary
