"""`multigrain evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.model_options import (
    MODELS_HELP,
    BatchSizeOption,
    CacheOption,
    ClusterByOption,
    ConfidenceOption,
    DocumentPromptOption,
    ForgettingOption,
    MaxDocumentsOption,
    MaxQueriesOption,
    PoolingOption,
    QueryPromptOption,
    SamplesOption,
    SeedOption,
    SetOption,
    SliceByOption,
    SmallestOption,
    TrustOption,
    opened,
    parse_depths,
    parse_reranker,
    parse_sizes,
)
from multigrain.cli.options import JsonOption, RedoOption, RunOption, require_fitting
from multigrain.cli.stages import run_command
from multigrain.config.poolings import check_pooling
from multigrain.errors import EvaluationError, RunDirectoryError
from multigrain.evaluation.settings import SMALLEST_DIFFERENCE
from multigrain.storage.files import atomic_write
from multigrain.storage.rundir import RunDirectory

_OF_RUNS = ("run", "redo")  # options that are heeded without --set, and only then


def evaluate(
    context: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG | RUN | MODEL...",
            help=f"A run's config or directory; or, with --set, any number of models: {MODELS_HELP}",
        ),
    ],
    run: RunOption = None,
    redo: RedoOption = False,
    sets: SetOption = None,
    forgetting: ForgettingOption = None,
    pooling: PoolingOption = None,
    query_prompt: QueryPromptOption = None,
    document_prompt: DocumentPromptOption = None,
    max_queries: MaxQueriesOption = None,
    max_documents: MaxDocumentsOption = None,
    cluster_by: ClusterByOption = None,
    slice_by: SliceByOption = None,
    vectors: Annotated[
        str | None,
        typer.Option(
            metavar="LENGTH,...",
            help="Score vectors that are cut to these lengths as well, e.g. 384,128,64, and say which would do.",
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            metavar="PRECISION,...",
            help="Score vectors stored as these as well: float16, int8, binary (the last two also rescored).",
        ),
    ] = None,
    rerank: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Sort what each model finds again by this reranker: a folder or a hub id of a cross-encoder; "
            "NAME=MODEL names it. With bm25 among the models, hybrid too. Repeat for more.",
        ),
    ] = None,
    depths: Annotated[
        str, typer.Option(metavar="NUMBER,...", help="With --rerank: how many documents of each query it sorts again.")
    ] = "10,30,100",
    forgetting_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="What a model may lose on a forgetting set, on a scale of 0 to 1.")
    ] = 0.01,
    smallest: SmallestOption = SMALLEST_DIFFERENCE,
    confidence: ConfidenceOption = 0.95,
    samples: SamplesOption = 10_000,
    seed: SeedOption = 13,
    batch_size: BatchSizeOption = 64,
    cache: CacheOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep per-query results, the table and embeddings here; the same command continues from there.",
        ),
    ] = None,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a run, or any models on any sets, side by side with confidence intervals.

    For a run: base model and candidates on held-out queries. Validation queries choose the model; test queries give
    the figures. With --set: every model on every set, in one table.
    """
    if not sets and not forgetting:
        require_fitting(
            context,
            set(context.params) - {"targets", "as_json", *_OF_RUNS},
            "is for models on sets that --set names; a run has its settings in the evaluation section of its config",
        )
        _evaluate_run(targets, run, as_json=as_json, redo=redo)
        return
    require_fitting(context, _OF_RUNS, "is for a run; models on sets that --set names have no use for it")
    if not rerank:
        require_fitting(context, ("depths",), "is for --rerank, which names what sorts documents again")
    quieten_libraries()
    from multigrain.encoders.models import Encoding, parse_model, with_poolings, with_prompts
    from multigrain.evaluation.comparison import compare_models, comparison_values, table_lines, write_comparison
    from multigrain.evaluation.settings import CompareSettings
    from multigrain.teachers.build import open_rerankers

    models = with_poolings(list(map(parse_model, targets)), [check_pooling(name) for name in pooling or []])
    models = with_prompts(models, queries=query_prompt or [], documents=document_prompt or [])
    named, kept = [parse_reranker(text) for text in rerank or ()], None if out is None else out / "scores"
    with open_rerankers(named, trust_remote_code=trust_remote_code, scores=kept) as rerankers:
        comparison = compare_models(
            models,
            opened(
                sets,
                forgetting,
                max_queries=max_queries,
                max_documents=max_documents,
                seed=seed,
                cluster_by=cluster_by,
                slice_by=slice_by,
            ),
            encoding=Encoding(
                batch_size=batch_size,
                cache=cache or (out / "embeddings" if out is not None else None),
                trust_remote_code=trust_remote_code,
                scores=kept,
            ),
            settings=CompareSettings(samples=samples, confidence=confidence, smallest=smallest, seed=seed),
            forgetting_threshold=forgetting_threshold,
            progress=terminal_progress(),
            vector_sizes=parse_sizes(vectors, quantize),
            rerankers=rerankers,
            depths=parse_depths(depths),
        )
    lines = list(table_lines(comparison))
    if out is not None:
        write_comparison(out, comparison)
        atomic_write(out / "evaluation.md", "\n".join(lines) + "\n")
    if as_json:
        print_json(comparison_values(comparison))
    else:
        for line in lines:
            typer.echo(line)


def _evaluate_run(targets: list[str], directory: Path | None, *, as_json: bool, redo: bool) -> None:
    if len(targets) > 1:
        raise typer.BadParameter("nothing to score these models on: name sets with --set")
    target = Path(targets[0])
    if target.is_dir():
        config = RunDirectory(target).config_path
        if not config.is_file():
            raise EvaluationError(
                f"{target}: no run directory (it holds no {config.name}); to evaluate a model, name sets with --set"
            )
        run_command(config, directory or target, "evaluate", as_json=as_json, redo=redo)
    elif target.exists() or target.suffix.lower() in (".yaml", ".yml"):
        run_command(target, directory, "evaluate", as_json=as_json, redo=redo)
    else:
        raise RunDirectoryError(_no_run(target))


def _no_run(target: Path) -> str:
    from multigrain.stages.status import runs_in

    runs = runs_in(Path("runs"))
    there = f"there are {', '.join(map(str, runs))}" if runs else "and none is in runs/ here"
    example = runs[0] if runs else "runs/NAME"
    return (
        f"{target}: no run is there; {there}: `multigrain evaluate {example}` evaluates a run, "
        f"`multigrain evaluate {target} --set PATH` a model"
    )
