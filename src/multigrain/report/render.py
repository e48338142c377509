"""Draw `ReportData` as one self-contained page.

Three walls stand between the page and hostile text in queries, documents or model names: jinja2 escapes every value,
scripts put text into the page only as text, and the page's content security policy lets nothing run but the
scripts whose hashes it names, and nothing load at all.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from multigrain.audit.checks import reason_words
from multigrain.display import numbers
from multigrain.display.text import unbroken, visible
from multigrain.evaluation.choice import over
from multigrain.evaluation.metrics import metric_title
from multigrain.evaluation.query_kinds import conclude_all_slices, slice_sentence
from multigrain.evaluation.results import EvaluationResults
from multigrain.evaluation.sets.retrieval_set import HUMAN_TITLES
from multigrain.evaluation.significance import ENOUGH_CLUSTERS
from multigrain.evaluation.vector_sizes import CANDIDATES, million
from multigrain.evaluation.verdict import (
    Conclusion,
    conclusion_on,
    conclusions_of,
    judge_forgetting,
    points_allowed,
)
from multigrain.report import charts, explorer, figures, headline, messages
from multigrain.report.assets import digest, static_text
from multigrain.report.data import ReportData
from multigrain.report.load import load_report_data
from multigrain.report.pipelines import shown_pipelines
from multigrain.report.sharing import without_texts
from multigrain.report.summary import summarise_sets
from multigrain.storage.files import atomic_write
from multigrain.storage.packages import plain_encoder_name
from multigrain.storage.rundir import RunDirectory

_SCRIPTS = ("page.js", "explorer.js")


def render_report(data: ReportData) -> str:
    """The report as one HTML page: no network, no other files; equal data gives an equal page."""
    style = Markup(static_text("report.css"))  # noqa: S704 -- our own file
    # Modules have a scope each; together in one element they would share one.
    scripts = [Markup(static_text(name)) for name in _SCRIPTS]  # noqa: S704 -- our own files
    hashes = " ".join(f"'{digest(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; style-src '{digest(style)}'; script-src {hashes}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    rows = tuple(explorer.shown_rows(data.rows))  # at most MAX_ROWS; each is packed several times
    packed = explorer.pack_rows(rows)
    conclusions = conclusions_of(data.evaluation)
    return (
        environment()
        .get_template("page.html.jinja")
        .render(
            data=data,
            evaluation=data.evaluation,
            tested=data.evaluation.headline_set,
            statement=headline.headline(data.evaluation, data.changes, conclusions),
            conclusion_on=partial(conclusion_on, conclusions),
            compared=len(conclusions),
            rival_over=partial(_rival_over, data.evaluation),
            pipelines=shown_pipelines(data.evaluation),
            summary=summarise_sets(data.evaluation, conclusions),
            figures=figures.draw_figures(data, conclusions, environment()),
            file_name=re.sub(r"[^\w-]+", "-", data.title).strip("-")[:40] or "run",
            slices=conclude_all_slices(data.evaluation),
            several_sets=len({each.result.name for each in data.evaluation.slices}) > 1,
            forgetting=judge_forgetting(data.evaluation),
            style=style,
            scripts=scripts,
            explorer_rows=rows,
            packed_rows=packed,
            rows_key=hashlib.sha256(packed.encode()).hexdigest()[:16],
            policy=policy,
        )
    )


def _rival_over(results: EvaluationResults, model: str, set_name: str, rival: str) -> Conclusion | None:
    """A rival against a model of the run on one set."""
    return conclusion_on(over(results, model), set_name, rival)


def new_environment(*, autoescape: bool, **options: Any) -> Environment:
    """The package's templates with the filters that the page and the model card share.

    Args:
        autoescape: whether every value is escaped for HTML.
        options: of jinja2.
    """
    environment = Environment(
        loader=PackageLoader("multigrain.report"),
        autoescape=autoescape,  # noqa: S701 -- off for Markdown alone
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
    environment.filters.update(
        score=numbers.score,
        interval=numbers.interval,
        count=numbers.count,
        percent=numbers.percent,
        amount=numbers.amount,
        size=numbers.size,
        duration=lambda seconds: unbroken(numbers.duration(seconds)),
        reason_words=reason_words,
        encoder_words=plain_encoder_name,
        million=million,
    )
    return environment


@cache
def environment() -> Environment:
    """The page's templates, with every value escaped."""
    environment = new_environment(autoescape=True, finalize=_visible)
    environment.filters.update(
        mark=numbers.mark,
        points=numbers.points,
        dollars=numbers.dollars,
        clock=numbers.clock,
        action_words=messages.action_words,
        model_words=messages.model_words,
        model_size=messages.model_size,
    )
    environment.globals.update(
        Axis=charts.Axis,
        area=charts.area,
        curve_axis=charts.curve_axis,
        curve_chart=charts.curve_chart,
        difference_axis=charts.difference_axis,
        heat=charts.heat,
        loss_axis=charts.loss_axis,
        loss_axis_of=charts.loss_axis_of,
        loss_chart=charts.loss_chart,
        stagger=charts.stagger,
        HUMAN_TITLES=HUMAN_TITLES,
        metric_title=metric_title,
        fewest_in_a_kind=ENOUGH_CLUSTERS,
        slice_sentence=slice_sentence,
        needed_queries=headline.needed_queries,
        points_allowed=points_allowed,
        rescored_candidates=CANDIDATES,
        tone_of=headline.tone_of,
        is_small_and_local=messages.is_small_and_local,
        chart_width=charts.WIDTH,
    )
    return environment


def _visible(value: Any) -> Any:
    return visible(value) if type(value) is str else value


def write_report(run: RunDirectory) -> Path:
    """Draw the page from the run's artifacts and put it in the run directory, whole or not at all.

    Returns:
        The page's path.

    Raises:
        StageOrderError: the run has not been evaluated yet.
        RunDirectoryError: an artifact is there but cannot be understood.
    """
    atomic_write(run.report_path, render_report(load_report_data(run)))
    return run.report_path


def write_shared_report(run: RunDirectory) -> Path:
    """Write a copy of the page without texts of the run and without file paths, to be passed on.

    Returns:
        The copy's path.

    Raises:
        StageOrderError: the run has not been evaluated yet.
        RunDirectoryError: an artifact is there but cannot be understood.
    """
    atomic_write(run.shared_report_path, render_report(without_texts(load_report_data(run))))
    return run.shared_report_path
