from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from multigrain.ablation.page import render_ablation
from multigrain.ablation.render import to_csv, to_latex, to_markdown
from multigrain.ablation.table import AblationTable, ArmScores, build_table, effect_size
from multigrain.evaluation.settings import CompareSettings

SETS = {"validation": "validation", "test": "test"}


def scored(arm: str, seed: int, gain: float, deviation: float = 0.05, count: int = 120) -> ArmScores:
    rng = np.random.default_rng([seed, *arm.encode()])
    base = np.random.default_rng(0).uniform(0.3, 0.6, count)
    sets, bases = {}, {}
    for name in SETS:
        sets[name] = {f"q{n}": float(score) for n, score in enumerate(base + rng.normal(gain, deviation, count))}
        bases[name] = {f"q{n}": float(score) for n, score in enumerate(base)}
    return ArmScores(arm, {"schedule": arm}, seed, sets, bases, 10.0 + seed, 200)


def table(*scores: ArmScores, **options: object) -> AblationTable:
    return build_table(
        scores, axes=("schedule",), sets=SETS, reference="coarse", settings=CompareSettings(300), **options
    )


@pytest.fixture
def whole() -> AblationTable:
    runs = [scored(arm, seed, gain) for seed in (1, 2) for arm, gain in (("coarse", 0.05), ("ran_dom", 0.01))]
    return table(*runs, not_run=["reverse (seed 1)"], data_seconds=12.0, tokens=3000, cost=0.25)


def test_seeds_are_averaged_query_by_query(whole: AblationTable) -> None:
    (row, other) = whole.rows
    runs = [scored("coarse", seed, 0.05) for seed in (1, 2)]
    means = [np.mean(list(run.sets["test"].values())) for run in runs]
    assert whole.score("test", "coarse") == pytest.approx(np.mean(means))
    assert row.deviations["test"] == pytest.approx(np.std(means, ddof=1))
    assert whole.from_base.difference("test", "coarse").mean == pytest.approx(0.05, abs=0.02)
    assert (row.seeds, row.seconds) == (2, 11.5)
    assert whole.from_reference.difference("test", "coarse") is None, "the reference is not compared with itself"
    against = whole.from_reference.difference("test", other.arm)
    assert against.mean == pytest.approx(whole.score("test", other.arm) - whole.score("test", "coarse"))
    assert whole.from_reference.effect_sizes["test", other.arm] < 0


def test_one_seed_has_no_deviation_and_a_missing_reference_no_comparison() -> None:
    alone = table(scored("random", 1, 0.01))
    assert alone.rows[0].deviations == {}
    assert alone.from_reference.difference("test", "random") is None


def test_validation_marks_the_best_arm_but_claims_nothing(whole: AblationTable) -> None:
    assert [row.chosen for row in whole.rows] == [True, False]
    for row in whole.rows:
        assert whole.from_base.conclusion("validation", row.arm) is None
        test = whole.from_base.conclusion("test", row.arm)
        assert test.adjusted_p >= test.difference.p_value
    assert "✓" in to_markdown(whole)


def test_the_validation_sets_that_are_named_rank_and_the_others_are_shown_alone(whole: AblationTable) -> None:
    assert whole.ranked_by == ("validation",)
    other = scored("other", 1, 0.0)
    runs = [scored("coarse", 1, 0.05), other]
    faq = {"coarse": 0.2, "other": 0.9}
    runs = [
        replace(
            run,
            sets={**run.sets, "faq": dict.fromkeys(run.sets["test"], faq[run.arm])},
            base={**run.base, "faq": run.base["test"]},
        )
        for run in runs
    ]
    found = build_table(
        runs,
        axes=("schedule",),
        sets={**SETS, "faq": "validation"},
        reference="coarse",
        settings=CompareSettings(300),
        ranked_by=("faq",),
    )
    assert [row.chosen for row in found.rows] == [False, True]
    assert "ranked first by nDCG@10 on validation set faq, which claims nothing" in to_markdown(found)
    page = render_ablation(found)
    assert "Validation: <bdi>faq</bdi>" in page
    assert page.count("Ranks the arms") == page.count("it neither ranks the arms nor claims anything") == 1


def test_more_arms_ask_for_more_evidence() -> None:
    alone = table(scored("coarse", 1, 0.013)).from_base.conclusion("test", "coarse")
    crowd = table(scored("coarse", 1, 0.013), *(scored(f"arm{n}", 1, 0.0) for n in range(20)))
    crowded = crowd.from_base.conclusion("test", "coarse")
    assert crowded.difference == alone.difference
    assert crowded.adjusted_p > alone.adjusted_p


def test_effect_sizes_are_cohens_d_of_the_differences() -> None:
    differences = np.array([0.1, 0.3, 0.2])
    assert effect_size(differences) == pytest.approx(0.2 / 0.1)
    assert effect_size(np.zeros(5)) == 0


def test_markdown_is_one_table_with_notes(whole: AblationTable) -> None:
    text = to_markdown(whole)
    lines = text.splitlines()
    columns = {line.count("|") for line in lines[:4]}
    assert len(columns) == 1
    assert "coarse" in lines[2]
    assert "Not run, for the budget: reverse (seed 1)." in text
    assert "3,000 tokens, $0.25" in text


def test_csv_has_every_figure(whole: AblationTable) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(whole))))
    assert len(rows) == 4
    first = next(row for row in rows if row["schedule"] == "coarse" and row["set"] == "test")
    assert float(first["ndcg_at_10"]) == pytest.approx(whole.score("test", "coarse"))
    assert float(first["from_base_low"]) == whole.from_base.difference("test", "coarse").low
    assert first["from_reference_mean"] == ""


def test_latex_escapes_and_stars_what_is_claimed(whole: AblationTable) -> None:
    text = to_latex(whole)
    assert r"ran\_dom" in text
    assert "^{*}" in text
    assert text.count(r"\\") == 3
    assert "✓" not in text
