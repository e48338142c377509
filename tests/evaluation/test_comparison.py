from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multigrain.errors import EvaluationError
from multigrain.evaluation.comparison import Comparison, compare_stored
from multigrain.evaluation.per_query import QueryRow, write_per_query
from multigrain.evaluation.query_changes import pair_queries, rows_by_query, summarise_changes
from multigrain.evaluation.results import (
    EvaluationResults,
    ModelScores,
    SetResult,
    summarise_similarity,
    write_results,
)
from multigrain.evaluation.sets.sts import SimilaritySet
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.verdict import Verdict, conclude

SETTINGS = CompareSettings(samples=500)


def row(model: str, query: int, ndcg: float, set_name: str = "own") -> QueryRow:
    return QueryRow(set_name, model, f"q{query:03}", f"query {query}", ndcg, 1.0, 1, (f"{model}-top",), ("d",))


def rows(set_name: str, **models: np.ndarray) -> list[QueryRow]:
    return [
        row(name, query, float(score), set_name) for name, each in models.items() for query, score in enumerate(each)
    ]


def noisy(mean: float, deviation: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.2, 0.6, count)
    return base, base + rng.normal(mean, deviation, count)


def compared(folder: Path, given: list[QueryRow], *, base: str = "base") -> Comparison:
    write_per_query(folder / "per_query.parquet", given)
    return compare_stored(folder, base=base, samples=500)


@pytest.mark.parametrize(
    ("mean", "deviation", "count", "expected"),
    [
        (0.05, 0.1, 400, Verdict.BETTER),
        (-0.05, 0.1, 400, Verdict.WORSE),
        (0.0, 0.02, 400, Verdict.EQUAL),
        (0.0, 0.3, 30, Verdict.UNDECIDED),
    ],
)
def test_the_verdict_says_what_the_data_bear(
    tmp_path: Path, mean: float, deviation: float, count: int, expected: Verdict
) -> None:
    base, tuned = noisy(mean, deviation, count)
    (only,) = compared(tmp_path, rows("own", base=base, tuned=tuned)).conclusions
    assert only.verdict is expected
    assert (only.queries_needed is not None) == (expected is Verdict.UNDECIDED)
    assert only.score - only.base_score == pytest.approx(only.difference.mean)
    assert only.wins == np.count_nonzero(tuned > base)
    assert only.losses == np.count_nonzero(tuned < base)


def test_as_many_queries_as_it_asked_for_are_enough(tmp_path: Path) -> None:
    base, tuned = noisy(0.0, 0.1, 60)
    (few,) = compared(tmp_path, rows("own", base=base, tuned=tuned)).conclusions
    assert few.verdict is Verdict.UNDECIDED
    base, tuned = noisy(0.0, 0.1, few.queries_needed * 2)
    (many,) = compared(tmp_path, rows("own", base=base, tuned=tuned)).conclusions
    assert many.verdict is not Verdict.UNDECIDED


def test_many_looks_ask_for_more_evidence(tmp_path: Path) -> None:
    base, tuned = noisy(0.02, 0.1, 80, seed=3)
    first = rows("first", base=base, tuned=tuned)
    assert compared(tmp_path, first).conclusions[0].verdict is Verdict.BETTER
    more = [
        each
        for seed in range(10, 20)
        for each in rows(f"s{seed}", **dict(zip(("base", "tuned"), noisy(0, 0.1, 80, seed), strict=True)))
    ]
    conclusions = compared(tmp_path, [*first, *more]).conclusions
    assert len(conclusions) == conclusions[0].compared == 11
    assert conclusions[0].adjusted_p > conclusions[0].difference.p_value
    assert conclusions[0].verdict is Verdict.UNDECIDED
    assert conclusions[0].is_undone_by_correction


