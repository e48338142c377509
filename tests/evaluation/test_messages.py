from __future__ import annotations

from dataclasses import replace

from multigrain.evaluation.described import describe_conclusion
from multigrain.evaluation.per_query import QueryRow
from multigrain.evaluation.query_changes import QueryChange, describe_change
from multigrain.evaluation.results import ModelScores, SetResult
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.verdict import Conclusion, Verdict

RESULT = SetResult(
    name="own",
    role="test",
    provenance="human-written titles",
    queries=1200,
    documents=2000,
    models={"base": ModelScores(0.832), "tuned": ModelScores(0.858)},
    delta={"tuned": PairedDifference(0.026, 0.018, 0.033, 0.0001)},
)
CONCLUSION = Conclusion(RESULT, "base", "tuned", 0.0004, 4, Verdict.BETTER, None, wins=300, losses=100)
SETTINGS = CompareSettings()


def test_a_difference_is_said_with_all_its_figures() -> None:
    assert describe_conclusion(CONCLUSION, SETTINGS) == (
        "own (human-written titles, 1,200 queries): tuned is better than base. nDCG@10 0.832 → 0.858 (+2.6 points, "
        "95% interval +1.8 to +3.3); p = 0.0004, corrected for 4 comparisons; wins 300, losses 100, ties 800."
    )


def test_too_few_queries_are_said_plainly() -> None:
    undecided = replace(CONCLUSION, compared=1, adjusted_p=0.2, verdict=Verdict.UNDECIDED, queries_needed=2741)
    said = describe_conclusion(undecided, SETTINGS)
    assert "not enough queries to tell tuned from base; to be sure within 1 point takes about 2,700" in said
    assert "corrected" not in said
    equal = replace(CONCLUSION, verdict=Verdict.EQUAL)
    assert "no difference that matters between tuned and base" in describe_conclusion(equal, SETTINGS)


def test_pairs_have_no_wins() -> None:
    result = replace(RESULT, metric="Spearman", provenance=None)
    said = describe_conclusion(replace(CONCLUSION, result=result, wins=None, losses=None), SETTINGS)
    assert said.startswith("own (1,200 pairs)")
    assert "wins" not in said


def test_a_change_shows_the_answer_and_what_stood_above_it() -> None:
    before = QueryRow("own", "base", "q", "how to\nsort", 1.0, 1.0, 1, ("a",), ("a",))
    after = replace(before, model="tuned", ndcg_at_10=0.5, rank_of_first_relevant=2, top_ids=("b", "a"))
    texts = {"a": "sorts a list", "b": "x" * 400}
    first, answer, top = describe_change(QueryChange(before, after), texts.get)
    assert first == "'how to sort': nDCG@10 1.00 → 0.50, first answer at rank 1 → rank 2"
    assert answer.strip() == "answer      a: sorts a list"
    assert top.strip().startswith("its top     b: xxx")
    assert len(top) < 200
    lost = replace(after, rank_of_first_relevant=None, top_ids=(), ndcg_at_10=0.0)
    assert describe_change(QueryChange(before, lost), texts.get)[0].endswith("rank 1 → no rank")
