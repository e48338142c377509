"""Which path is suggested, and where none is."""

from __future__ import annotations

from pathlib import Path

import pytest

from multigrain.display.suggest import near_path


@pytest.mark.parametrize(
    ("there", "asked", "near"),
    [
        (["e.yaml", "bb.yaml"], "nope.yaml", None),
        (["a.csv", "b.csv"], "tickets.csv", None),
        (["handbook.yaml", "other.yaml"], "hanbook.yaml", "handbook.yaml"),
        (["config.yaml"], "config.yml", "config.yaml"),
        (["tickets.tsv", "tickets.jsonl"], "tickets.csv", "tickets.tsv"),
        (["handbook"], "handbok", "handbook"),
        (["Handbook"], "handbook.md", "Handbook"),
        ([], "config.yaml", None),
    ],
)
def test_a_path_is_suggested_by_its_name_and_not_by_its_ending(
    tmp_path: Path, there: list[str], asked: str, near: str | None
) -> None:
    for name in there:
        (tmp_path / name).touch()

    assert near_path(tmp_path / asked) == (f" (did you mean {tmp_path / near}?)" if near else "")
