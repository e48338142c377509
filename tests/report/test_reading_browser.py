"""What a newcomer reads on the page, in a real Chromium: buttons, scales, units, commands, at every width."""

from __future__ import annotations

import dataclasses
import re

import pytest

from multigrain.evaluation.significance import PairedDifference
from multigrain.report import load_report_data, render_report

from .test_browser import CONTRAST

pytestmark = pytest.mark.browser

RECT = (
    "each => { const { left, right, top, bottom } = each.getBoundingClientRect(); return [left, right, top, bottom]; }"
)

VISIBLE = """() => {
  const [row, scale, list] = ["[role=option][aria-selected=true]", ".scale", ".list"]
    .map(each => document.querySelector(each).getBoundingClientRect());
  return [row.top, row.bottom, scale.bottom, list.bottom];
}"""


@pytest.fixture(scope="module")
def fallen_address(example, tmp_path_factory):
    """A run whose tuned model looks worse than a base model at the top, on five queries."""
    data = load_report_data(example)
    sets = []
    for each in data.evaluation.sets:
        models = {name: dataclasses.replace(scores, score=0.939) for name, scores in each.models.items()}
        models["base"] = dataclasses.replace(models["base"], score=1.0)
        delta = dict.fromkeys(each.delta, PairedDifference(-0.061, -0.184, 0.0, 1.0))
        sets.append(dataclasses.replace(each, models=models, delta=delta, queries=5, clusters=5))
    evaluation = dataclasses.replace(data.evaluation, sets=tuple(sets))
    path = tmp_path_factory.mktemp("fallen") / "report.html"
    path.write_text(render_report(dataclasses.replace(data, evaluation=evaluation)), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def explore(visit, address):
    def open_explorer(where=address, **options):
        page = visit(where, **options)
        page.locator("#explorer").scroll_into_view_if_needed()
        page.locator(".option").first.wait_for()
        return page

    return open_explorer


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_button_can_be_read_at_rest_under_the_pointer_and_with_the_focus(explore, scheme):
    page = explore(color_scheme=scheme, permissions=["clipboard-read", "clipboard-write"])
    page.locator(".mark").click()
    assert page.locator(".mark").inner_text() == "Unmark"
    assert min(page.evaluate(CONTRAST, ".mark:hover")) >= 4.5  # the pointer still lies on it
    page.locator(".mark").click()
    assert page.locator(".mark").inner_text() == "Mark bad"
    assert min(page.evaluate(CONTRAST, ".mark:hover")) >= 4.5
    page.locator(".mark").click()
    buttons = page.locator("button:visible").all()
    assert {button.inner_text() for button in buttons} == {
        "Unmark",
        "Download marks",
        "Clear marks",
        "Copy",
        "Print this summary",
    }
    for button in buttons:
        page.mouse.move(0, 0)
        for state in (button.hover, button.focus):
            state()
            assert button.evaluate(f"each => ({CONTRAST})('button:hover, button:focus')[0]") >= 4.5
    for hovered in (".option:not([aria-selected=true])", ".option.bad", ".contents a"):
        page.locator(hovered).first.hover()
        assert min(page.evaluate(CONTRAST, f"{hovered}:hover, {hovered}:hover *:not(svg, svg *)")) >= 4.5


def test_a_fall_is_not_dressed_up_as_a_choice(visit, fallen_address, address):
    page = visit(fallen_address)
    assert "no gain shown; looks worse, too few queries to be sure" in page.locator(".badge").inner_text()
    assert page.locator(".advice").inner_text().startswith("model/ holds tuned_mean, although it did not beat")
    assert page.locator("#result .chip.gained").count() == 0
    assert page.locator("tr.chosen .chip").first.inner_text() == "in model/"
    assert page.locator(".hero .label").text_content() == "0 = same as base"
    assert "too few queries (5)" in page.locator(".set table").first.inner_text()
    gained = visit(address)
    assert gained.locator("tr.chosen .chip.gained").first.inner_text() == "chosen"
    assert gained.locator(".advice").inner_text() == "model/ holds tuned_mean; use it."


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_doubtful_badge_and_the_advice_can_be_read(visit, fallen_address, scheme):
    page = visit(fallen_address, color_scheme=scheme)
    assert min(page.evaluate(CONTRAST, ".badge, .advice, .chip")) >= 4.5


def test_the_result_table_shows_its_unit_and_keeps_recall_apart(visit, address):
    page = visit(address)
    heads = page.locator(".scores").first.locator("thead th").all_inner_texts()
    assert "points [95%]" in heads
    row = page.locator("tr.chosen").first.locator("td.number")
    interval = row.nth(1).evaluate("each => each.firstElementChild.getBoundingClientRect().right")
    recall = row.nth(2).evaluate(
        "each => { const range = document.createRange(); range.selectNodeContents(each.lastChild);"
        " return range.getBoundingClientRect().left; }"
    )
    assert recall - interval > 40
    narrow = visit(address, width=390).locator("tr.chosen").first.locator("td.number").nth(1)
    assert narrow.inner_text().endswith("] points")


def test_lines_of_similarity_have_a_scale_in_samples_and_explorer(explore, rows):
    page = explore()
    samples = page.locator("#samples .row").first.locator(".ticks text").all_text_contents()
    assert len(samples) >= 4
    figures = [_number(text) for text in page.locator(".scale text").all_text_contents()]
    assert len(figures) >= 4
    assert figures == sorted(figures)
    centre = "each => { const box = each.getBoundingClientRect(); return (box.left + box.right) / 2; }"
    places = [text.evaluate(centre) for text in page.locator(".scale text").all()]
    option = page.locator(".option").nth(2)
    similarity = round(1000 * rows[2].positive_similarity) / 1000
    share = (similarity - figures[0]) / (figures[-1] - figures[0])
    assert option.locator(".positive circle").evaluate(centre) == pytest.approx(
        places[0] + share * (places[-1] - places[0]), abs=1.5
    )
    page.select_option("[name=level]", "4")  # texts take the place of the lines
    assert not page.locator(".scale").is_visible()


def test_the_scale_never_hides_the_row_that_the_keyboard_chose(explore):
    page = explore()
    page.get_by_role("listbox").focus()
    for keys in (["End"], ["ArrowUp"] * 14, ["Home"], ["PageDown"], ["PageUp"]):
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_timeout(50)
        # At one moment: the page itself may still be scrolling.
        top, bottom, covered, end = page.evaluate(VISIBLE)
        assert top >= covered - 1, keys
        assert bottom <= end + 1, keys


def test_figures_of_the_loss_stand_beside_the_curve_and_the_learning_rate_has_a_scale(visit, address):
    page = visit(address)
    for chart in page.locator("svg.loss:not(.curves)").all():
        left = chart.evaluate("each => each.getBoundingClientRect().left")
        beside = chart.locator("text.tick[x='-6']").all()
        assert len(beside) >= 2
        assert all(text.evaluate(RECT)[1] <= left for text in beside)
        assert re.fullmatch(r"learning rate, from 0 up to \S+", chart.locator("text.tick[y='211']").text_content())
    assert "Loss of the first step" in page.locator("#training").inner_text()


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_no_option_is_broken_in_two_and_arrow_keys_are_for_keyboards(explore, width):
    page = explore(width=width)
    for option in page.locator(".whole").all():
        assert option.evaluate("each => each.getClientRects().length") == 1
    assert "multigrain run" in page.locator("#explorer p").first.inner_text()
    assert "trains again" in page.locator("#explorer p").first.inner_text()
    said = page.locator("main").inner_text()
    assert ("arrow keys" in said) == (width > 864)
    assert ("Tap a token" in said) == (width <= 864)


def test_documents_are_named_in_query_by_query(visit, address, example):
    data = load_report_data(example)
    (moved,) = [each for each in data.changes if each.set == data.evaluation.headline_set.name]
    page = visit(address)
    shown = page.locator("#queries .excerpt", has_text="Right document").first.locator(".name").inner_text()
    assert shown == moved.wins[0].after.relevant_ids[0]


@pytest.fixture(scope="module")
def rows(example):
    return load_report_data(example).rows


def _number(text: str) -> float:
    return float(text.replace("−", "-"))
