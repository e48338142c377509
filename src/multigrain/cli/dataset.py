"""`multigrain dataset`: the audited rows in other tools' forms, and on a hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from multigrain.cli.console import console, print_json, quieten_libraries
from multigrain.cli.options import JsonOption, require_fitting
from multigrain.cli.push import PublicOption, RepositoryArgument, upload
from multigrain.errors import ConfigError, SourceError
from multigrain.storage.shards import is_table

app = typer.Typer(help="Graded rows in other tools' forms, and on a hub.", no_args_is_help=True)

_Rows = Annotated[
    Path,
    typer.Argument(metavar="RUN|PARQUET", help="A run directory, or graded.parquet."),
]


@app.command()
def export(
    context: typer.Context,
    source: _Rows,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to: .jsonl, .csv or .parquet.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="sentence-transformers, lists, flagembedding, tevatron, ms-swift, or multigrain; of a run also sft, "
            "preference or kto: what its writer answered, for TRL's trainers.",
        ),
    ] = "sentence-transformers",
    plain: Annotated[
        bool, typer.Option("--plain", help="sft, preference, kto: plain texts instead of messages.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write graded rows for another training tool, negatives from level 1 to 4; or what a writer is tuned on.

    sft, preference and kto hold completions that the audit accepted and rejected, with rewards and reasons. Nothing of
    held-out documents is in them.
    """
    from multigrain.writer.forms import FORMS

    if form in FORMS:
        quieten_libraries()
        from multigrain.writer.run_data import export_completions

        count = export_completions(source, to, FORMS[form], conversational=not plain)
        _print_summary({"rows": count, "format": form, "file": str(to)}, as_json=as_json)
        return
    require_fitting(context, {"plain"}, f"is for --format sft, preference and kto; --format {form} has no use for it")
    from multigrain.dataset.export import export_examples
    from multigrain.dataset.store import open_examples
    from multigrain.storage.reading import Reading

    chosen = _format(form)
    examples = open_examples(_parquet(source))
    reading = Reading()
    export_examples(examples, to, chosen, reading=reading)
    _print_summary({"rows": len(examples), "format": chosen, "file": str(to)}, as_json=as_json)
    for line in () if as_json else reading.lines(to.name):
        console().print(f"dataset: {line}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A training file in any of the forms.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to: .jsonl, .csv or .parquet.")],
    form: Annotated[str, typer.Option("--format", metavar="NAME", help="The form to write.")],
    read_as: Annotated[
        str, typer.Option("--from", metavar="NAME", help="The form to read. Default: what the first row looks like.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Change a training file's form as it is, without an audit."""
    from multigrain.dataset.export import convert as convert_rows
    from multigrain.dataset.foreign import known_format, open_foreign
    from multigrain.storage.reading import Reading

    chosen = _format(form)
    reading = Reading()
    rows, source_form = open_foreign(source, known_format(read_as), reading=reading)
    count = convert_rows(rows, to, chosen, reading=reading)
    summary = {"rows": count, "from": source_form, "format": chosen, "file": str(to)}
    notes = list(reading.lines(source.name))
    _print_summary({**summary, "notes": notes} if as_json else summary, as_json=as_json)
    for line in () if as_json else notes:
        console().print(f"dataset: {line}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def push(
    source: _Rows,
    repository: RepositoryArgument,
    public: PublicOption = False,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Where the folder is written. Default: <RUN>/dataset/hub."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="The licence of the texts, e.g. cc-by-4.0.")
    ] = None,
    languages: Annotated[
        list[str] | None, typer.Option("--language", metavar="CODE", help="A language of the texts; may be repeated.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write folder and card, list the files, and upload nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the rows with a data set card, and push them to the Hugging Face hub, private unless you say otherwise.

    The token is the hub client's own: `hf auth login`, or $HF_TOKEN.
    """
    quieten_libraries()
    from multigrain.dataset.card import write_dataset_folder
    from multigrain.dataset.store import open_examples

    rows = _parquet(source)
    examples = open_examples(rows)
    audit = rows.parent / "audit.json"
    target = folder if folder is not None else rows.parent / "hub"
    write_dataset_folder(
        target,
        examples,
        name=repository.rsplit("/", 1)[-1],
        audit=json.loads(audit.read_text(encoding="utf-8")) if audit.is_file() else None,
        licence=licence,
        languages=languages or (),
    )
    _print_summary({"rows": len(examples), "folder": str(target)})
    summary = upload(target, repository, kind="dataset", public=public, dry_run=dry_run)
    if as_json:
        print_json({"rows": len(examples), "folder": str(target), **summary})


def _format(name: str) -> Any:
    from multigrain.dataset.foreign import FORMATS, known_format

    chosen = known_format(name)
    if chosen == "auto":
        raise ConfigError(f"--format auto: name the form to write ({', '.join(FORMATS)})")
    return chosen


def _parquet(source: Path) -> Path:
    for path in (source / "dataset" / "graded.parquet", source / "graded.parquet", source):
        if is_table(path):
            return path
    raise SourceError(f"{source}: no graded rows there; give a run directory after `multigrain audit`, or its parquet")


def _print_summary(values: dict[str, Any], *, as_json: bool = False) -> None:
    if as_json:
        print_json(values)
    else:
        text = ", ".join(f"{key} {value}" for key, value in values.items())
        console().print(f"dataset: {text}", markup=False, highlight=False, soft_wrap=True)
