from __future__ import annotations

import dataclasses
import html
import re
from html.parser import HTMLParser

import pytest

from multigrain.display import numbers as figures
from multigrain.errors import RunDirectoryError
from multigrain.evaluation.results import EvaluationResults
from multigrain.report import load_report_data, render_report, write_report
from multigrain.training.log import Notice

from .example_run import ExampleRun, build_run
from .hostile import ATTACK, attack

VOID = {"meta", "link", "img", "br", "hr", "input", "base"}


class _Outline(HTMLParser):
    """Elements, attributes and whether every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"stray </{tag}>"
        assert self.open.pop() == tag, f"misnested </{tag}>"


def _outline(page: str) -> _Outline:
    outline = _Outline()
    outline.feed(page)
    outline.close()
    assert outline.open == []
    return outline


@pytest.fixture(scope="module")
def page(example):
    return render_report(load_report_data(example))


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "run <img src=x onerror=window.hacked=9>"
    return build_run(path, ExampleRun(rows=30, queries=60, text=attack))


def test_equal_data_gives_an_equal_page(example, page):
    assert render_report(load_report_data(example)) == page


def test_the_page_is_well_formed_and_its_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in _outline(page).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"] for tag, a in _outline(page).elements if tag == "a"]
    assert {target.removeprefix("#") for target in targets if not target.startswith("data:")} <= set(ids)


def test_nothing_on_the_page_is_loaded_from_anywhere(page):
    for tag, attributes in _outline(page).elements:
        assert "src" not in attributes
        assert tag not in ("iframe", "object", "embed", "base")
        if "href" in attributes:
            assert attributes["href"].startswith(("#", "data:"))
    assert not re.search(r"@import|url\(", page)


def test_what_the_language_model_cost_stands_in_the_overview(page, example):
    assert "for <b>$0.42</b>" in page
    free = load_report_data(example)
    free = dataclasses.replace(free, synthesis=dataclasses.replace(free.synthesis, cost=0.0, stopped_by_budget=False))
    assert "$" not in render_report(free).partition('id="result"')[0].rpartition("Written by")[2]
    limited = dataclasses.replace(free, synthesis=dataclasses.replace(free.synthesis, stopped_by_limit=True))
    assert "The spending limit ended the writing; " in render_report(limited)


def test_what_a_training_shows_of_itself_stands_below_its_curves(example) -> None:
    data = load_report_data(example)
    page = render_report(data)
    for run in data.training:
        (notice,) = run.notices
        assert notice.name == "similarity fell, margins grew"
        assert page.count(html.escape(notice.words)) == len(data.training)
        assert run.curves.sample in page
    warned = dataclasses.replace(
        data.training[0], notices=(Notice("collapsed", warns=True, words="Vectors <b>fell</b>."),)
    )
    page = render_report(dataclasses.replace(data, training=(warned,)))
    assert '<b class="worse">Collapsed.</b> Vectors &lt;b&gt;fell&lt;/b&gt;.' in page


def test_further_metrics_stand_below_the_test_sets(page, example):
    (test,) = [each for each in load_report_data(example).evaluation.sets if each.role == "test"]
    assert page.count("Also measured:") == 1
    for scores in test.models.values():
        mrr, recall = (figures.score(scores.metrics[name]) for name in ("mrr_at_10", "recall_at_100"))
        shown = f"MRR@10 {mrr}, recall@100 {recall}"
        assert shown in re.sub(r"<[^>]+>", "", page)


def test_what_decides_the_figures_stands_below_them(page, example):
    words = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert words.count("1 of 6 judgments left out: they name documents that are not there.") == 1
    shown = "mean pooling, 256 tokens of a text, weights in float32, 'query: ' before queries"
    assert words.count(f"Every model was used with {shown}") == words.count("256 tokens") == 1

    data = load_report_data(example)
    facts = data.evaluation.facts
    shorter = facts | {"base": dataclasses.replace(facts["base"], max_tokens=128)}
    other = render_report(dataclasses.replace(data, evaluation=dataclasses.replace(data.evaluation, facts=shorter)))
    assert "<bdi>base</bdi> was used with mean pooling, 128 tokens" in other
    assert '<bdi>base</bdi> <span class="note">128 tokens</span>' in other


def test_the_page_stays_light(page):
    assert len(page.encode()) < 400_000


def test_hostile_text_adds_no_element_and_no_attribute(example, hostile_run):
    def shape(page):
        return {(tag, name) for tag, attributes in _outline(page).elements for name in (*attributes, None)}

    kept_calm = shape(render_report(load_report_data(example)))
    attacked = render_report(load_report_data(hostile_run))
    assert shape(attacked) <= kept_calm | {("details", None), ("details", "class"), ("summary", None)}
    assert "<img" not in attacked
    assert ATTACK not in attacked


def test_the_policy_names_the_page_s_own_scripts_and_style_and_nothing_else(page):
    policy = next(a["content"] for tag, a in _outline(page).elements if a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]{43}=' 'sha256-[\w+/]{43}=';", policy)
    assert page.count('<script type="module">') == 2
    assert "unsafe" not in policy
    assert page.count("<style") == 1
    assert not re.search(r" (style|on\w+)=\"", page)


@pytest.mark.parametrize(
    ("section", "without"),
    [
        ("queries", {"changes": ()}),
        ("data", {"audit": None, "synthesis": None}),
        ("similarity", {"similarity": None}),
        ("samples", {"samples": ()}),
        ("training", {"training": ()}),
        ("anchors", {"anchors": ()}),
        ("explorer", {"rows": ()}),
    ],
)
def test_a_section_without_data_is_left_out_of_page_and_contents(example, section, without):
    data = load_report_data(example)
    assert f'id="{section}"' in render_report(data)
    page = render_report(dataclasses.replace(data, **without))
    assert f'id="{section}"' not in page
    assert f'href="#{section}"' not in page
    _outline(page)


def test_every_part_can_be_missing_at_once(example):
    data = load_report_data(example)
    bare = dataclasses.replace(
        data, changes=(), documents=None, synthesis=None, audit=None, drops=(), similarity=None, rows=(), samples=(),
        training=(), anchors=(),
        reproduction=dataclasses.replace(data.reproduction, config=None, stages=(), seed=None),
    )  # fmt: skip
    assert "Tuning raised nDCG@10" in render_report(bare)


def _without_role(evaluation: EvaluationResults, role: str) -> EvaluationResults:
    return dataclasses.replace(evaluation, sets=tuple(each for each in evaluation.sets if each.role != role))


def test_without_an_unrelated_set_the_page_says_forgetting_was_not_checked(example):
    data = load_report_data(example)
    assert "not checked: no unrelated set" not in render_report(data)
    assert "not checked: no unrelated set" in render_report(
        dataclasses.replace(data, evaluation=_without_role(data.evaluation, "forgetting"))
    )


def test_without_a_test_set_no_gain_is_claimed(example):
    data = load_report_data(example)
    page = render_report(dataclasses.replace(data, evaluation=_without_role(data.evaluation, "test"), changes=()))
    assert "not tested" in page
    assert "Tuning raised" not in page


@pytest.mark.parametrize(("gain", "title"), [(0.0, "No gain shown"), (-0.09, "The tuned model is worse")])
def test_a_run_that_bought_nothing_says_so(tmp_path, gain, title):
    run = build_run(tmp_path / "run", ExampleRun(rows=20, queries=200, gain=gain))
    assert f"<h1>{title}" in render_report(load_report_data(run))


def test_one_model_and_one_set_are_enough(tmp_path):
    spec = ExampleRun(
        rows=3, queries=40, forgetting=False, candidates={"tuned": ("keep", "random", 1.0)}, chosen="tuned"
    )
    page = render_report(load_report_data(build_run(tmp_path / "run", spec)))
    assert "is the one tuned model of this run" in page
    _outline(page)


def test_the_page_is_written_whole_or_not_at_all(own_run):
    path = write_report(own_run)
    assert path == own_run.report_path
    before = path.read_bytes()
    (own_run.results_path / "anchors.json").write_text("[")
    with pytest.raises(RunDirectoryError):
        write_report(own_run)
    assert path.read_bytes() == before
    assert [each.name for each in own_run.path.iterdir() if "report" in each.name] == ["report.html"]


def test_the_page_says_whether_the_source_of_a_negative_can_be_told(example) -> None:
    data = load_report_data(example)
    page = render_report(data)

    assert "Can the source be told?" in page
    assert ".913</b> (.884 to .940" in page
    assert data.audit is not None
    calm = dataclasses.replace(data.audit, probe=dataclasses.replace(data.audit.probe, warns=False, auc=0.6))
    assert "not enough for a model to learn" in render_report(dataclasses.replace(data, audit=calm))
    none = dataclasses.replace(data.audit, probe=None)
    assert "Can the source be told?" not in render_report(dataclasses.replace(data, audit=none))
