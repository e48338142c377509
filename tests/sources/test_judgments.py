"""Judgments as other tools write them: quoted cells, and scales on which no grade is 0."""

from __future__ import annotations

from pathlib import Path

import pytest

from multigrain.errors import SourceError
from multigrain.sources.judgments import read_qrels
from multigrain.storage.reading import Reading


def test_cells_that_are_quoted_from_end_to_end_lose_their_quotes(tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_text('"query-id"\t"corpus-id"\t"score"\n"q 1"\t"d ""1"""\t2\nq2\td2\t"1"\n')

    assert read_qrels(path) == {"q 1": {'d "1"': 2}, "q2": {"d2": 1}}

    path.write_text('"q1"\t"d1"\t"1"\n')

    assert read_qrels(path) == {"q1": {"d1": 1}}


@pytest.mark.parametrize(("grades", "told"), [((1, 5, 2), True), ((0, 5, 2), False), ((1, 2, 2), False)])
def test_a_scale_on_which_nothing_is_0_is_told(tmp_path: Path, grades: tuple[int, ...], told: bool) -> None:
    path = tmp_path / "test.tsv"
    path.write_text("".join(f"q\td{number}\t{grade}\n" for number, grade in enumerate(grades)))
    reading = Reading("judgments")

    assert list(read_qrels(path, reading=reading)["q"].values()) == list(grades)

    line = "test.tsv: grades from 1 to 5, none of them 0: each judged document counts as relevant"
    assert any(each.startswith(line) for each in reading.lines("test.tsv")) is told


def test_a_part_of_a_grade_is_refused_with_what_grades_are(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("q\td\t0.5\n")

    with pytest.raises(SourceError, match=r"grade '0\.5' is not a whole number; grades are 0 \(not relevant\), 1, 2"):
        read_qrels(tmp_path / "test.tsv")
