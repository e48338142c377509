"""`multigrain compare`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.fitting import require_fitting
from multigrain.cli.model_options import (
    MODELS_HELP,
    BatchSizeOption,
    CacheOption,
    ConfidenceOption,
    ForgettingOption,
    MaxDocumentsOption,
    MaxQueriesOption,
    SamplesOption,
    SeedOption,
    SetOption,
    SmallestOption,
    TrustOption,
    opened,
)
from multigrain.cli.options import JsonOption
from multigrain.evaluation.verdict import SMALLEST_DIFFERENCE

if TYPE_CHECKING:
    from multigrain.evaluation.compare import Conclusion
    from multigrain.evaluation.comparison import Comparison

__all__ = ["compare", "register"]

# Options about scoring, of which a run that has been evaluated needs none.
_OF_MODELS = ("max_queries", "max_documents", "batch_size", "cache", "trust_remote_code")


def compare(
    context: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN | BASE OTHER...",
            help="A run directory that has been evaluated, or a folder that `evaluate --out` wrote; or models: "
            + MODELS_HELP,
        ),
    ],
    sets: SetOption = None,
    forgetting: ForgettingOption = None,
    base: Annotated[str, typer.Option(help="RUN only: the model that others are compared with.")] = "base",
    max_queries: MaxQueriesOption = None,
    max_documents: MaxDocumentsOption = None,
    show: Annotated[int, typer.Option(min=0, help="Wins and losses to show for each set.")] = 3,
    smallest: SmallestOption = SMALLEST_DIFFERENCE,
    confidence: ConfidenceOption = 0.95,
    samples: SamplesOption = 10_000,
    seed: SeedOption = 13,
    batch_size: BatchSizeOption = 64,
    cache: CacheOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write comparison.json and per_query.parquet here.")
    ] = None,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare models on the same queries: intervals, a test for each set, and where one wins and the other loses.

    P-values come from a paired randomisation test and are corrected (Holm) for everything compared in one command.
    Where the queries are too few to decide, that is what is said.
    """
    from multigrain.evaluation.compare import CompareSettings
    from multigrain.evaluation.comparison import compare_models, compare_stored, summarise, write_comparison

    settings = CompareSettings(samples=samples, confidence=confidence, smallest=smallest, seed=seed)
    if len(targets) == 1:
        if sets or forgetting:
            raise typer.BadParameter("sets are for comparing models: give at least two, the base first")
        require_fitting(
            context,
            _OF_MODELS,
            f"is for comparing models: give at least two, the base first; {targets[0]} has been evaluated",
        )
        found = compare_stored(Path(targets[0]), base=base, settings=settings)
    else:
        require_fitting(context, {"base"}, f"is for a run: of models the first, {targets[0]}, is the base")
        quieten_libraries()
        from multigrain.encoders.models import Encoding, parse_model

        found = compare_models(
            [parse_model(each) for each in targets],
            opened(sets, forgetting, max_queries=max_queries, max_documents=max_documents, seed=seed),
            encoding=Encoding(batch_size=batch_size, cache=cache, trust_remote_code=trust_remote_code),
            settings=settings,
            progress=terminal_progress(),
        )
    if out is not None:
        write_comparison(out, found)
    if as_json:
        print_json(summarise(found))
    else:
        for line in _lines(found, show):
            typer.echo(line)


def register(app: typer.Typer) -> None:
    """Add the subcommand to the command line."""
    app.command()(compare)


def _lines(comparison: Comparison, show: int) -> Iterator[str]:
    from multigrain.evaluation.comparison import sentences

    if not comparison.conclusions and not comparison.tasks:
        yield str(comparison)
    for number, sentence in enumerate(sentences(comparison)):
        yield sentence
        if number < len(comparison.conclusions):
            yield from _changes(comparison, comparison.conclusions[number], show)


def _changes(comparison: Comparison, conclusion: Conclusion, show: int) -> Iterator[str]:
    from multigrain.evaluation.compare import biggest_changes
    from multigrain.evaluation.messages import describe_change

    measured = conclusion.measured
    if measured.wins is None or show == 0:
        return
    texts = comparison.texts.get(measured.set, {})
    wins, losses = biggest_changes(
        comparison.rows, set_name=measured.set, base=measured.base, model=measured.model, limit=show
    )
    for title, changes in (("wins", wins), ("losses", losses)):
        for number, change in enumerate(changes):
            first, *rest = describe_change(change, texts.get)
            yield f"  {title if number == 0 else '':7}{first}"
            yield from (f"         {line}" for line in rest)
