"""`multigrain compare`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.model_options import (
    MODELS_HELP,
    BatchSizeOption,
    CacheOption,
    ClusterByOption,
    ConfidenceOption,
    ForgettingOption,
    MaxDocumentsOption,
    MaxQueriesOption,
    SamplesOption,
    SeedOption,
    SetOption,
    SliceByOption,
    SmallestOption,
    TrustOption,
    opened,
)
from multigrain.cli.options import JsonOption, require_fitting, was_typed
from multigrain.evaluation.settings import SMALLEST_DIFFERENCE

if TYPE_CHECKING:
    from multigrain.evaluation.comparison import Comparison
    from multigrain.evaluation.verdict import Conclusion

# Options about scoring, of which a run that has been evaluated needs none.
_OF_MODELS = ("max_queries", "max_documents", "cluster_by", "slice_by", "batch_size", "cache", "trust_remote_code")


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
    cluster_by: ClusterByOption = None,
    slice_by: SliceByOption = None,
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

    A difference is claimed where its interval stays clear of zero and its p-value, of a paired randomisation test
    corrected (Holm) for everything compared at once, is small enough. Where the queries are too few to decide, that is
    what is said. For a run, --samples, --confidence and --seed are by default what it was evaluated with.
    """
    from multigrain.evaluation.comparison import compare_models, compare_stored, comparison_values, write_comparison
    from multigrain.evaluation.settings import CompareSettings

    settings = CompareSettings(samples=samples, confidence=confidence, smallest=smallest, seed=seed)
    if len(targets) == 1:
        if sets or forgetting:
            raise typer.BadParameter("sets are for comparing models: give at least two, the base first")
        require_fitting(
            context,
            _OF_MODELS,
            f"is for comparing models: give at least two, the base first; {targets[0]} has been evaluated",
        )
        changed = {name: value for name, value in asdict(settings).items() if was_typed(context, name)}
        comparison = compare_stored(Path(targets[0]), base=base, **changed)
    else:
        require_fitting(context, {"base"}, f"is for a run: of models the first, {targets[0]}, is the base")
        quieten_libraries()
        from multigrain.encoders.models import Encoding, parse_model

        comparison = compare_models(
            list(map(parse_model, targets)),
            opened(
                sets,
                forgetting,
                max_queries=max_queries,
                max_documents=max_documents,
                seed=seed,
                cluster_by=cluster_by,
                slice_by=slice_by,
            ),
            encoding=Encoding(batch_size=batch_size, cache=cache, trust_remote_code=trust_remote_code),
            settings=settings,
            progress=terminal_progress(),
        )
    if out is not None:
        write_comparison(out, comparison)
    if as_json:
        print_json(comparison_values(comparison))
    else:
        for line in _lines(comparison, show, kinds=bool(slice_by)):
            typer.echo(line)


def _lines(comparison: Comparison, show: int, *, kinds: bool = False) -> Iterator[str]:
    from multigrain.evaluation.comparison import fact_lines, sentences
    from multigrain.evaluation.query_kinds import slice_lines

    if not comparison.conclusions and not comparison.tasks:
        yield str(comparison)
    for number, sentence in enumerate(sentences(comparison)):
        yield sentence
        if number < len(comparison.conclusions):
            yield from _changes(comparison, comparison.conclusions[number], show)
    yield from fact_lines(comparison.results)
    if kinds:
        yield from slice_lines(comparison.results)


def _changes(comparison: Comparison, conclusion: Conclusion, show: int) -> Iterator[str]:
    from multigrain.evaluation.query_changes import describe_change

    changes = comparison.changes(conclusion, show) if show else None
    if changes is None:
        return
    texts = comparison.texts.get(conclusion.result.name, {})
    for title, listed in (("wins", changes.wins), ("losses", changes.losses)):
        for number, change in enumerate(listed):
            first, *rest = describe_change(change, texts.get)
            yield f"  {title if number == 0 else '':7}{first}"
            yield from (f"         {line}" for line in rest)
