"""The page in a real Chromium, from file://."""

from __future__ import annotations

import itertools

import pytest

from .hostile import as_shown, attack

pytestmark = pytest.mark.browser

SHOWN_FIELDS = (
    "query", "positive", "negative", "rejected", "detail", "reason", "failure", "action", "set", "label", "source",
    "llm", "reference", "chosen_by", "pooling", "schedule", "token",
)  # fmt: skip
CONTRAST = """selector => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const over = (top, below) => top.length < 4 ? top : below.map((value, i) => top[3] * top[i] + (1 - top[3]) * value);
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = rgb => rgb.slice(0, 3).map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  return [...document.querySelectorAll(selector)].map(element => {
    const chain = [];
    for (let each = element; each; each = each.parentElement)
      chain.unshift(parse(getComputedStyle(each).backgroundColor));
    const ground = chain.reduce((below, top) => over(top, below), [255, 255, 255]);
    const pair = [light(parse(getComputedStyle(element).color)), light(ground)].sort((a, b) => b - a);
    return (pair[0] + .05) / (pair[1] + .05);
  });
}"""


def _open_everything(page):
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")


@pytest.mark.parametrize("policy", ["with its policy", "with the policy switched off"])
def test_hostile_text_runs_nothing_and_shows_as_it_is(visit, hostile_address, policy):
    page = visit(hostile_address, bypass_csp="off" in policy)
    _open_everything(page)
    page.locator("#explorer").scroll_into_view_if_needed()
    page.locator(".option").first.click()
    for token in page.locator(".token").all()[:3]:
        token.hover()
    page.keyboard.press("Tab")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.scripts.length") == 3
    assert page.locator(".open-row h3").text_content() == as_shown(attack("query", ""))
    assert page.locator(".option .query").first.text_content() == as_shown(attack("query", ""))
    opened = page.locator(".open-row .texts p.text").all_text_contents()
    assert opened == [as_shown(attack(field, "")) for field in ("positive", *["negative"] * 4)]
    assert page.locator("img, base, iframe, object").count() == 0
    text = page.evaluate("document.body.textContent")
    for field in SHOWN_FIELDS:
        shown = as_shown(attack(field, "")).replace("_", " " if field in ("reason", "failure") else "_")
        assert shown in text, field
    assert attack("document", "") in text
    assert "run <img src=x onerror=window.hacked=9>" in page.title()
    assert "{{ 7*7 }}" in text


def test_the_policy_stops_what_escaping_might_miss(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.hacked = 1";
        document.body.append(script);
        const image = document.createElement("div");
        image.setAttribute("onclick", "window.hacked = 2");
        document.body.append(image);
        image.click();
    }""")
    assert page.evaluate("window.hacked") is None
    page.close()


@pytest.mark.parametrize("width", [320, 375, 1024])
@pytest.mark.parametrize("which", ["address", "hostile_address"])
def test_the_page_never_scrolls_sideways(visit, request, which, width):
    page = visit(request.getfixturevalue(which), width=width)
    _open_everything(page)
    page.locator("#explorer").scroll_into_view_if_needed()
    page.locator(".option").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_every_heat_shade_can_be_read_in_both_schemes(visit, address, scheme):
    page = visit(address, color_scheme=scheme)
    grounds = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(grounds) < 60) == (scheme == "dark")
    assert min(page.evaluate(CONTRAST, "h1, h2, h3, p, td, th")) >= 4.5
    page.evaluate("""() => {
        const tokens = document.querySelector(".tokens");
        for (let shade = 0; shade < 10; shade++) {
            const token = document.createElement("span");
            token.className = `token h${shade} probe`;
            tokens.append(token);
        }
    }""")
    shades = page.evaluate(CONTRAST, ".probe")
    assert len(shades) == 10
    assert min(shades) >= 4.5
    page.locator("#explorer").scroll_into_view_if_needed()
    page.locator(".option").first.click()
    page.keyboard.press("b")
    assert (
        min(
            page.evaluate(
                CONTRAST, ".key, .chip, .badge, .tag, .note, .option, .look, .explorer button, .explorer select"
            )
        )
        >= 4.5
    )


def test_the_page_reads_whole_without_scripts(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("h1").inner_text().startswith("Tuning raised nDCG@10")
    assert page.locator("section").count() == 12
    assert not page.locator(".explorer").is_visible()
    assert "needs JavaScript" in page.locator("#explorer").inner_text()
    assert page.locator(".token").first.is_visible()
    summary = page.locator(".drops summary").first
    summary.click()
    assert page.locator(".drops .example").first.is_visible()
    context.close()


def test_the_keyboard_reaches_the_result_and_the_tokens(visit, address):
    page = visit(address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the result"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    tokens = page.locator(".tokens").first
    readout = page.locator(".readout").first
    tokens.focus()
    page.keyboard.press("ArrowRight")
    first = readout.inner_text()
    assert first.startswith("[CLS]: ")
    assert "times an even share" in first
    page.keyboard.press("End")
    assert readout.inner_text().startswith("[SEP]: ")
    page.keyboard.press("ArrowRight")
    assert readout.inner_text().startswith("[SEP]: ")
    page.keyboard.press("Tab")
    assert readout.inner_text() == ""


def test_pointing_at_a_token_reads_its_weight(visit, address):
    page = visit(address)
    token = page.locator(".token[data-weight]").nth(4)
    token.hover()
    assert page.locator(".readout").first.inner_text().endswith(token.get_attribute("data-weight"))
    assert "pointed" in token.get_attribute("class")


def test_what_is_drawn_is_also_said(visit, address):
    page = visit(address)
    unnamed = page.evaluate("""() => [...document.querySelectorAll("svg")].filter(svg =>
        !svg.closest("[aria-hidden=true]") && !svg.closest("[role=img][aria-label]")).length""")
    assert unnamed == 0
    untitled = page.evaluate("""() => [...document.querySelectorAll("table, section, [role=group], nav")].filter(
        each => !each.caption && !each.ariaLabel && !document.getElementById(each.getAttribute("aria-labelledby"))
    ).length""")
    assert untitled == 0
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(each => +each.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_tables_keep_their_cells_on_a_phone(visit, address):
    page = visit(address, width=375)
    row = page.locator(".scores tr.chosen").first
    assert row.evaluate("each => getComputedStyle(each).display") == "grid"
    assert row.get_attribute("role") == "row"
    assert "nDCG@10" in row.inner_text()
    assert "recall@10" in row.inner_text()


def test_printing_leaves_navigation_out_and_opens_what_proves(visit, address):
    page = visit(address, color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert not page.locator(".contents").is_visible()
    assert page.locator("#reproduce details pre").is_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper')").strip() == "#fcfbf9"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.locator("#reproduce details pre").is_visible()


def test_commands_can_be_copied(visit, address):
    page = visit(address, permissions=["clipboard-read", "clipboard-write"])
    page.locator(".copy").first.click()
    page.locator(".copy", has_text="Copied").wait_for()
    assert "multigrain run config.yaml" in page.evaluate("navigator.clipboard.readText()")
