"""The page's figures as files: an SVG that needs nothing else, and the figures behind it as CSV.

Both travel inside the page as data addresses of plain links, so that they can be saved from a file without a network,
without scripts and by the keyboard. Scores and differences in a CSV are on a scale of 0 to 1, so +0.033 is 3.3 points.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from jinja2 import Environment

from multigrain.audit.checks import reason_words
from multigrain.display import numbers as show
from multigrain.display.text import one_line
from multigrain.evaluation.choice import over
from multigrain.evaluation.query_kinds import conclude_all_slices
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.verdict import Conclusion, conclusion_on
from multigrain.report import charts, headline
from multigrain.report.assets import static_text
from multigrain.report.data import ReportData
from multigrain.report.pipelines import shown_pipelines

_WIDTH: Final = 760
_LEFT, _ROOM = 230, 300  # pixels before the drawing, and of it
_LABEL: Final = 28  # characters that fit before the drawing
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute
_ROWS: Final = 60  # lines that a drawing holds; the CSV has them all

Cell = str | float | int | None


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the page.

    Attributes:
        key: the id of its section, and the name of its files.
        title: what it shows.
        svg: the drawing; empty where there is only data.
        csv: the data, with a line of column names.
    """

    key: str
    title: str
    svg: str
    csv: str

    @property
    def svg_address(self) -> str:
        """The drawing as a data address."""
        return _address("image/svg+xml", self.svg)

    @property
    def csv_address(self) -> str:
        """The data as a data address."""
        return _address("text/csv;charset=utf-8", self.csv)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a drawing of differences: a heading, or a difference with its interval."""

    label: str
    difference: PairedDifference | None = None
    words: str = ""
    tone: str = "unclear"
    heading: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a bar: where it starts, how long it is, both as shares, and the name of its colour."""

    start: float
    share: float
    colour: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of a drawing of bars."""

    label: str
    parts: tuple[Part, ...]
    words: str


def draw_figures(data: ReportData, conclusions: Sequence[Conclusion], templates: Environment) -> dict[str, Figure]:
    """Every figure of a page by the id of its section.

    Args:
        data: what the page shows.
        conclusions: of its evaluation.
        templates: the page's.
    """
    pen = _Pen(templates)
    drawn = (
        _results(data, conclusions, pen),
        _rivals(data, pen),
        _pipelines(data, pen),
        _kinds(data, pen),
        _sizes(data, pen),
        _queries(data, pen),
        _rows(data, pen),
        _similarity(data, pen),
        _training(data, pen),
        _anchors(data),
        _stages(data, pen),
    )
    return {figure.key: figure for figure in drawn if figure is not None}


class _Pen:
    """Draws the templates of figures."""

    def __init__(self, templates: Environment) -> None:
        self._templates = templates

    def draw(self, kind: str, title: str, height: int, **values: Any) -> str:
        template = self._templates.get_template(f"figures/{kind}.svg.jinja")
        common = {"width": _WIDTH, "height": height, "left": _LEFT, "room": _ROOM, "colours": colours()}
        return template.render(title=title, **common, **values).strip() + "\n"

    def forest(self, title: str, lines: Sequence[Line], unit: str) -> str:
        differences = [line.difference for line in lines if line.difference is not None]
        return self.draw(
            "forest",
            title,
            50 + 24 * len(lines[:_ROWS]) + 40,
            lines=lines[:_ROWS],
            axis=charts.axis_of(differences),
            unit=unit,
        )

    def bars(self, title: str, bars: Sequence[Bar]) -> str:
        return self.draw("bars", title, 52 + 26 * len(bars[:_ROWS]), lines=bars[:_ROWS])


@cache
def colours() -> Mapping[str, str]:
    """The page's colours in its light scheme, by name."""
    light = static_text("report.css").split("}", 1)[0]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))


