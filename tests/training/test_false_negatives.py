"""Negatives that a teacher takes for answers give way to passages that it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from multigrain.config import TrainingConfig
from multigrain.records import GradedExample, Origin, Passage, ScoreScale
from multigrain.training.false_negatives import JudgedRows, without_false_negatives
from multigrain.training.train import training_sources

from .graded import examples


def row(
    scores: tuple[float | None, ...], candidates: tuple[float | None, ...] = (), positive: float = 2.0
) -> GradedExample:
    plain = examples(1)[0]
    return replace(
        plain,
        scale=ScoreScale.LOGIT,
        positive_score=positive,
        negatives=tuple(replace(own, score=score) for own, score in zip(plain.negatives, scores, strict=True)),  # type: ignore[arg-type]
        candidates=tuple(Passage(f"c{n}", Origin.MINED, 0.5, score) for n, score in enumerate(candidates)),
    )


def test_the_hardest_passage_below_takes_the_place_of_the_hardest_false_negative() -> None:
    judged = without_false_negatives(row((-3, -2, 1.9, 5.0), candidates=(1.0, 0.5, 4.0, None)), margin=0.5)

    assert [negative.text for negative in judged.negatives[2:]] == ["c1", "c0"]
    assert [negative.level for negative in judged.negatives] == [1, 2, 3, 4]
    assert judged.negatives[:2] == row((-3, -2, 1.9, 5.0)).negatives[:2]


@pytest.mark.parametrize(
    "whole",
    [row((-3, -2, -1, 1.5)), row((3, 3, 3, 3), candidates=(None, 3)), replace(row((9, 9, 9, 9)), positive_score=None)],
)
def test_a_row_without_false_negatives_or_without_others_stays(whole: GradedExample) -> None:
    assert without_false_negatives(whole, margin=0.5) == whole


def test_training_sees_the_judged_rows(tmp_path: Path) -> None:
    rows = [replace(row((-3, -2, -1, 5.0), candidates=(0.0,)), id=str(n), query=f"river w{n}") for n in range(3)]
    config = TrainingConfig(teacher="judge", teacher_margin=0.0, schedule="fixed-4")  # type: ignore[arg-type]

    (source,) = training_sources(rows, config, tmp_path, seed=1)

    assert {each["negative"] for each in list(source.dataset)[-3:]} == {"c0"}
    assert len(JudgedRows(rows, 0.0)[1:]) == 2
