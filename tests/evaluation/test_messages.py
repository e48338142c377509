from __future__ import annotations

from dataclasses import replace

from multigrain.evaluation.compare import CompareSettings, Conclusion, Measured, QueryChange, Verdict
from multigrain.evaluation.messages import describe_change, describe_conclusion
from multigrain.evaluation.significance import PairedDifference

MEASURED = Measured(
    set="own",
    role="test",
    label="human-written titles",
    metric="nDCG@10",
    base="base",
    model="tuned",
    queries=1200,
    base_score=0.832,
    score=0.858,
    difference=PairedDifference(0.026, 0.018, 0.033, 0.0001),
    wins=300,
    losses=100,
)


def test_a_difference_is_said_with_all_its_figures() -> None:
    said = describe_conclusion(
        Conclusion(MEASURED, 0.0004, Verdict.BETTER, None), compared=4, settings=CompareSettings()
    )
    assert said == (
        "own (human-written titles, 1,200 queries): tuned is better than base. nDCG@10 0.832 → 0.858 (+2.6 points, "
        "95% interval +1.8 to +3.3); p = 0.0004, corrected for 4 comparisons; wins 300, losses 100, ties 800."
    )


def test_too_few_queries_are_said_plainly() -> None:
    said = describe_conclusion(
        Conclusion(MEASURED, 0.2, Verdict.UNDECIDED, 2741), compared=1, settings=CompareSettings()
    )
    assert "not enough queries to tell tuned from base; to be sure within 1 point takes about 2,700" in said
    assert "corrected" not in said
    equal = describe_conclusion(Conclusion(MEASURED, 0.2, Verdict.EQUAL, None), compared=1, settings=CompareSettings())
    assert "no difference that matters between tuned and base" in equal


def test_pairs_have_no_wins() -> None:
    measured = replace(MEASURED, metric="Spearman", wins=None, losses=None, label=None)
    said = describe_conclusion(Conclusion(measured, 0.2, Verdict.EQUAL, None), compared=1, settings=CompareSettings())
    assert said.startswith("own (1,200 pairs)")
    assert "wins" not in said


def test_a_change_shows_the_answer_and_what_stood_above_it() -> None:
    change = QueryChange("own", "q", "how to\nsort", ("a",), 1.0, 0.5, 1, 2, "a", "b")
    texts = {"a": "sorts a list", "b": "x" * 400}
    first, answer, top = describe_change(change, texts.get)
    assert first == "'how to sort': nDCG@10 1.00 → 0.50, first answer at rank 1 → rank 2"
    assert answer.strip() == "answer      a: sorts a list"
    assert top.strip().startswith("its top     b: xxx")
    assert len(top) < 200
    lost = replace(change, rank=None, top_id=None, ndcg=0.0)
    assert describe_change(lost, texts.get)[0].endswith("rank 1 → no rank")
