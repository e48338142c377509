"""The prose of pages, help, settings and messages: plain words, and mostly short sentences."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from .blocks import ROOT

MOST_LONG = {"README": 0.1, "CONTRIBUTING": 0.15, "help": 0.05, "settings": 0.2, "docs": 0.25}
"""The share of sentences above 25 words that a group may have; it may be lowered, and not raised."""

PLAIN_PAGES = ("docs/results.md", "docs/guides/evaluation.md", "docs/guides/audit.md", "docs/scale.md")
"""Pages that were rewritten: fewer than one long sentence in ten."""


@pytest.fixture(scope="module")
def prose() -> ModuleType:
    """docs/prose.py, which is a script."""
    spec = importlib.util.spec_from_file_location("prose", ROOT / "docs" / "prose.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_page_help_setting_or_message_has_a_turn_that_we_do_not_use(prose: ModuleType) -> None:
    assert list(prose.problems()) == []


def test_every_turn_is_found_and_no_replacement_is_one(prose: ModuleType) -> None:
    for turn, plain in prose.PLAIN.items():
        assert [found.check_result.replacements for found in prose.lint(f"So {turn} it.", own_only=True)][:1] == [
            plain
        ]
        assert prose.lint(f"So {plain} it.", own_only=True) == []


def test_sentences_end_where_readers_would_end_them(prose: ModuleType) -> None:
    paragraph = "One sentence is here. (And another, at 0.5 points.) It has X:"
    text = f"# A heading\n\n{paragraph}\n\n- a first item\n- a second item\n"
    assert list(prose.sentences(text)) == [
        "One sentence is here.",
        "(And another, at 0.5 points.)",
        "It has X:",
        "a first item",
        "a second item",
    ]


def test_most_sentences_are_short(prose: ModuleType) -> None:
    figures = prose.figures()
    assert {name: figures[name]["long"] for name, most in MOST_LONG.items() if figures[name]["long"] > most} == {}
    assert figures["all"]["hits"] == figures["messages"]["hits"] == 0


@pytest.mark.parametrize("name", PLAIN_PAGES)
def test_pages_that_were_rewritten_stay_readable(prose: ModuleType, name: str) -> None:
    lengths = [len(prose._WORD.findall(sentence)) for sentence in prose.sentences(prose.pages()[name])]

    assert len(lengths) > 50
    assert sum(length > prose.LONG for length in lengths) < 0.1 * len(lengths)
