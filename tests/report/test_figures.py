"""The figures of the page as files."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import re
from xml.etree import ElementTree

import pytest

from multigrain.evaluation.verdict import conclusions_of
from multigrain.report import load_report_data, render_report
from multigrain.report.charts import MOST_POINTS, loss_axis, loss_chart, thinned
from multigrain.report.figures import colours, draw_figures
from multigrain.report.render import environment
from multigrain.training.log import TrainingStep

from .example_run import ExampleRun, build_run
from .hostile import attack

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {"result", "rivals", "kinds", "sizes", "queries", "data", "similarity", "training", "reproduce"}


def _draw(data):
    return draw_figures(data, conclusions_of(data.evaluation), environment())


def _table(figure):
    return list(csv.DictReader(io.StringIO(figure.csv)))


@pytest.fixture(scope="module")
def data(example):
    return load_report_data(example)


@pytest.fixture(scope="module")
def figures(data):
    return _draw(data)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    return load_report_data(build_run(tmp_path_factory.mktemp("hostile") / "run", ExampleRun(rows=9, text=attack)))


@pytest.mark.parametrize("hostile", [False, True])
def test_every_drawing_is_xml_that_needs_nothing_else(figures, attacked, hostile):
    drawn = _draw(attacked) if hostile else figures
    assert {key for key, figure in drawn.items() if figure.svg} == DRAWN
    for figure in drawn.values():
        if not figure.svg:
            continue
        root = ElementTree.fromstring(figure.svg)
        assert root.find(f"{SVG}title").text == figure.title or hostile
        for element in root.iter():
            assert element.tag.removeprefix(SVG) in {"svg", "title", "rect", "text", "line", "circle", "path"}
            assert not {name for name in element.attrib if name.startswith("on") or "href" in name}
            colours_of = [element.get(name, "none") for name in ("fill", "stroke")]
            assert all(re.fullmatch("none|#[0-9a-f]{6}", colour) for colour in colours_of)
        width, height = (float(root.get(name)) for name in ("width", "height"))
        for text in root.iter(f"{SVG}text"):
            assert 0 <= float(text.get("x", 0)) < width
            assert 0 < float(text.get("y", 0)) <= height


def test_the_data_of_the_result_are_the_figures_of_the_evaluation(data, figures):
    rows = {(row["set"], row["model"]): row for row in _table(figures["result"])}
    scored = [(result, name) for result in data.evaluation.sets for name in result.models]
    assert len(rows) == len(scored)
    for result, name in scored:
        row = rows[result.name, name]
        assert float(row["score"]) == pytest.approx(result.models[name].score, rel=1e-5)
        assert int(row["queries"]) == result.queries
        if name in result.delta:
            shown = [float(row[column]) for column in ("difference", "low", "high")]
            delta = result.delta[name]
            assert shown == pytest.approx([delta.mean, delta.low, delta.high], rel=1e-5)
        else:
            assert row["difference"] == ""
    validation = [row for row in rows.values() if row["role"] == "validation"]
    assert validation
    assert all(row["verdict"] == "" for row in validation)


def test_every_rival_has_its_score_and_cost_in_the_data(data, figures):
    rows = _table(figures["rivals"])
    scored = [each for each in data.evaluation.rivals if each.sets]
    for rival in scored:
        own = [row for row in rows if row["model"] == rival.name and row["against"]]
        assert {row["against"] for row in own} == {data.evaluation.base, data.evaluation.chosen}
        (scores,) = rival.sets.values()
        assert [float(row["score"]) for row in own] == pytest.approx([scores.score] * 2, rel=1e-5)
        cost = data.evaluation.costs[rival.name]
        assert {int(row["memory_bytes"]) for row in own} == {cost.memory}
    (skipped,) = [each for each in data.evaluation.rivals if each.skipped]
    assert [row["metric"] for row in rows if row["model"] == skipped.name] == [skipped.skipped]


def test_counts_and_shapes_are_in_the_data(data, figures):
    kept = {row["step"]: int(row["rows"]) for row in _table(figures["data"])}
    assert kept["Kept by the audit"] == data.audit.kept
    assert {f"rejected: {drop.reason}": drop.rows for drop in data.drops}.items() <= kept.items()
    bands = _table(figures["similarity"])
    for row, band in zip(bands, data.similarity.bands, strict=True):
        assert float(row["median"]) == pytest.approx(band.p50, rel=1e-5)
        density = [float(value) for name, value in row.items() if name.startswith("density at")]
        assert density == pytest.approx(band.density, rel=1e-5)
    steps = _table(figures["training"])
    assert len(steps) == sum(len(log.history) for log in data.training)
    tokens = _table(figures["anchors"])
    assert len(tokens) == sum(len(text.tokens) for text in data.anchors)
    assert figures["anchors"].svg == ""


def test_a_difference_lies_where_its_interval_says(data, figures):
    root = ElementTree.fromstring(figures["result"].svg)
    whole = [line for line in root.iter(f"{SVG}line") if line.get("stroke-width") == "2"]
    centres = [float(circle.get("cx")) for circle in root.iter(f"{SVG}circle")]
    deltas = [
        result.delta[name]
        for result in data.evaluation.shown
        for name in data.evaluation.models
        if name in result.delta
    ]
    assert len(whole) == len(centres) == len(deltas)
    scale = (centres[1] - centres[0]) / (deltas[1].mean - deltas[0].mean)
    for line, centre, delta in zip(whole, centres, deltas, strict=True):
        assert float(line.get("x2")) - float(line.get("x1")) == pytest.approx(
            scale * (delta.high - delta.low), abs=0.5
        )
        assert centre - centres[0] == pytest.approx(scale * (delta.mean - deltas[0].mean), abs=0.5)


def test_no_cell_is_a_formula(data):
    name = '=HYPERLINK("https://evil.example")'
    sets = tuple(dataclasses.replace(each, name=name) for each in data.evaluation.sets)
    drawn = _draw(dataclasses.replace(data, evaluation=dataclasses.replace(data.evaluation, sets=sets)))
    assert {row["set"] for row in _table(drawn["result"])} == {f"'{name}"}
    assert any(float(row["low"]) < 0 for row in _table(drawn["result"]) if row["low"])  # numbers stay numbers


def test_a_long_training_has_a_bounded_curve_with_both_ends(data):
    history = tuple(TrainingStep(i, 1 / i, 1e-5, None) for i in range(1, 50_001))
    (log, *_) = data.training
    log = dataclasses.replace(log, history=history, steps=50_000, boundaries=())
    chart = loss_chart(log, loss_axis([log]), 150, 26)
    assert chart.raw.count("L") + 1 == MOST_POINTS
    assert (chart.first, chart.last) == (history[0].loss, history[-1].loss)
    kept = thinned(history)
    assert (kept[0], kept[-1], len(kept)) == (history[0], history[-1], MOST_POINTS)
    assert thinned(kept) == kept
    page = render_report(dataclasses.replace(data, training=(log,)))
    assert len(page.encode()) < 500_000


def test_the_links_on_the_page_hold_the_figures(data, figures):
    page = render_report(data)
    links = dict(re.findall(r'download="docstrings-13-([\w.]+)" href="data:[\w/+;=-]+;base64,([\w+/=]+)"', page))
    assert links.keys() == {f"{key}.csv" for key in figures} | {f"{key}.svg" for key in DRAWN}
    for name, held in links.items():
        key, kind = name.split(".")
        assert base64.b64decode(held).decode() == getattr(figures[key], kind)


def test_colours_are_those_of_the_page():
    assert colours()["ink"] == "#1c2127"
    assert {"good", "bad", "muted", "level-1", "level-4", "warn-fill"} <= colours().keys()
