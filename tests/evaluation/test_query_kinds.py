"""Kinds of queries: every query is in one slice of a kind, and no slice claims what the correction takes away."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.evaluation.query_kinds import (
    ENOUGH_CLUSTERS,
    TOO_FEW,
    conclude_slices,
    query_kinds,
    slice_lines,
    slice_sentence,
    slice_sets,
)
from multigrain.evaluation.results import EvaluationResults, read_results, unselected_results, write_results
from multigrain.evaluation.retrieval import SetScores, score_ranking
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.settings import CompareSettings

SETTINGS = CompareSettings(samples=1_000)


def asked(texts: list[str], **more: object) -> EvaluationSet:
    """A query a text, each with a document of its own."""
    corpus = {f"d{row}": f"document {row}" for row in range(len(texts))}
    queries = {f"q{row}": text for row, text in enumerate(texts)}
    return EvaluationSet(
        "s", "test", "people", corpus, queries, {f"q{row}": {f"d{row}": 1} for row in range(len(texts))}, **more
    )  # type: ignore[arg-type]


def scored(chosen: EvaluationSet, found: list[bool]) -> SetScores:
    answers = [next(iter(grades)) for grades in chosen.qrels.values()]
    ranking = {
        key: [answer] if right else [next(other for other in chosen.corpus if other != answer)]
        for key, answer, right in zip(chosen.queries, answers, found, strict=True)
    }
    return score_ranking(ranking, chosen)


def sliced(chosen: EvaluationSet, base: list[bool], tuned: list[bool]) -> EvaluationResults:
    scores = {"base": scored(chosen, base), "tuned": scored(chosen, tuned)}
    slices = slice_sets([(chosen, query_kinds(chosen), scores)], SETTINGS, base="base")
    return unselected_results(["base", "tuned"], (), SETTINGS, slices=slices)


TEXTS = st.lists(
    st.sampled_from(["cat", "how do cats sleep", "the cat that sleeps on the warm mat all day long", "sleepy cats?"]),
    min_size=20,
    max_size=60,
)


@settings(deadline=None, max_examples=25)
@given(texts=TEXTS, seed=st.integers(0, 1_000), gain=st.floats(0, 0.6))
def test_slices_divide_the_queries_and_claim_no_more_than_their_correction(
    texts: list[str], seed: int, gain: float
) -> None:
    rng = np.random.default_rng(seed)
    chosen = asked(texts, kinds={"team": {f"q{row}": str(row % 3) for row in range(len(texts))}})
    results = sliced(chosen, list(rng.random(len(texts)) < 0.4), list(rng.random(len(texts)) < 0.4 + gain))
    by_kind: dict[str, int] = {}
    for part in results.slices:
        by_kind[part.kind] = by_kind.get(part.kind, 0) + part.result.queries
    assert set(by_kind.values()) <= {len(texts)}
    assert "team" in by_kind
    concluded = conclude_slices(results, "tuned")
    tested = [each for each in concluded if each.conclusion is not None]
    for each in tested:
        assert each.slice.result.clusters is not None
        assert each.slice.result.clusters >= ENOUGH_CLUSTERS
        assert each.conclusion is not None
        assert each.conclusion.compared == len(tested)
        assert each.conclusion.adjusted_p >= each.conclusion.difference.p_value
        if each.is_claimed:
            assert each.conclusion.difference.p_value * len(tested) < 0.05 * len(tested)
            assert each.conclusion.difference.low * each.conclusion.difference.high > 0
    assert all(each.words == TOO_FEW for each in concluded if each.conclusion is None)


def test_a_difference_that_is_there_for_one_kind_alone_is_told_of_that_kind() -> None:
    texts = [f"how does part {row} work?" for row in range(150)] + [f"part {row}" for row in range(150)]
    rng = np.random.default_rng(1)
    base = list(rng.random(300) < 0.4)
    tuned = [right or (row < 150 and row % 3 == 0) for row, right in enumerate(base)]
    results = sliced(asked(texts), base, tuned)
    verdicts = {(each.slice.kind, each.slice.value): each.words for each in conclude_slices(results, "tuned")}
    assert verdicts["form", "questions"] == "better"
    assert verdicts["form", "no questions"] == "no difference that matters"
    sentence = slice_sentence(conclude_slices(results, "tuned"), "tuned")
    assert sentence.startswith("By kind of query: tuned is better for form: questions; length: 4 to 8 words, ")


def test_chance_makes_no_claim_of_twenty_kinds() -> None:
    """Models that do not differ: at 5%, one of twenty slices would be "significant" every time."""
    rng = np.random.default_rng(2)
    claims = 0
    for _ in range(40):
        chosen = asked(
            [f"word {row}" for row in range(200)],
            kinds={f"column {n}": {f"q{row}": str(rng.integers(2)) for row in range(200)} for n in range(10)},
        )
        results = sliced(chosen, list(rng.random(200) < 0.5), list(rng.random(200) < 0.5))
        claims += any(each.is_claimed for each in conclude_slices(results, "tuned"))
    assert claims <= 6, "5% of 40 are 2"


def test_queries_that_all_stay_as_they_are_say_nothing_where_they_are_few() -> None:
    chosen = asked([f"how {row}?" for row in range(40)] + [f"part {row}" for row in range(160)])
    same = [row % 2 == 0 for row in range(200)]
    words = {each.slice.value: each.words for each in conclude_slices(sliced(chosen, same, same), "tuned")}
    assert words["questions"] == TOO_FEW
    assert words["no questions"] == "no difference that matters"


def test_the_usual_kinds() -> None:
    chosen = asked(
        ["cat", "Wie schläft eine Katze?", "where the cat sleeps at night", "一只猫在睡觉吗？"] * 5,
        kinds={"rare": {"q0": "once"}, "many": {f"q{row}": str(row) for row in range(20)}},
    )
    kinds = query_kinds(chosen, seen={"q1", "q2"})
    assert [kinds["form"][f"q{row}"] for row in range(4)] == ["no questions", "questions", "questions", "questions"]
    assert [kinds["length"][f"q{row}"] for row in range(4)] == [
        "1 to 3 words", "4 to 8 words", "4 to 8 words", "4 to 8 words",
    ]  # fmt: skip
    assert kinds["documents"]["q1"] == "tuned on"
    assert "answers" not in kinds, "all have one"
    assert "rare" not in kinds, "of a kind with one value nothing can be compared"
    assert len(set(kinds["many"].values())) == 8, "the rarest of many values are put together"
    several = replace(chosen, qrels={**chosen.qrels, "q0": {f"d{row}": 1 for row in range(6)}})
    assert query_kinds(several)["answers"]["q0"] == "5 and more"


def test_languages_are_told_apart_where_there_are_several() -> None:
    english = ["The scheduler starts each job when its dependencies have finished."] * 10
    german = ["Der Planer startet jeden Auftrag, sobald seine Abhängigkeiten erledigt sind."] * 10
    kinds = query_kinds(asked(english + german))
    assert set(kinds["language"].values()) == {"en", "de"}
    assert "language" not in query_kinds(asked(english))


def test_slices_survive_the_file_and_are_a_table(tmp_path: Path) -> None:
    chosen = asked(["how now?", "brown | cow"] * 30, kinds={"te|am": {f"q{row}": "a|b" for row in range(30)}})
    results = sliced(replace(chosen, kinds={"te|am": {f"q{row}": "ab|"[row % 3] for row in range(60)}}), [True] * 60,
                     [row % 4 > 0 for row in range(60)])  # fmt: skip
    path = tmp_path / "evaluation.json"
    write_results(path, results)
    assert read_results(path) == results
    values = json.loads(path.read_text())
    assert {part["kind"] for part in values["slices"]} == {"form", "te|am"}
    del values["slices"], values["vector_sizes"]
    path.write_text(json.dumps(values))
    assert read_results(path).slices == (), "an earlier version's file has none"
    lines = list(slice_lines(results))
    assert all(line.replace("\\|", "").count("|") == 7 for line in lines if line.startswith("|"))


@pytest.mark.parametrize("text", ["cat", "owl house", "show me owls"])
def test_what_asks_nothing_is_no_question(text: str) -> None:
    assert query_kinds(asked([text, "why?"]))["form"]["q0"] == "no questions"


def test_one_model_alone_has_its_scores_by_kind_of_query() -> None:
    chosen = asked(["how do cats sleep", "sleepy cat", "what is it?", "the mat"])
    found = scored(chosen, [True, False, True, True])
    slices = slice_sets([(chosen, {"form": query_kinds(chosen)["form"]}, {"base": found})], SETTINGS, base="base")
    lines = list(slice_lines(unselected_results(["base"], (), SETTINGS, slices=slices)))

    assert lines[1:3] == ["| kind of query | queries | base |", "|---|---|---|"]
    assert lines[3:] == ["| s: form: no questions | 2 | 0.500 |", "| s: form: questions | 2 | 1.000 |"]
