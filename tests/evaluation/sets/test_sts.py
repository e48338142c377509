from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from multigrain.errors import EvaluationError
from multigrain.evaluation.sets.sts import (
    SimilaritySet,
    compare_similarities,
    evaluate_sts,
    read_sts,
    spearman,
)
from multigrain.evaluation.settings import CompareSettings

ROWS = [("a cat sleeps", "a cat naps", "4.5"), ("a dog barks", "a cat naps", "1"), ("an owl", "an owl", "5")]


def write(path: Path, rows=ROWS, header: str = "sentence1\tsentence2\tscore") -> Path:
    path.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n")
    return path


def test_the_score_is_scipys_on_the_encoders_cosines(word_hash, tmp_path: Path) -> None:
    found = read_sts(write(tmp_path / "sts.tsv"), name="s", role="forgetting")
    similarities = evaluate_sts(word_hash, found)
    left, right = (word_hash.encode_queries([pair[side] for pair in found.pairs]) for side in (0, 1))
    np.testing.assert_allclose(similarities, (left * right).sum(axis=1), rtol=1e-6)
    expected = stats.spearmanr([4.5, 1, 5], similarities).statistic
    assert spearman(np.array(found.gold), similarities) == pytest.approx(expected)
    assert similarities[2] == pytest.approx(1)


@pytest.mark.parametrize("label", ["is_paraphrase", "label", "relevance"])
@pytest.mark.parametrize("score", ["similarity", "score", "similarity_score"])
def test_a_similarity_goes_before_a_label_of_the_pair(tmp_path: Path, label: str, score: str) -> None:
    rows = [(one, two, given, str(number % 2)) for number, (one, two, given) in enumerate(ROWS)]
    path = write(tmp_path / "sts.tsv", rows, f"sentence1\tsentence2\t{score}\t{label}")

    assert read_sts(path, name="s", role="test").gold == (4.5, 1.0, 5.0)
    renamed = write(tmp_path / "labels.tsv", rows, f"sentence1\tsentence2\tnote\t{label}")
    assert read_sts(renamed, name="s", role="test").gold == (0.0, 1.0, 0.0)


def test_a_collapsed_model_orders_nothing() -> None:
    assert spearman(np.array([1.0, 2.0, 3.0]), np.full(3, 0.5)) == 0.0


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (ROWS, "a\tb\tscore", "sts.tsv:2: no column with the first sentence (sentence1, "),
        (ROWS, "Question\tAnswer\tscore", "sts.tsv:2: queries with their answers ('Question', 'Answer') are no set"),
        ([*ROWS, ("x", "y", "high")], None, "sts.tsv:5: score 'high' is not a number"),
        (
            [*ROWS, ("x", " ", "3")],
            None,
            "sts.tsv:5: no second sentence; 1 of 4 pairs would be left out",
        ),
        (ROWS[:2], None, "2 pairs; a rank correlation needs 3"),
        ([(one, two, "3") for one, two, _ in ROWS], None, "all equal or not finite"),
        ([*ROWS, ("x", "y", "inf")], None, "all equal or not finite"),
        ([*ROWS, ("x", "y", "nan")], None, "sts.tsv:5: no score; 1 of 4 pairs would be left out"),
    ],
)
def test_bad_files_get_one_line(tmp_path: Path, rows, header: str | None, message: str) -> None:
    path = write(tmp_path / "sts.tsv", rows, header or "sentence1\tsentence2\tscore")
    with pytest.raises(EvaluationError) as caught:
        read_sts(path, name="s", role="test")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_vectors_that_are_not_finite_are_refused(word_hash) -> None:
    word_hash.encode_queries = lambda texts: np.full((len(texts), 2), np.nan, dtype=np.float32)
    similarity_set = SimilaritySet("s", "test", "l", (("a", "b"), ("c", "d"), ("e", "f")), (1, 2, 3))
    with pytest.raises(EvaluationError, match="not finite"):
        evaluate_sts(word_hash, similarity_set)


def test_a_better_model_is_told_from_a_worse_and_a_model_equals_itself() -> None:
    rng = np.random.default_rng(0)
    gold = rng.random(300)
    good, bad = gold + rng.normal(0, 0.1, 300), gold + rng.normal(0, 1.0, 300)
    found = compare_similarities(gold, bad, good, CompareSettings(samples=400, seed=1))
    assert 0 < found.low < found.mean < found.high
    assert found.mean == pytest.approx(spearman(gold, good) - spearman(gold, bad))
    assert found.p_value < 0.01
    same = compare_similarities(gold, good, 2 * good - 1, CompareSettings(samples=200, seed=1))
    assert (same.mean, same.low, same.high, same.p_value) == pytest.approx((0, 0, 0, 1), abs=1e-9)


def test_chance_differences_are_called_significant_about_as_often_as_they_should() -> None:
    rng = np.random.default_rng(5)
    significant = 0
    for trial in range(60):
        gold = rng.random(60)
        one, two = gold + rng.normal(0, 0.5, 60), gold + rng.normal(0, 0.5, 60)
        significant += compare_similarities(gold, one, two, CompareSettings(samples=200, seed=trial)).p_value < 0.05
    assert significant <= 9


def test_a_pair_without_a_text_or_a_score_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [(f"sentence {number}", f"other {number}", str(number)) for number in range(10)]
    path = write(tmp_path / "sts.tsv", [*rows, ("x", " ", "3"), ("x", "y", "")], "sentence1\tsentence2\tscore")

    loaded = read_sts(path, name="s", role="test")

    assert len(loaded.pairs) == 10
    assert [note.split(";")[0] for note in loaded.notes] == [
        "sts.tsv: 1 of 12 pairs left out, no second sentence",
        "sts.tsv: 1 of 12 pairs left out, no score",
    ]
