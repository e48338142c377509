"""A reranker's card: what it is, how it was made, what sorting again by it was measured to gain, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from multigrain.config import Config
from multigrain.config.bases import LoraConfig
from multigrain.config.candidates import candidate_named
from multigrain.errors import RunDirectoryError
from multigrain.evaluation.deployment import conclude_pipelines, deployment
from multigrain.evaluation.reranked import Deployment, Pipeline, RerankTable
from multigrain.evaluation.verdict import Conclusion, conclusion_on
from multigrain.report.card_parts import (
    TAG,
    CardParts,
    base_model_of,
    environment,
    flat,
    front_matter,
    indexed_set,
    load_parts,
    read_json,
    write_page,
)
from multigrain.report.data import ReportData
from multigrain.storage.rundir import RunDirectory

# As sentence-transformers' own cards of rerankers have them.
_TAGS: Final = ("sentence-transformers", "cross-encoder", "reranker", TAG)
_PIPELINE: Final = "text-ranking"
_TASK: Final = {"type": "cross-encoder-reranking", "name": "Cross Encoder Reranking"}


@dataclass(frozen=True, slots=True)
class MeasuredPipeline:
    """What sorting again was measured to gain.

    Attributes:
        pipeline: a first stage under the reranker, at one depth.
        alone: the same first stage without it.
        conclusion: against the table's reference alone.
    """

    pipeline: Pipeline
    alone: Pipeline
    conclusion: Conclusion | None


@dataclass(frozen=True, slots=True)
class MeasuredSet:
    """One set's figures.

    Attributes:
        table: as it was measured.
        rows: the reranker's pipelines, in its order.
        deploy: what to deploy of all that was measured on the set.
    """

    table: RerankTable
    rows: tuple[MeasuredPipeline, ...]
    deploy: Deployment


@dataclass(frozen=True, slots=True)
class RerankerCardData(CardParts):
    """Everything on the card.

    Attributes:
        name: the candidate's.
        tuned_from: the embedder of the run that it was tuned from; empty where it was the base itself.
        architecture: class of its transformer.
        lora: the adapters that it was tuned by; None for all weights.
        max_tokens: of a pair that are read; None where its folder does not say.
        sets: what was measured; empty where nothing was.
    """

    name: str
    tuned_from: str
    architecture: str
    lora: LoraConfig | None
    max_tokens: int | None
    sets: tuple[MeasuredSet, ...]


def load_reranker_card(run: RunDirectory, config: Config, name: str, report: ReportData) -> RerankerCardData:
    """Read what the card of a run's reranker says.

    Args:
        run: evaluated.
        config: its own.
        name: the candidate's.
        report: what the run's report shows.

    Raises:
        RunDirectoryError: its folder is gone, or cannot be understood.
    """
    folder = run.candidate_path(name)
    if not (folder / "config.json").is_file():
        raise RunDirectoryError(f"{folder}: no model in it; `multigrain run` of the run's config trains it")
    parts, settings = load_parts(run, report, name), config.training.resolve(name)
    named = candidate_named(settings.base_model)
    base = settings.base_model if named is None else config.training.base_model
    architectures = read_json(folder / "config.json").get("architectures") or ["unknown"]
    longest = read_json(folder / "tokenizer_config.json", {}).get("model_max_length")
    return RerankerCardData(
        **{each.name: getattr(replace(parts, base=base_model_of(base)), each.name) for each in fields(parts)},
        name=name,
        tuned_from=named or "",
        architecture=str(architectures[0]),
        lora=settings.lora,
        max_tokens=longest if isinstance(longest, int) and longest < 10**9 else None,
        sets=tuple(_measured(report, name)),
    )


def _measured(report: ReportData, name: str) -> list[MeasuredSet]:
    evaluation, sets = report.evaluation, []
    for table in evaluation.reranking:
        concluded = conclude_pipelines(table, confidence=evaluation.confidence)
        alone = {each.first_stage: each for each in table.pipelines if not each.reranker}
        rows = tuple(
            MeasuredPipeline(each, alone[each.first_stage], conclusion_on(concluded, table.set, each.name))
            for each in table.pipelines
            if each.reranker == name
        )
        if rows:
            sets.append(MeasuredSet(table, rows, deployment(table, confidence=evaluation.confidence)))
    return sets


def write_reranker_card(run: RunDirectory, config: Config, name: str, report: ReportData) -> Path:
    """Write README.md into the folder of a run's reranker.

    Args:
        run: evaluated.
        config: its own.
        name: the candidate's.
        report: what its report shows.

    Returns:
        The card's path.

    Raises:
        RunDirectoryError: an artifact is missing or cannot be understood.
    """
    data = load_reranker_card(run, config, name, report)
    results = [_indexed(each) for each in data.sets]
    front = front_matter(data, pipeline_tag=_PIPELINE, tags=_TAGS, results=results)
    return write_page(run.candidate_path(name) / "README.md", front, render_reranker_card(data))


def render_reranker_card(data: RerankerCardData) -> str:
    """The card as Markdown, below the hub's YAML."""
    return (
        environment()
        .get_template("reranker_card.md.jinja")
        .render(
            data=data,
            report=data.report,
            evaluation=data.report.evaluation,
            log=data.training,
        )
    )


def _indexed(measured: MeasuredSet) -> dict[str, Any]:
    """A set's figures in the form of the hub's index: the reference's documents, sorted again."""
    reference = measured.table.reference
    return {
        "task": _TASK,
        "dataset": indexed_set(measured.table.set),
        "metrics": [
            {
                "type": "ndcg_at_10",
                "value": round(row.pipeline.score, 4),
                "name": flat(f"nDCG@10, the first {row.pipeline.sorted_again} of {reference}"),
            }
            for row in measured.rows
            if row.pipeline.first_stage == reference
        ],
    }
