"""Write the chosen model's card: what it is, how it was made, what was measured, and how sure the method is."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from multigrain.audit.checks import reason_words
from multigrain.display import numbers as figures
from multigrain.display.text import one_line, unbroken, visible
from multigrain.evaluation.metrics import metric_title
from multigrain.evaluation.results import ModelScores
from multigrain.evaluation.verdict import Conclusion, conclusion_on, conclusions_of
from multigrain.report import headline
from multigrain.report.card_data import CardData, load_card_data
from multigrain.storage.files import atomic_write
from multigrain.storage.packages import plain_encoder_name
from multigrain.storage.rundir import RunDirectory

_TAGS = ("sentence-transformers", "sentence-similarity", "feature-extraction", "multigrain")


def write_card(run: RunDirectory) -> Path:
    """Write README.md into the folder of a run's chosen model.

    Returns:
        The card's path.

    Raises:
        StageOrderError: the run has not been evaluated yet.
        RunDirectoryError: an artifact is missing or cannot be understood.
    """
    path = run.model_path / "README.md"
    atomic_write(path, render_card(load_card_data(run)))
    return path


def render_card(data: CardData) -> str:
    """The card as Markdown, with the hub's YAML on top; equal data gives an equal card."""
    body = (
        _environment()
        .get_template("card.md.jinja")
        .render(
            data=data,
            report=data.report,
            evaluation=data.report.evaluation,
            chosen=data.report.evaluation.chosen,
            log=data.training,
            settings=data.settings,
            statement=headline.headline(data.report.evaluation, data.report.changes),
            scores=list(_scores(data)),
        )
    )
    return f"---\n{_front_matter(data)}---\n\n{body.rstrip()}\n"


def _front_matter(data: CardData) -> str:
    values: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": [*_TAGS, *(["anchor-token-aware-pooling"] if data.folder.needs_multigrain else [])],
    }
    if data.base.hub_id is not None:
        values["base_model"] = data.base.hub_id
    if data.base.license is not None:
        values["license"] = data.base.license
    # Validation chose the model, so its figures are no results.
    results = [_indexed(row) for row in _scores(data) if row["tuned"] is not None and row["role"] != "validation"]
    if results:
        values["model-index"] = [{"name": _flat(data.report.title), "results": results}]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1_000_000)


def _indexed(row: dict[str, Any]) -> dict[str, Any]:
    """A set's figure in the form of the hub's index of results."""
    return {
        "task": {"type": "information-retrieval", "name": "Information Retrieval"},
        "dataset": {"name": _flat(row["name"]), "type": "unknown"},
        "metrics": [
            {"type": row["metric"].lower().replace("@", "_at_"), "value": row["tuned"], "name": row["metric"]}
        ],
    }


def _scores(data: CardData) -> list[dict[str, Any]]:
    """The rows of the table of results: each set with the base's figure, the model's, and the difference."""
    evaluation = data.report.evaluation
    return [
        {
            "name": result.name,
            "role": result.role,
            "label": result.provenance,
            "queries": result.queries,
            "metric": result.metric,
            "base": _rounded(result.models.get(evaluation.base)),
            "tuned": _rounded(result.models.get(evaluation.chosen)),
            "delta": result.delta.get(evaluation.chosen),
            "verdict": conclusion.verdict.value if (conclusion := _conclusion(data, result.name)) else "–",
            "further": {
                metric_title(name): [
                    result.models[model].metrics.get(name)
                    for model in (evaluation.base, evaluation.chosen)
                    if model in result.models
                ]
                for name in result.metric_names
            },
        }
        for result in evaluation.sets
    ]


def _conclusion(data: CardData, set_name: str) -> Conclusion | None:
    evaluation = data.report.evaluation
    return conclusion_on(conclusions_of(evaluation), set_name, evaluation.chosen)


def _rounded(scores: ModelScores | None) -> float | None:
    return None if scores is None else round(scores.score, 4)


@cache
def _environment() -> Environment:
    # Markdown, not HTML: texts from configs and models go through `plain`, which leaves nothing to be interpreted.
    environment = Environment(
        loader=PackageLoader("multigrain.report"),
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        score=figures.score,
        interval=figures.interval,
        count=figures.count,
        percent=figures.percent,
        duration=lambda seconds: unbroken(figures.duration(seconds)),
        reason_words=reason_words,
        encoder_words=plain_encoder_name,
        plain=_plain,
        fenced=_fenced,
    )
    return environment


def _plain(value: object) -> str:
    """A text on one line of Markdown, its marks escaped."""
    escaped = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", _flat(value))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _flat(value: object) -> str:
    """A text on one line, so that no line of it can close the YAML above the card or begin a block."""
    return one_line(visible(str(value)))


def _fenced(text: str, language: str = "") -> str:
    """A block of code whose fence no line of the text can close."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
