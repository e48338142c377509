from __future__ import annotations

from pathlib import Path

import pytest

from multigrain.errors import EvaluationError
from multigrain.evaluation.labelling.labels import LabelSession, pool, score_labels
from multigrain.evaluation.settings import CompareSettings

QUERIES = {f"q{number}": f"ask {number}" for number in range(8)}
TEXTS = {f"d{number}": f"text {number}" for number in range(40)}
RANKINGS = {
    # The first model puts the answer (d<number>) first, the second puts it second.
    "base": {f"q{n}": [f"d{n}", f"d{n + 8}", f"d{n + 16}"] for n in range(8)},
    "tuned": {f"q{n}": [f"d{n + 24}", f"d{n}", f"d{n + 16}"] for n in range(8)},
}
SETTINGS = CompareSettings(samples=200)


def judged(path: Path, depth: int = 2, limit: int = 8, answer=lambda query, document: 2 * (query[1:] == document[1:])):
    session = LabelSession(pool(RANKINGS, QUERIES, TEXTS, limit=limit, depth=depth, seed=1), path)
    while (following := session.next()) is not None:
        query, candidate = following
        session.judge(query, candidate, answer(query.query_id, candidate.document_id))
    return session


def score(session: LabelSession, depth: int = 2):
    return score_labels(
        RANKINGS, session, base="base", others=["tuned"], set_name="own", depth=depth, settings=SETTINGS
    )


def test_the_pool_holds_what_both_found_and_does_not_say_who() -> None:
    pooled = pool(RANKINGS, QUERIES, TEXTS, limit=5, depth=2, seed=1)
    assert len(pooled) == 5
    for each in pooled:
        number = int(each.query_id[1:])
        assert {candidate.document_id for candidate in each.candidates} == {
            f"d{number}",
            f"d{number + 8}",
            f"d{number + 24}",
        }
    again = pool(RANKINGS, QUERIES, TEXTS, limit=5, depth=2, seed=1)
    assert again == pooled
    swapped = pool({"tuned": RANKINGS["base"], "base": RANKINGS["tuned"]}, QUERIES, TEXTS, limit=5, depth=2, seed=1)
    assert swapped == pooled, "the order must not depend on who found what"
    firsts = {
        int(each.candidates[0].document_id[1:]) // 8
        for each in pool(RANKINGS, QUERIES, TEXTS, limit=8, depth=2, seed=1)
    }
    assert len(firsts) > 1, "shuffled"


def test_the_better_model_scores_better(tmp_path: Path) -> None:
    found = score(judged(tmp_path / "labels.jsonl"))
    measured = found.conclusions[0]
    assert (measured.base_score, measured.losses, measured.result.queries) == (1.0, 8, 8)
    assert measured.score == pytest.approx(0.6309, abs=1e-3)  # 1 / log2(3): the answer stands second
    assert measured.result.metric == "nDCG@2"
    assert found.conclusions[0].verdict.value == "worse"


def test_a_judge_may_stop_anywhere_and_go_on(tmp_path: Path) -> None:
    path = tmp_path / "labels" / "own.jsonl"
    pooled = pool(RANKINGS, QUERIES, TEXTS, limit=8, depth=2, seed=1)
    asked = []
    for _ in range(24):  # a new session for every single answer
        session = LabelSession(pooled, path)
        query, candidate = session.next()
        asked.append((query.query_id, candidate.document_id))
        session.judge(query, candidate, 2 * (query.query_id[1:] == candidate.document_id[1:]))
    assert LabelSession(pooled, path).next() is None
    assert len(set(asked)) == 24
    assert score(LabelSession(pooled, path)) == score(judged(tmp_path / "at-once.jsonl"))


def test_undo_takes_back_one_answer_and_skip_a_whole_query(tmp_path: Path) -> None:
    session = LabelSession(pool(RANKINGS, QUERIES, TEXTS, limit=3, depth=2, seed=1), tmp_path / "labels.jsonl")
    assert session.undo() is False
    query, candidate = session.next()
    session.judge(query, candidate, 2)
    assert session.next() != (query, candidate)
    assert session.undo() is True
    assert session.next() == (query, candidate)
    session.skip(query)
    assert session.next()[0] != query
    assert (session.remaining, session.skipped) == (6, 1)
    assert query.query_id not in session.grades()
    session.undo()
    assert session.remaining == 9


def test_a_query_counts_when_all_its_documents_are_judged_and_something_answers(tmp_path: Path) -> None:
    session = judged(tmp_path / "labels.jsonl", limit=3, answer=lambda query, document: 0)
    found = score(session)
    assert (found.conclusions, found.judged, found.unanswered) == ((), 3, 3)
    session.undo()
    assert score(session).judged == 2


def test_an_answer_counts_only_for_the_text_that_was_judged(tmp_path: Path) -> None:
    judged(tmp_path / "labels.jsonl", limit=3)
    changed = TEXTS | {"d0": "something else"}
    pooled = pool(RANKINGS, QUERIES, changed, limit=8, depth=2, seed=1)
    session = LabelSession(pooled, tmp_path / "labels.jsonl")
    assert any(candidate.document_id == "d0" for each in pooled for candidate in each.candidates)
    while (following := session.next()) is not None:
        session.judge(*following, 0)
    assert len(session.grades()["q0"]) == 3
    assert session.grades()["q0"]["d0"] == 0


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"query": 1}\n')
    with pytest.raises(EvaluationError, match="not a file of judgments"):
        LabelSession([], path)
    with pytest.raises(EvaluationError, match="its text is not here"):
        pool(RANKINGS, QUERIES, {}, limit=2, depth=2, seed=1)
