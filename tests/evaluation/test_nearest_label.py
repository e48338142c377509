"""Macro-F1 of classification by the nearest label."""

from __future__ import annotations

import random

import pytest
from sklearn.metrics import f1_score

from multigrain.evaluation.nearest_label import macro_f1
from multigrain.evaluation.per_query import QueryRow


def row(number: int, gold: tuple[str, ...], first: str, model: str = "base") -> QueryRow:
    top = (first, *(name for name in "abc" if name != first))
    return QueryRow("test", model, f"q{number}", "text", 0.0, 0.0, None, top, gold)


def test_every_label_counts_the_same_however_rare_it_is() -> None:
    rows = [row(n, ("a",), "a") for n in range(98)] + [row(98, ("b",), "a"), row(99, ("c",), "c")]

    found = macro_f1(rows)["test"]["base"]

    assert found.value == pytest.approx((2 * 98 / (98 + 99) + 0 + 1) / 3)
    assert found.low < found.value < found.high


def test_it_is_scikit_learns_figure_where_texts_have_one_label() -> None:
    draw = random.Random(2)
    gold = [draw.choice("abc") for _ in range(60)]
    given = [label if draw.random() < 0.6 else draw.choice("abc") for label in gold]
    rows = [row(n, (label,), first) for n, (label, first) in enumerate(zip(gold, given, strict=True))]

    found = macro_f1([*rows, *(row(n, (label,), label, "tuned") for n, label in enumerate(gold))])["test"]

    assert found["base"].value == pytest.approx(f1_score(gold, given, average="macro"))
    assert found["tuned"].value == found["tuned"].low == 1.0


def test_of_several_labels_one_can_be_found() -> None:
    found = macro_f1([row(0, ("a", "b"), "a")])["test"]["base"]

    assert found.value == 0.5
