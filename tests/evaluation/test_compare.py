from __future__ import annotations

import numpy as np
import pytest

from multigrain.errors import EvaluationError
from multigrain.evaluation.compare import (
    CompareSettings,
    SetInfo,
    Verdict,
    biggest_changes,
    conclude,
    measure_rows,
    measure_similarities,
)
from multigrain.evaluation.results import QueryRow
from multigrain.evaluation.sets.sts import SimilaritySet

SETTINGS = CompareSettings(samples=500)


def row(model: str, query: int, ndcg: float, set_name: str = "own", **changes: object) -> QueryRow:
    values = {
        "recall_at_10": 1.0,
        "rank_of_first_relevant": 1,
        "top_ids": (f"{model}-top",),
        "relevant_ids": ("d",),
    } | changes
    return QueryRow(set=set_name, model=model, query_id=f"q{query}", query=f"query {query}", ndcg_at_10=ndcg, **values)


def rows(set_name: str, **models: np.ndarray) -> list[QueryRow]:
    return [
        row(name, query, float(score), set_name) for name, each in models.items() for query, score in enumerate(each)
    ]


def noisy(mean: float, spread: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.2, 0.6, count)
    return base, base + rng.normal(mean, spread, count)


@pytest.mark.parametrize(
    ("mean", "spread", "count", "expected"),
    [
        (0.05, 0.1, 400, Verdict.BETTER),
        (-0.05, 0.1, 400, Verdict.WORSE),
        (0.0, 0.02, 400, Verdict.EQUAL),
        (0.0, 0.3, 30, Verdict.UNDECIDED),
    ],
)
def test_the_verdict_says_what_the_data_bear(mean: float, spread: float, count: int, expected: Verdict) -> None:
    base, tuned = noisy(mean, spread, count)
    (found,) = conclude(measure_rows(rows("own", base=base, tuned=tuned), base="base", settings=SETTINGS), SETTINGS)
    assert found.verdict is expected
    assert (found.queries_needed is not None) == (expected is Verdict.UNDECIDED)
    assert found.measured.score - found.measured.base_score == pytest.approx(found.measured.difference.mean)
    assert found.measured.wins == np.count_nonzero(tuned > base)
    assert found.measured.losses == np.count_nonzero(tuned < base)


def test_as_many_queries_as_it_asked_for_are_enough() -> None:
    base, tuned = noisy(0.0, 0.1, 60)
    (few,) = conclude(measure_rows(rows("own", base=base, tuned=tuned), base="base", settings=SETTINGS), SETTINGS)
    assert few.verdict is Verdict.UNDECIDED
    base, tuned = noisy(0.0, 0.1, few.queries_needed * 2)
    (many,) = conclude(measure_rows(rows("own", base=base, tuned=tuned), base="base", settings=SETTINGS), SETTINGS)
    assert many.verdict is not Verdict.UNDECIDED


def test_many_looks_ask_for_more_evidence() -> None:
    base, tuned = noisy(0.02, 0.1, 80, seed=3)
    one = measure_rows(rows("first", base=base, tuned=tuned), base="base", settings=SETTINGS)
    assert conclude(one, SETTINGS)[0].verdict is Verdict.BETTER
    more = [
        each
        for seed in range(10, 20)
        for each in rows(f"s{seed}", **dict(zip(("base", "tuned"), noisy(0, 0.1, 80, seed), strict=True)))
    ]
    measured = measure_rows([*rows("first", base=base, tuned=tuned), *more], base="base", settings=SETTINGS)
    found = conclude(measured, SETTINGS)
    assert len(found) == 11
    assert found[0].adjusted_p > found[0].measured.difference.p_value
    assert found[0].verdict is Verdict.UNDECIDED


def test_validation_sets_do_not_judge_and_models_may_miss_a_set() -> None:
    base, tuned = noisy(0.05, 0.1, 50)
    given = [
        *rows("validation", base=base, tuned=tuned),
        *rows("test", base=base, tuned=tuned, other=base),
        *rows("unrelated", base=base, tuned=base),
    ]
    infos = {"validation": SetInfo("validation", "titles"), "test": SetInfo("test", "titles")}
    measured = measure_rows(given, base="base", sets=infos, settings=SETTINGS)
    assert [(each.set, each.model) for each in measured] == [
        ("test", "tuned"),
        ("test", "other"),
        ("unrelated", "tuned"),
    ]
    assert [each.role for each in measured] == ["test", "test", None]


def test_unknown_models_and_unequal_queries_are_refused() -> None:
    base, tuned = noisy(0, 0.1, 5)
    given = rows("own", base=base, tuned=tuned)
    with pytest.raises(EvaluationError, match="no model 'nope' in these results; they hold base, tuned"):
        measure_rows(given, base="nope", settings=SETTINGS)
    with pytest.raises(EvaluationError, match="'base' answered 5 queries and 'tuned' 4"):
        measure_rows(given[:-1], base="base", settings=SETTINGS)


def test_wins_and_losses_come_largest_first_and_ties_not_at_all() -> None:
    base, tuned = np.array([0.5, 0.0, 1.0, 0.3, 0.9]), np.array([0.6, 1.0, 0.2, 0.3, 0.8])
    wins, losses = biggest_changes(
        rows("own", base=base, tuned=tuned), set_name="own", base="base", model="tuned", limit=5
    )
    assert [each.query_id for each in wins] == ["q1", "q0"]
    assert [each.query_id for each in losses] == ["q2", "q4"]
    assert (losses[0].query, losses[0].base_top_id, losses[0].top_id) == ("query 2", "base-top", "tuned-top")
    assert (
        len(
            biggest_changes(rows("own", base=base, tuned=tuned), set_name="own", base="base", model="tuned", limit=1)[
                0
            ]
        )
        == 1
    )


def test_similarities_are_compared_by_rank_correlation() -> None:
    rng = np.random.default_rng(1)
    gold = rng.random(100)
    chosen = SimilaritySet("sts", "forgetting", "people", tuple((f"a{i}", f"b{i}") for i in range(100)), tuple(gold))
    found = measure_similarities(
        chosen, {"base": gold + rng.normal(0, 1, 100), "tuned": gold * 2}, base="base", settings=SETTINGS
    )
    (only,) = conclude(found, SETTINGS)
    assert only.measured.score == pytest.approx(1)
    assert only.measured.metric == "Spearman"
    assert only.verdict is Verdict.BETTER
    assert only.measured.wins is None
