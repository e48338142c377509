"""One verdict over base, tuned model and rivals, by the rule that decides everything else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.evaluation.choice import Choice, advise, choose_model, over, rival_lines
from multigrain.evaluation.results import EvaluationResults, ModelScores, SetResult, read_results, write_results
from multigrain.evaluation.retrieval import BM25Retriever, HybridRetriever, evaluate_retriever
from multigrain.evaluation.rival import Rival, RivalScores
from multigrain.evaluation.sets.retrieval_set import HUMAN_TITLES, SYNTHETIC_ESTIMATE, EvaluationSet
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.verdict import Verdict, conclusions_of, decide
from multigrain.mining.best import NO_ROW
from multigrain.report.headline import headline

UP, DOWN = PairedDifference(0.05, 0.03, 0.07, 0.0001), PairedDifference(-0.05, -0.07, -0.03, 0.0001)
OPEN = PairedDifference(0.004, -0.03, 0.04, 0.7)
DIFFERENCES = st.sampled_from([UP, DOWN, OPEN])


def _rival(name: str, over_base: PairedDifference, over_tuned: PairedDifference, *, tunable: bool = True) -> Rival:
    scores = RivalScores(0.5 + over_base.mean, {}, {"base": over_base, "tuned": over_tuned})
    return Rival(name, name, tunable, {"test": scores})


def _results(tuned: PairedDifference, *rivals: Rival, chosen: str = "tuned") -> EvaluationResults:
    models = {"base": ModelScores(0.5), "tuned": ModelScores(0.5 + tuned.mean)}
    test = SetResult("test", "test", HUMAN_TITLES, 300, 900, models, {"tuned": tuned})
    return EvaluationResults(chosen, ("base", "tuned"), (test,), 1_000, 0.95, 1, rivals=rivals)


@pytest.mark.parametrize(
    ("tuned", "rival", "choice"),
    [
        (UP, None, Choice.TAKE_TUNED),
        (OPEN, None, Choice.KEEP_BASE),
        (DOWN, None, Choice.KEEP_BASE),
        (UP, _rival("other", DOWN, DOWN), Choice.TAKE_TUNED),
        (UP, _rival("other", UP, UP), Choice.TAKE_RIVAL),
        (UP, _rival("other", UP, OPEN), Choice.TUNE_RIVAL),
        (UP, _rival("other", UP, DOWN), Choice.TAKE_TUNED),
        (UP, _rival("bm25", UP, OPEN, tunable=False), Choice.TAKE_TUNED),
        (UP, _rival("bm25", UP, UP, tunable=False), Choice.TAKE_RIVAL),
        (OPEN, _rival("other", UP, OPEN), Choice.TAKE_RIVAL),
        (OPEN, _rival("other", OPEN, UP), Choice.KEEP_BASE),
    ],
)
def test_the_four_verdicts(tuned: PairedDifference, rival: Rival | None, choice: Choice) -> None:
    results = _results(tuned, *([] if rival is None else [rival]))
    chosen = choose_model(results, conclusions_of(results))

    assert chosen is not None
    assert chosen.choice is choice
    named = {Choice.KEEP_BASE: "base", Choice.TAKE_TUNED: "tuned"}
    assert chosen.model == named.get(choice, rival.name if rival else "")
    assert headline(results).choice == (chosen if rival else None)


def test_a_rival_on_few_clusters_is_told_with_that_beside_its_interval() -> None:
    results = _results(OPEN, _rival("bm25", OPEN, UP, tunable=False))
    few = replace(results, sets=(replace(results.sets[0], queries=17, clusters=5),))
    assert list(rival_lines(few)) == [
        "test: rival bm25 0.504 (+0.4 [−3.0, 4.0], too few clusters (5) against base, +5.0 [3.0, 7.0] against tuned, "
        "in points)"
    ]


def test_what_a_rival_of_every_run_is_is_said() -> None:
    results = _results(OPEN, _rival("hybrid", UP, UP, tunable=False))
    chosen = choose_model(results, conclusions_of(results))
    assert "BM25 and the model of model/ together" in str(chosen)


@given(DIFFERENCES, st.lists(st.tuples(DIFFERENCES, DIFFERENCES, st.booleans()), max_size=4))
def test_rivals_change_nothing_of_what_is_claimed_of_the_run_and_the_words_agree(
    tuned: PairedDifference, drawn: list[tuple[PairedDifference, PairedDifference, bool]]
) -> None:
    rivals = [_rival(f"r{n}", base, own, tunable=tunable) for n, (base, own, tunable) in enumerate(drawn)]
    alone, beside = _results(tuned), _results(tuned, *rivals)
    conclusions = conclusions_of(beside)

    def claims(results: EvaluationResults) -> list[tuple[str, Verdict, float]]:
        return [(each.model, each.verdict, each.adjusted_p) for each in conclusions_of(results)]

    assert claims(alone) == claims(beside)
    assert decide(alone, conclusions_of(alone)) == decide(beside, conclusions)
    chosen = choose_model(beside, conclusions)
    assert chosen is not None
    taken = chosen.choice is Choice.TAKE_RIVAL
    assert (chosen.choice is Choice.TAKE_TUNED) <= (decide(beside, conclusions) == "use")
    assert ("; use it" in advise(beside, conclusions)[1]) <= (not taken)
    if taken:
        own = "tuned" if decide(beside, conclusions) == "use" else "base"
        (found,) = [each for each in over(beside, own) if each.model == chosen.model]
        assert found.verdict is Verdict.BETTER


def test_written_queries_choose_no_rival_where_people_asked() -> None:
    results = _results(UP, _rival("other", OPEN, OPEN))
    written = replace(results.sets[0], name="made up", provenance=SYNTHETIC_ESTIMATE)
    scores = RivalScores(0.9, {}, {"base": UP, "tuned": UP})
    rival = replace(results.rivals[0], sets={**results.rivals[0].sets, "made up": scores})
    both = replace(results, sets=(written, *results.sets), rivals=(rival,))

    chosen = choose_model(both, conclusions_of(both))
    assert chosen is not None
    assert chosen.choice is Choice.TAKE_TUNED


def test_rivals_survive_the_file_and_a_file_without_them_is_read(tmp_path: Path) -> None:
    results = _results(UP, _rival("other", UP, OPEN), Rival("gone", "hub/gone", skipped="it is nowhere to be had"))
    write_results(tmp_path / "evaluation.json", results)

    assert read_results(tmp_path / "evaluation.json") == results


def test_nothing_is_said_without_a_test_set_or_a_choice() -> None:
    untested = _results(UP, _rival("other", UP, UP))
    validation = replace(untested, sets=(replace(untested.sets[0], role="validation"),))
    assert choose_model(validation, conclusions_of(validation)) is None
    assert choose_model(replace(untested, chosen=""), ()) is None


class Ranked:
    """A retriever with a ranking of its own."""

    def __init__(self, ranking: list[list[int]]) -> None:
        self.ranking = np.array(ranking, dtype=np.int64)

    def rank(self, queries: list[str], documents: list[str], depth: int) -> np.ndarray:
        return self.ranking[:, :depth]


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.permutations(range(n)), st.permutations(range(n)))))
def test_joined_rankings_hold_each_document_once_and_keep_what_both_agree_on(
    drawn: tuple[list[int], list[int]],
) -> None:
    first, second = drawn
    texts = ["x"] * len(first)
    joined = HybridRetriever([Ranked([first]), Ranked([second])]).rank(["q"], texts, len(first))[0].tolist()
    other_way = HybridRetriever([Ranked([second]), Ranked([first])]).rank(["q"], texts, len(first))[0].tolist()

    assert joined == other_way
    assert sorted(joined) == sorted(first)
    for better in first:
        for worse in first:
            if first.index(better) < first.index(worse) and second.index(better) < second.index(worse):
                assert joined.index(better) < joined.index(worse)
    assert HybridRetriever([Ranked([first]), Ranked([first])]).rank(["q"], texts, 3)[0].tolist() == first[:3]


def test_what_one_part_does_not_rank_is_taken_from_the_other(animals: EvaluationSet) -> None:
    bm25, missing = BM25Retriever(), Ranked([[NO_ROW] * 4] * 3)
    alone = evaluate_retriever(bm25, animals)

    assert evaluate_retriever(HybridRetriever([bm25, missing]), animals) == alone
    assert evaluate_retriever(bm25, replace(animals, corpus={**animals.corpus, "cat": "a bee"})) != alone
    assert evaluate_retriever(bm25, animals) == alone, "another corpus has an index of its own"


def test_the_reason_names_the_set_that_shows_it() -> None:
    results = _results(OPEN)
    models = {"base": ModelScores(0.5), "tuned": ModelScores(0.55)}
    large = SetResult("large", "test", HUMAN_TITLES, 3_000, 900, models, {"tuned": UP})
    results = replace(results, sets=(*results.sets, large))
    chosen = choose_model(results, conclusions_of(results))
    assert chosen is not None
    assert chosen.choice is Choice.TAKE_TUNED
    assert chosen.reason.startswith("it is better than the base model on large")


def test_a_rival_is_not_taken_on_lesser_evidence_than_decides() -> None:
    results = _results(UP, _rival("bm25", UP, UP))
    models = {"base": ModelScores(0.5), "tuned": ModelScores(0.55)}
    judged = SetResult("judged", "test", "people's judgments", 300, 900, models, {"tuned": UP})
    alone = replace(results, sets=(replace(results.sets[0], provenance=SYNTHETIC_ESTIMATE), judged))
    chosen = choose_model(alone, conclusions_of(alone))
    assert chosen is not None
    assert chosen.choice is Choice.TAKE_TUNED, "it was not scored on the set that decides"
