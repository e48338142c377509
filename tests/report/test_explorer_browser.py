"""The data explorer in a real Chromium."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from multigrain.records import Origin
from multigrain.report import load_report_data, render_report
from multigrain.report.explorer import MAX_ROWS

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def rows(example):
    return load_report_data(example).rows


@pytest.fixture
def explore(visit, address):
    """Opens the page and scrolls to the explorer."""

    def open_explorer(where=address, **options):
        page = visit(where, **options)
        page.locator("#explorer").scroll_into_view_if_needed()
        page.locator(".option").first.wait_for()
        return page

    return open_explorer


def _found(page, expected):
    """Wait for the number of rows found."""
    page.locator(".found", has_text=re.compile(f"^{expected:,} ")).wait_for(timeout=10_000)


def _listed_queries(page):
    return page.locator(".option .query").all_text_contents()


def test_all_rows_are_there_and_the_first_is_open(explore, rows):
    page = explore()
    _found(page, len(rows))
    assert page.locator(".open-row h3").text_content() == rows[0].query
    texts = page.locator(".open-row .texts p.text").all_text_contents()
    assert texts == [rows[0].positive[:2000], *(negative.text[:2000] for negative in reversed(rows[0].negatives))]
    shown = page.locator(".open-row .texts .number").all_text_contents()
    similarities = [rows[0].positive_similarity, *(each.similarity for each in reversed(rows[0].negatives))]
    assert [float(each) for each in shown] == pytest.approx(similarities, abs=0.0006)


def test_searching_finds_words_in_any_text_of_a_row(explore, rows):
    page = explore()
    page.fill("[name=search]", "SOCKET return")

    def holds(row):
        texts = [row.query, row.positive[:2000], *(each.text[:2000] for each in row.negatives)]
        return all(any(word in text.lower() for text in texts) for word in ("socket", "return"))

    expected = sum(map(holds, rows))
    assert 0 < expected < len(rows)
    _found(page, expected)
    page.fill("[name=search]", rows[7].id)
    _found(page, 1)
    assert page.locator(".open-row h3").text_content() == rows[7].query
    page.fill("[name=search]", "nothing holds these words")
    _found(page, 0)
    assert "No row passes" in page.locator(".open-row").inner_text()


@pytest.mark.parametrize("source", ["written", "mined"])
@pytest.mark.parametrize("level", ["", "1", "4"])
def test_level_and_source_filter_together(explore, rows, level, source):
    page = explore()
    page.select_option("[name=level]", level)
    page.select_option("[name=source]", source)
    slots = [int(level) - 1] if level else range(4)
    _found(page, sum(any(row.negatives[slot].origin is Origin(source) for slot in slots) for row in rows))
    if level:
        first = page.locator(".option .look").first.inner_text()
        assert first.startswith(level)


def test_flags_filter_by_what_the_audit_did(explore, rows):
    page = explore()
    expected = {
        "action:relevelled": sum(any(action.startswith("relevelled") for action in row.actions) for row in rows),
        "action:refilled": sum(any(action.startswith("refilled") for action in row.actions) for row in rows),
        "broken": sum(row.written_order_held is False for row in rows),
        "bad": 0,
    }
    for flag, number in expected.items():
        page.select_option("[name=flag]", flag)
        _found(page, number)


def test_rows_can_be_ordered_by_what_looks_wrong(explore, rows):
    page = explore()
    page.select_option("[name=order]", "margin")
    by_margin = sorted(
        rows,
        key=lambda row: (
            round(1000 * row.positive_similarity) - max(round(1000 * each.similarity) for each in row.negatives)
        ),
    )
    page.locator(".open-row h3").wait_for()
    page.keyboard.press("Tab")
    page.locator(".list").press("Home")
    assert page.locator(".open-row h3").text_content() == by_margin[0].query
    assert _listed_queries(page)[:3] == [row.query for row in by_margin[:3]]


def test_the_list_is_a_listbox_that_the_keyboard_moves_through(explore, rows):
    page = explore()
    listbox = page.get_by_role("listbox")
    listbox.focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    selected = page.locator("[role=option][aria-selected=true]")
    assert selected.get_attribute("aria-posinset") == "4"
    assert selected.get_attribute("aria-setsize") == str(len(rows))
    assert listbox.get_attribute("aria-activedescendant") == selected.get_attribute("id")
    assert page.locator(".open-row h3").text_content() == rows[3].query
    page.keyboard.press("End")
    assert page.locator(".open-row h3").text_content() == rows[-1].query
    assert selected.is_visible()
    page.keyboard.press("ArrowDown")
    assert page.locator(".open-row h3").text_content() == rows[-1].query
    page.keyboard.press("Home")
    assert page.locator(".open-row h3").text_content() == rows[0].query


def test_marks_are_kept_downloaded_as_jsonl_and_cleared(explore, rows):
    page = explore()
    assert page.locator("[name=download]").is_disabled()
    page.locator(".option").nth(1).click()
    page.keyboard.press("b")
    page.locator(".option").nth(4).click()
    page.locator(".mark").click()
    page.locator(".option").nth(5).click()
    page.locator(".mark").click()
    page.locator(".mark").click()  # taken back
    assert page.locator(".tally").inner_text() == "2 rows marked bad."
    page.reload()
    page.locator("#explorer").scroll_into_view_if_needed()
    page.locator(".option.bad").first.wait_for()
    with page.expect_download() as started:
        page.locator("[name=download]").click()
    assert started.value.suggested_filename == "marks.jsonl"
    lines = started.value.path().read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"id": rows[i].id, "mark": "bad"} for i in (1, 4)]
    page.select_option("[name=flag]", "bad")
    _found(page, 2)
    page.locator("[name=clear]").click()
    assert page.locator(".tally").inner_text() == "No rows marked."


def test_an_opened_row_comes_into_view_on_a_phone(explore):
    page = explore(width=375)
    page.locator(".option").nth(2).click()
    box = page.locator(".open-row").bounding_box()
    assert box["y"] < 800


def test_a_broken_payload_says_so_instead_of_nothing(visit, example, tmp_path):
    page_text = render_report(load_report_data(example))
    start = page_text.index('id="packed-rows">') + len('id="packed-rows">')
    path = tmp_path / "cut.html"
    path.write_text(page_text[:start] + page_text[start + 400 :], encoding="utf-8")
    page = visit(path.as_uri())
    page.locator("#explorer").scroll_into_view_if_needed()
    page.locator("#explorer .waiting", has_text="cannot be read").wait_for()


def _many(rows, number):
    return tuple(dataclasses.replace(rows[i % len(rows)], id=f"{i:064x}", query=f"query {i}") for i in range(number))


def test_as_many_rows_as_fit_cost_as_many_elements_as_fifty(explore, example, rows, tmp_path):
    path = tmp_path / "large.html"
    many = _many(rows, MAX_ROWS)
    path.write_text(render_report(dataclasses.replace(load_report_data(example), rows=many)), encoding="utf-8")
    page = explore(path.as_uri())
    _found(page, MAX_ROWS)
    assert page.locator(".option").count() < 40
    page.locator(".list").press("End")
    assert page.locator(".open-row h3").text_content() == f"query {MAX_ROWS - 1}"
    assert page.locator("[role=option][aria-selected=true]").is_visible()
    assert page.locator(".option").count() < 40
    page.fill("[name=search]", "query 4242")
    _found(page, sum(["query", "4242"][1] in f"query {i}" for i in range(MAX_ROWS)))