def test_validation_sets_do_not_judge_and_models_may_miss_a_set(tmp_path: Path) -> None:
    base, tuned = noisy(0.05, 0.1, 50)
    given = [
        *rows("validation", base=base, tuned=tuned),
        *rows("test", base=base, tuned=tuned, other=base),
        *rows("unrelated", base=base, tuned=base),
    ]
    scores, delta = {"base": ModelScores(0.1)}, {"tuned": PairedDifference(0.1, 0.1, 0.1, 0.1)}
    sets = [SetResult(name, name, "titles", 50, 60, scores, delta) for name in ("validation", "test")]
    results = EvaluationResults("tuned", ("base", "tuned", "other"), tuple(sets), 100, 0.95, 1)
    write_results(tmp_path / "evaluation.json", results)
    conclusions = compared(tmp_path, given).conclusions
    assert [(each.result.name, each.model, each.result.role) for each in conclusions] == [
        ("test", "tuned", "test"),
        ("test", "other", "test"),
        ("unrelated", "tuned", None),
    ]


def test_unknown_models_and_unequal_queries_are_refused(tmp_path: Path) -> None:
    base, tuned = noisy(0, 0.1, 5)
    given = rows("own", base=base, tuned=tuned)
    with pytest.raises(EvaluationError, match="no model 'nope' in these results; they hold base, tuned"):
        compared(tmp_path, given, base="nope")
    with pytest.raises(EvaluationError, match="'base' answered 5 queries and 'tuned' 4"):
        compared(tmp_path, given[:-1])


def test_what_was_written_stands_until_other_settings_are_asked_for(tmp_path: Path) -> None:
    base, tuned = noisy(0.05, 0.1, 50)
    write_per_query(tmp_path / "per_query.parquet", rows("test", base=base, tuned=tuned))
    written = PairedDifference(0.05, 0.049, 0.051, 0.01)
    scores = {"base": ModelScores(0.4, {"recall_at_10": 0.5}), "tuned": ModelScores(0.45)}
    sets = (SetResult("test", "test", "titles", 50, 60, scores, {"tuned": written}),)
    write_results(tmp_path / "evaluation.json", EvaluationResults("tuned", ("base", "tuned"), sets, 100, 0.9, 7))

    as_written = compare_stored(tmp_path, base="base", smallest=0.2)
    assert as_written.settings == CompareSettings(samples=100, confidence=0.9, smallest=0.2, seed=7)
    assert as_written.conclusions[0].difference == written
    again = compare_stored(tmp_path, base="base", samples=101)
    assert again.conclusions[0].difference != written
    other = compare_stored(tmp_path, base="tuned")
    assert other.conclusions[0].difference.mean == pytest.approx(-float((tuned - base).mean()))


def test_wins_and_losses_come_largest_first_and_ties_not_at_all() -> None:
    base, tuned = np.array([0.5, 0.0, 1.0, 0.3, 0.9]), np.array([0.6, 1.0, 0.2, 0.3, 0.8])
    table = rows_by_query(rows("own", base=base, tuned=tuned))
    changes = pair_queries(table, set_name="own", base="base", model="tuned")
    moved = summarise_changes(changes, limit=5)
    assert [each.after.query_id for each in moved.wins] == ["q001", "q000"]
    assert [each.after.query_id for each in moved.losses] == ["q002", "q004"]
    assert (moved.better, moved.same, moved.worse, moved.total) == (2, 1, 2, 5)
    assert [each.wrong_id for each in (moved.wins[0], moved.losses[0])] == ["base-top", "tuned-top"]
    assert len(summarise_changes(changes, limit=1).wins) == 1


def test_similarities_are_compared_by_rank_correlation() -> None:
    rng = np.random.default_rng(1)
    gold = rng.random(100)
    chosen = SimilaritySet("sts", "forgetting", "people", tuple((f"a{i}", f"b{i}") for i in range(100)), tuple(gold))
    result = summarise_similarity(chosen, {"base": gold + rng.normal(0, 1, 100), "tuned": gold * 2}, SETTINGS)
    (only,) = conclude([result], base="base", confidence=0.95)
    assert only.score == pytest.approx(1)
    assert (result.metric, result.unit) == ("Spearman", "pairs")
    assert only.verdict is Verdict.BETTER
    assert only.wins is None
