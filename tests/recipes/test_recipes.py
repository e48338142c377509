"""CONTRIBUTING.md's recipes are short, name files that are there, and each has a test that follows it."""

from __future__ import annotations

import pytest

from .pages import ROOT, SOURCE, named_files, recipes

TESTS = {
    "metric": "test_add_metric.py",
    "audit check": "test_add_check.py",
    "strategy": "test_add_strategy.py",
    "pooling": "test_add_pooling.py",
    "data source": "test_add_source.py",
    "export target": "test_add_export_target.py",
    "stage": "test_add_stage.py",
}
MOST_LINES = 8


def test_there_is_a_recipe_for_every_part() -> None:
    assert list(recipes()) == list(TESTS)


@pytest.mark.parametrize("part", TESTS)
def test_a_recipe_is_short_and_names_files_that_are_there(part: str) -> None:
    text = recipes()[part]
    if not text:
        pytest.skip("still to be written")
    assert len(text.splitlines()) <= MOST_LINES
    files = named_files(text)
    assert files
    for name in files:
        is_new = "NAME" in name or "COMMAND" in name
        paths = [folder / name for folder in (ROOT, SOURCE)]
        assert any(path.parent.is_dir() if is_new else path.exists() for path in paths), name
    assert (ROOT / "tests" / "recipes" / TESTS[part]).is_file()