def _address(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: Cell) -> str | int:
    """A value for a spreadsheet; a text that it would take for a formula is marked as text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return value if isinstance(value, int) else f"{value:.6g}"


def _interval(difference: PairedDifference | None) -> tuple[Cell, Cell, Cell]:
    return (None, None, None) if difference is None else (difference.mean, difference.low, difference.high)


def _claim(conclusion: Conclusion | None) -> tuple[Cell, Cell]:
    return (None, None) if conclusion is None else (conclusion.adjusted_p, conclusion.verdict.value)


def _label(text: str) -> str:
    return one_line(text, _LABEL)


def _against(data: ReportData, model: str) -> str:
    return f"points against {one_line(model, 24)}, {data.evaluation.confidence:.0%} interval"


def _results(data: ReportData, conclusions: Sequence[Conclusion], pen: _Pen) -> Figure:
    evaluation = data.evaluation
    lines: list[Line] = []
    rows: list[Sequence[Cell]] = []
    for result in evaluation.shown:
        heading = f"{_label(result.name)} ({result.role}), {show.count(result.queries)} queries"
        lines.append(Line(heading, heading=True))
        for name in evaluation.models:
            if name not in result.models:
                continue
            scores, difference = result.models[name], result.delta.get(name)
            conclusion = conclusion_on(conclusions, result.name, name)
            words = show.score(scores.score) + (f", {show.interval(difference)}" if difference else "")
            lines.append(Line(_label(name), difference, words, headline.tone_of(conclusion)))
            about = (result.name, result.role, result.provenance, result.queries, result.metric)
            recall = scores.metrics.get("recall_at_10")
            rows.append((*about, name, scores.score, recall, *_interval(difference), *_claim(conclusion)))
    columns = (
        "set", "role", "judged by", "queries", "metric", "model", "score", "recall_at_10", "difference", "low", "high",
        "adjusted_p", "verdict",
    )  # fmt: skip
    title = "What tuning gained"
    return Figure("result", title, pen.forest(title, lines, _against(data, evaluation.base)), _csv(columns, rows))


def _rivals(data: ReportData, pen: _Pen) -> Figure | None:
    evaluation = data.evaluation
    if not evaluation.rivals:
        return None
    own = list(dict.fromkeys((evaluation.base, evaluation.chosen)))
    lines: list[Line] = []
    rows: list[Sequence[Cell]] = []
    for result in evaluation.with_role("test"):
        for name in own:
            there = [each for each in evaluation.rivals if name in _over(each.sets, result.name)]
            if there:
                lines.append(Line(f"{_label(result.name)}: against {_label(name)}", heading=True))
            for rival in there:
                scores = rival.sets[result.name]
                conclusion = conclusion_on(over(evaluation, name), result.name, rival.name)
                words = f"{show.score(scores.score)}, {show.interval(scores.over[name])}"
                lines.append(Line(_label(rival.name), scores.over[name], words, headline.tone_of(conclusion)))
                about = (result.name, rival.name, result.metric, scores.score, name)
                compared = (*_interval(scores.over[name]), *_claim(conclusion))
                rows.append((*about, *compared, *_costs(data, rival.name)))
    for name in own:
        for result in evaluation.with_role("test"):
            if name in result.models:
                score = result.models[name].score
                rows.append((result.name, name, result.metric, score, *[None] * 6, *_costs(data, name)))
    rows += [("", each.name, each.skipped, *[None] * 12) for each in evaluation.rivals if each.skipped]
    columns = (
        "set", "model", "metric", "score", "against", "difference", "low", "high", "adjusted_p", "verdict",
        "parameters", "dimensions", "texts_per_second", "memory_bytes", "million_documents_bytes",
    )  # fmt: skip
    title = "Rivals on the same queries"
    drawn = pen.forest(title, lines, "points of difference, with intervals")
    return Figure("rivals", title, drawn, _csv(columns, rows))


def _over(sets: Mapping[str, Any], name: str) -> Mapping[str, PairedDifference]:
    return sets[name].over if name in sets else {}


def _costs(data: ReportData, name: str) -> tuple[Cell, ...]:
    cost = data.evaluation.costs.get(name)
    if cost is None:
        return (None,) * 5
    return cost.parameters, cost.dimensions, cost.texts_per_second, cost.memory, cost.index


def _pipelines(data: ReportData, pen: _Pen) -> Figure | None:
    tables = shown_pipelines(data.evaluation)
    if not tables:
        return None
    rows = [
        (
            *(shown.table.set, row.pipeline.first_stage, row.pipeline.reranker, row.pipeline.depth),
            "yes" if row.pipeline.fused else "no",
            *(row.pipeline.score, *_interval(row.pipeline.over), *_claim(row.conclusion)),
            *(row.pipeline.milliseconds, "yes" if row.deployed else "no"),
        )
        for shown in tables
        for row in shown.rows
    ]
    columns = (
        "set", "first_stage", "reranker", "depth", "fused", "score", "difference", "low", "high", "adjusted_p",
        "verdict", "milliseconds", "deploy",
    )  # fmt: skip
    title = "Quality over the time of a query"
    drawn = pen.draw("scatter", title, 44 + 320 * len(tables), tables=tables)
    return Figure("pipelines", title, drawn, _csv(columns, rows))


def _kinds(data: ReportData, pen: _Pen) -> Figure | None:
    concluded = conclude_all_slices(data.evaluation)
    if not concluded:
        return None
    base = data.evaluation.base
    model = next(name for name in concluded[0].slice.result.models if name != base)
    lines, rows = [], []
    for each in concluded:
        result, difference = each.slice.result, each.slice.result.delta.get(model)
        words = show.interval(difference) if difference else each.words
        lines.append(Line(_label(f"{each.slice.kind}: {each.slice.value}"), difference, words, each.tone))
        scores = (result.models[base].score, result.models[model].score)
        about = (result.name, each.slice.kind, each.slice.value, result.queries)
        rows.append((*about, *scores, *_interval(difference), each.words))
    columns = ("set", "kind", "value", "queries", base, model, "difference", "low", "high", "verdict")
    title = f"By kind of query: {one_line(model, 40)}"
    return Figure("kinds", title, pen.forest(title, lines, _against(data, base)), _csv(columns, rows))


def _sizes(data: ReportData, pen: _Pen) -> Figure | None:
    tables = data.evaluation.vector_sizes
    if not tables:
        return None
    lines: list[Line] = []
    rows: list[Sequence[Cell]] = []
    for table in tables:
        lines.append(Line(f"{_label(table.model)} on {_label(table.set)}", heading=True))
        for size in table.sizes:
            words = f"{show.count(size.bytes)} bytes" + (f", {show.interval(size.loss)}" if size.loss else "")
            lines.append(Line(_label(size.words), size.loss, words, "better" if size.enough else "unclear"))
            about = (table.set, table.model, size.length, size.precision, "yes" if size.rescored else "no", size.bytes)
            rows.append((*about, size.score, *_interval(size.loss), size.adjusted_p, "yes" if size.enough else "no"))
    columns = (
        "set", "model", "length", "precision", "rescored", "bytes", "score", "difference", "low", "high", "adjusted_p",
        "enough",
    )  # fmt: skip
    title = "What smaller vectors lose"
    return Figure("sizes", title, pen.forest(title, lines, "points against the whole vectors"), _csv(columns, rows))


def _queries(data: ReportData, pen: _Pen) -> Figure | None:
    if not data.changes:
        return None
    bars, rows = [], []
    for moved in data.changes:
        better, same, worse = (number / (moved.total or 1) for number in (moved.better, moved.same, moved.worse))
        parts = (Part(0, better, "good-fill"), Part(better, same, "same"), Part(better + same, worse, "bad-fill"))
        words = f"{show.count(moved.better)} better, {show.count(moved.worse)} worse"
        bars.append(Bar(_label(moved.set), parts, words))
        rows.append((moved.set, moved.better, moved.same, moved.worse, moved.base_first, moved.model_first))
    columns = ("set", "better", "unchanged", "worse", "first_by_base", "first_by_tuned")
    title = "Queries that rose, stayed and fell"
    return Figure("queries", title, pen.bars(title, bars), _csv(columns, rows))


def _rows(data: ReportData, pen: _Pen) -> Figure | None:
    counts = data.synthesis or data.audit
    if counts is None:
        return None
    steps = [("Asked for", counts.requested, "base"), ("Written", counts.written, "base")]
    if data.audit is not None:
        steps.append(("Kept by the audit", data.audit.kept, "accent"))
    top = counts.requested or 1
    bars = [Bar(name, (Part(0, min(1, number / top), colour),), show.count(number)) for name, number, colour in steps]
    rows: list[Sequence[Cell]] = [(name, number, None) for name, number, _ in steps]
    most = max((drop.total for drop in data.drops), default=1) or 1
    for drop in data.drops:
        words = f"{show.count(drop.rows)} rows, {show.count(drop.negatives)} negatives"
        part = Part(0, drop.total / most, "warn-fill")
        bars.append(Bar(_label(reason_words(drop.reason)), (part,), words))
        rows.append((f"rejected: {drop.reason}", drop.rows, drop.negatives))
    title = "From asked for to kept, and the reasons for rejecting"
    return Figure("data", title, pen.bars(title, bars), _csv(("step", "rows", "negatives"), rows))


def _similarity(data: ReportData, pen: _Pen) -> Figure | None:
    measured = data.similarity
    if measured is None:
        return None
    bins = len(measured.bands[0].density)
    step = (measured.high - measured.low) / bins
    at = [f"density at {measured.low + step * (number + 0.5):.3f}" for number in range(bins)]
    rows: list[Sequence[Cell]] = []
    for band in measured.bands:
        text = f"level {band.level}" if band.level else "positive"
        rows.append((text, band.count, band.written, band.p10, band.p50, band.p90, *band.density))
    columns = ("text", "texts", "written", "p10", "median", "p90", *at)
    title = "Difficulty levels"
    axis = charts.Axis(measured.low, measured.high)
    height = 46 + 46 * len(measured.bands) + 44
    drawn = pen.draw("levels", title, height, bands=measured.bands, axis=axis)
    return Figure("similarity", title, drawn, _csv(columns, rows))


def _training(data: ReportData, pen: _Pen) -> Figure | None:
    if not data.training:
        return None
    axis = charts.loss_axis(data.training)
    laid_out = [(one_line(log.candidate, 60), charts.loss_chart(log, axis, 160, 26)) for log in data.training]
    drawable = [(name, chart) for name, chart in laid_out if chart is not None]
    rows = [
        (log.candidate, step.step, step.loss, step.learning_rate, step.level, step.source)
        for log in data.training
        for step in charts.thinned(log.history)
    ]
    title = "Loss by step"
    drawn = pen.draw("loss", title, 44 + 230 * len(drawable), charts=drawable, axis=axis)
    columns = ("model", "step", "loss", "learning_rate", "level", "source")
    return Figure("training", title, drawn, _csv(columns, rows))


def _anchors(data: ReportData) -> Figure | None:
    if not data.anchors:
        return None
    rows = (
        (number, text.model, position, token.token, token.weight)
        for number, text in enumerate(data.anchors, 1)
        for position, token in enumerate(text.tokens, 1)
    )
    return Figure("anchors", "Token weights", "", _csv(("text", "model", "position", "token", "weight"), rows))


def _stages(data: ReportData, pen: _Pen) -> Figure | None:
    stages = data.reproduction.stages
    if not stages:
        return None
    longest = max(stage.seconds for stage in stages) or 1
    bars = [
        Bar(_label(stage.stage), (Part(0, stage.seconds / longest, "base"),), show.duration(stage.seconds))
        for stage in stages
    ]
    rows = [(stage.stage, stage.seconds, stage.finished_at) for stage in stages]
    title = "Time a stage"
    return Figure("reproduce", title, pen.bars(title, bars), _csv(("stage", "seconds", "finished_at"), rows))
