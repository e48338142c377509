"""Options of the commands that score any models on any sets: `evaluate` and `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multigrain.config.poolings import POOLING_NAMES
from multigrain.evaluation.settings import PRECISIONS, SizeSettings

if TYPE_CHECKING:
    from multigrain.evaluation.sets.loading import OpenedSets
    from multigrain.evaluation.sets.retrieval_set import EvaluationSet
    from multigrain.export.job import FinishedRun

MODELS_HELP = (
    "a folder, a hub id, package:NAME, bm25, or openai:NAME[@URL] for one that an OpenAI-compatible endpoint serves; "
    "NAME=MODEL names one, MODEL@POOLING changes its pooling. The first is what the others are compared with."
)

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SET",
        help="[NAME=]PATH to score models on: a BEIR folder, a file of sentence pairs (.tsv, .csv, .jsonl, .parquet "
        "with sentence1, sentence2, score), three files QUERIES,DOCUMENTS,QRELS, package:NAME/FILE, or mteb:NAME "
        "(a task or a benchmark). Repeat for more.",
    ),
]
ForgettingOption = Annotated[
    list[str] | None,
    typer.Option(metavar="SET", help="Like --set, for sets unrelated to your domain: they must not get worse."),
]
MaxQueriesOption = Annotated[int | None, typer.Option(min=2, help="Take a seeded sample of queries or pairs.")]
MaxDocumentsOption = Annotated[int | None, typer.Option(min=1, help="Take a seeded sample of documents.")]
PoolingOption = Annotated[
    list[str] | None,
    typer.Option(metavar="POOLING", help=f"Score each model with this pooling: {POOLING_NAMES}. Repeat for more."),
]
QueryPromptOption = Annotated[
    list[str] | None,
    typer.Option(metavar="[MODEL=]TEXT", help="Put this before every query, for all models or one."),
]
DocumentPromptOption = Annotated[
    list[str] | None,
    typer.Option(metavar="[MODEL=]TEXT", help="Put this before every document, for all models or one."),
]
ClusterByOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of the queries' files whose equal values make a cluster, e.g. who asked. By default queries that "
        "one document answers do.",
    ),
]
SliceByOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN", help="Column of the queries' files: figures for each of its values. Repeat for more."
    ),
]
SmallestOption = Annotated[
    float, typer.Option(min=0.0001, max=1, help="The smallest difference that matters, on a scale of 0 to 1.")
]
ConfidenceOption = Annotated[float, typer.Option(min=0.5, max=0.9999, help="Width of the intervals.")]
SamplesOption = Annotated[
    int, typer.Option(min=100, help="Random signs behind p-values, resamples behind intervals of correlations.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of samples and resamples.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Texts encoded at once.")]
CacheOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Keep embeddings here and reuse them in later commands.")
]
TrustOption = Annotated[bool, typer.Option(help="Run code that comes with models.")]


def parse_sizes(vectors: str | None, quantize: str | None) -> SizeSettings | None:
    """Which smaller vectors the options name; None where they name none.

    Args:
        vectors: lengths, e.g. "384,128,64".
        quantize: precisions, e.g. "int8,binary".

    Raises:
        typer.BadParameter: something else.
    """
    if vectors is None and quantize is None:
        return None
    lengths = [part.strip() for part in (vectors or "").split(",") if part.strip()]
    wrong = next((part for part in lengths if not part.isdecimal() or int(part) < 1), None)
    if wrong is not None:
        raise typer.BadParameter(f"--vectors: {wrong!r} is no length; give numbers of dimensions, e.g. 384,128,64")
    named = [part.strip() for part in (quantize or "").split(",") if part.strip()]
    other = next((part for part in named if part not in PRECISIONS), None)
    if other is not None:
        raise typer.BadParameter(f"--quantize: {other!r} is no precision; there are {', '.join(PRECISIONS)}")
    precisions = tuple(precision for precision in PRECISIONS if precision in named and precision != "float32")
    return SizeSettings(tuple(map(int, lengths)), precisions)


def parse_reranker(text: str) -> tuple[str, str]:
    """The reference and the name of a reranker, `[NAME=]MODEL`."""
    name, named, reference = text.partition("=")
    return (reference, name) if named else (text, text.rstrip("/"))


def parse_depths(text: str) -> list[int]:
    """Depths, e.g. "10,30,100".

    Raises:
        typer.BadParameter: something else.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    wrong = next((part for part in parts or [text] if not part.isdecimal() or int(part) < 1), None)
    if wrong is not None:
        raise typer.BadParameter(f"--depths: {wrong!r} is no depth; give numbers of documents, e.g. 10,30,100")
    return [int(part) for part in parts]


def opened(
    sets: Sequence[str] | None,
    forgetting: Sequence[str] | None,
    *,
    max_queries: int | None,
    max_documents: int | None,
    seed: int,
    cluster_by: str | None = None,
    slice_by: Sequence[str] | None = None,
) -> OpenedSets:
    """Open the sets that the options name.

    Raises:
        typer.BadParameter: they name none.
        EvaluationError: a set cannot be read or scored.
    """
    from multigrain.evaluation.sets.loading import open_sets, parse_set

    parse = partial(
        parse_set,
        max_queries=max_queries,
        max_documents=max_documents,
        cluster_by=cluster_by,
        slice_by=slice_by or (),
    )
    configs = [parse(option, "test") for option in sets or ()]
    configs += [parse(option, "forgetting") for option in forgetting or ()]
    if not configs:
        raise typer.BadParameter("nothing to score models on: name sets with --set")
    return open_sets(configs, seed=seed)


def retrieval_sets(
    run: FinishedRun | None, named: list[str], max_queries: int | None, max_documents: int | None, seed: int
) -> tuple[EvaluationSet, ...]:
    """The retrieval sets that options name; without any, those of a run.

    Raises:
        typer.BadParameter: one is no retrieval set.
        EvaluationError: a set cannot be read or scored.
    """
    from multigrain.evaluation.sets.loading import open_sets, parse_set
    from multigrain.evaluation.sets.retrieval_set import sample

    if not named:
        limits = {"max_queries": max_queries, "max_documents": max_documents}
        return tuple(sample(heldout, **limits, seed=seed) for heldout in run.sets) if run else ()
    opened = open_sets([parse_set(option, "test", max_queries, max_documents) for option in named], seed=seed)
    if opened.similarity or opened.tasks:
        raise typer.BadParameter("a loss is measured on retrieval sets: BEIR folders or package:NAME/FILE")
    return opened.retrieval
