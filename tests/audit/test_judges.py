"""Judges of false negatives: a cross-encoder, and a language model as judge."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from multigrain.audit.heldout import judge_heldout
from multigrain.audit.judges import CrossEncoderJudge, LanguageModelJudge
from multigrain.audit.run import AuditResult, audit_rows
from multigrain.config import AuditConfig, JudgeConfig
from multigrain.dataset.store import write_rejections
from multigrain.engine.local import LocalEngine
from multigrain.llm.protocol import CompletionRequest
from multigrain.llm.scripted import ScriptedLLM
from multigrain.records import LEVELS, Document, Level, Origin, SynthesizedRow

POOL = [Document(f"d{number}", f"document number {number}", group=number) for number in range(80)]
ROW = SynthesizedRow("r", "d0", "the query of all", POOL[0].text, {Level.HARD: "a written negative here"})
CONFIG = AuditConfig.model_validate({"bands": [[40, 79], [20, 40], [8, 20], [0, 8]], "min_level_gap": 0.001})


def embed(texts: Sequence[str]) -> np.ndarray:
    """The query and document 0 point one way; document n is the further off the greater n is."""
    angles = []
    for text in texts:
        number = text.rsplit(" ", 1)[1]
        angles.append({"all": 0.0, "here": 0.36}.get(number, 0.01 if number == "0" else 0.35 + 0.012 * len(number) +
                      (0.012 * int(number) if number.isdigit() else 0)))  # fmt: skip
    return np.array([[np.cos(angle), np.sin(angle)] for angle in angles], dtype=np.float32)


def audit(rows: Sequence[SynthesizedRow], *judges: object, **settings: object) -> AuditResult:
    vectors = embed([each.text for each in POOL])
    return audit_rows(
        rows,
        POOL,
        CONFIG.model_copy(update=settings),
        encode_queries=embed,
        encode_documents=embed,
        pool_vectors=vectors,
        seed=2,
        judges=judges,  # type: ignore[arg-type]
    )


def test_without_a_judge_the_written_negative_is_used() -> None:
    (example,) = audit([ROW]).examples

    assert example.negatives[3].origin is Origin.WRITTEN


def test_a_cross_encoder_s_false_negatives_are_replaced_written_or_mined() -> None:
    def scores(pairs: list[tuple[str, str]]) -> list[float]:
        answers = {POOL[0].text: 0.9, ROW.negatives[Level.HARD]: 0.85, **{POOL[n].text: 0.95 for n in range(1, 12)}}
        return [answers.get(text, 0.1) for _, text in pairs]

    result = audit([ROW], CrossEncoderJudge(scores, margin=0.1))

    (example,) = result.examples
    assert all(negative.origin is Origin.MINED for negative in example.negatives)
    assert all(int(negative.text.rsplit(" ", 1)[1]) >= 12 for negative in example.negatives)
    refused = [each for each in result.rejections if each.reason == "false_negative"]
    assert ROW.negatives[Level.HARD] in [each.text for each in refused]
    assert all("cross-encoder" in each.detail for each in refused)


def test_a_row_that_no_negative_passes_for_goes_with_its_reason() -> None:
    result = audit([ROW], CrossEncoderJudge(lambda pairs: [1.0] * len(pairs), margin=0.1))

    assert result.examples == ()
    (gone,) = [each for each in result.rejections if each.part == "row"]
    assert gone.reason in ("false_negative", "no_negative")


def test_a_score_that_is_no_number_passes_nothing() -> None:
    judge = CrossEncoderJudge(lambda pairs: [math.nan] * len(pairs), margin=0.1)

    (problem,) = judge.on_negatives([("q", "p", "n")])

    assert problem is not None


def test_with_the_check_off_nobody_is_asked() -> None:
    def fail(pairs: list[tuple[str, str]]) -> list[float]:
        raise AssertionError("asked")

    checks = CONFIG.checks.model_copy(update={"false_negatives": False})

    assert len(audit([ROW], CrossEncoderJudge(fail, margin=0.1), checks=checks).examples) == 1


def judge_by(score_of: dict[str, int]) -> ScriptedLLM:
    def answer(request: CompletionRequest) -> str:
        passage = request.messages[-1].content.split("<passage>")[1].split("</passage>")[0].strip()
        return json.dumps({"score": score_of.get(passage, 1)})

    return ScriptedLLM(answer)


@pytest.mark.parametrize(
    ("positive", "negative", "kept", "written"),
    [(5, 2, True, True), (5, 4, True, False), (3, 3, True, False), (2, 1, False, False)],
)
def test_the_judge_keeps_positives_of_three_and_negatives_below_them(positive, negative, kept, written) -> None:
    llm = judge_by({POOL[0].text: positive, ROW.negatives[Level.HARD]: negative})
    with LocalEngine() as engine:
        judge = LanguageModelJudge(llm, engine, config=JudgeConfig(), seed=1)
        result = audit([ROW], judge)

    assert len(result.examples) == kept
    if kept:
        assert (result.examples[0].negatives[3].origin is Origin.WRITTEN) == written
    else:
        assert [each.reason for each in result.rejections] == ["judged_positive"]


def test_a_passage_is_judged_once_and_a_limit_is_kept() -> None:
    llm = judge_by({POOL[0].text: 5})
    with LocalEngine() as engine:
        judge = LanguageModelJudge(llm, engine, config=JudgeConfig(max_passages=3), seed=1)
        assert len(audit([ROW], judge).examples) == 1
        assert len(audit([ROW], judge).examples) == 1

    assert llm.calls == 3
    assert judge.counts.judged == 3
    assert judge.counts.over_limit == 2


def test_a_judge_that_talks_instead_leaves_rows_as_they_are_and_says_so() -> None:
    llm = ScriptedLLM(lambda _: "I would rather not say.")
    with LocalEngine() as engine:
        judge = LanguageModelJudge(llm, engine, config=JudgeConfig(), seed=1)
        result = audit([ROW], judge)

    assert len(result.examples) == 1
    assert judge.counts.failed == 5
    assert judge.counts.judged == 0


@pytest.mark.parametrize("score", [True, False, -1, 6, 2.5, None, "five", []])
def test_no_score_outside_the_scale_is_kept(score: object) -> None:
    llm = ScriptedLLM(lambda _: json.dumps({"score": score}))
    with LocalEngine() as engine:
        judge = LanguageModelJudge(llm, engine, config=JudgeConfig(), seed=1)
        grades = judge.grades([("query", "passage")])

    assert (grades, judge.counts.judged, judge.counts.failed) == ([None], 0, 1)


def test_negatives_written_again_fill_what_was_broken_and_stay_within_the_budget() -> None:
    near = {Level.HARD: "too near the answer 0"}
    rows = [SynthesizedRow(f"r{number}", "d0", f"query {number} of all", POOL[0].text, near) for number in range(3)]
    asked: list[tuple[list[str], int]] = []

    def rewrite(broken: Sequence[SynthesizedRow], turn: int) -> dict[str, dict[Level, list[str]]]:
        asked.append(([row.id for row in broken], turn))
        return {row.id: {Level.HARD: [f"a better one, number {turn}, is here"]} for row in broken if turn == 2}

    result = audit_rows(
        rows,
        POOL,
        CONFIG.model_copy(update={"repair": ["relevel", "regenerate", "refill"], "regenerate_budget": 5}),
        encode_queries=embed,
        encode_documents=embed,
        pool_vectors=embed([each.text for each in POOL]),
        seed=2,
        rewrite=rewrite,
    )

    assert asked == [(["r0", "r1", "r2"], 1), (["r0", "r1"], 2)]
    assert result.asked_again == 5
    done = {example.id: example.actions for example in result.examples}
    assert "regenerated:4" in done["r0"]
    assert "regenerated:4" in done["r1"]
    assert "refilled:4" in done["r2"]


@pytest.mark.parametrize("unfit", ["a NUL \x00 is here", "half a pair \ud83c is here"])
def test_what_is_written_again_is_held_to_the_schema_too(unfit: str, tmp_path: Path) -> None:
    row = SynthesizedRow("r", "d0", "the query of all", POOL[0].text, {Level.HARD: "too near the answer 0"})
    told: list[str] = []

    def learn(texts: Sequence[str]) -> np.ndarray:
        told.extend(texts)
        return embed(texts)

    result = audit_rows(
        [row],
        POOL,
        CONFIG.model_copy(update={"repair": ["regenerate", "refill"]}),
        encode_queries=embed,
        encode_documents=learn,
        pool_vectors=embed([each.text for each in POOL]),
        seed=2,
        rewrite=lambda broken, turn: {each.id: {Level.HARD: [unfit]} for each in broken},
    )

    assert unfit not in told  # a tokeniser would fail on it
    (example,) = result.examples
    assert "refilled:4" in example.actions
    assert {(each.part, each.reason) for each in result.rejections} >= {("level_4", "schema")}
    write_rejections(tmp_path / "rejects.parquet", result.rejections)


def test_without_refilling_a_row_is_dropped_unless_its_own_negatives_are_in_order() -> None:
    texts = {level: f"written text {30 - 5 * int(level)}" for level in LEVELS}  # nearer as the level rises
    turned = {level: texts[Level(5 - level)] for level in LEVELS}
    rows = [
        SynthesizedRow("good", "d0", "first query of all", POOL[0].text, texts),
        SynthesizedRow("bad", "d0", "second query of all", POOL[0].text, turned),
    ]

    dropped = audit(rows, repair=[])
    moved = audit(rows, repair=["relevel"])

    assert [each.id for each in dropped.examples] == ["good"]
    assert [each.id for each in moved.examples] == ["good", "bad"]
    assert moved.examples[1].actions == ("relevelled:4>1", "relevelled:3>2", "relevelled:2>3", "relevelled:1>4")


def test_the_best_of_several_candidates_is_selected_by_measure() -> None:
    pool = {Level.HARD: tuple(f"candidate text {number}" for number in (70, 3, 55))}
    row = SynthesizedRow("r", "d0", "the query of all", POOL[0].text, candidates=pool)

    (example,) = audit([row]).examples

    assert example.negatives[3].text == "candidate text 3"
    assert "selected:4" in example.actions


# False negatives that are kept as positives


def _answers_to_documents(*numbers: int):
    texts = {POOL[0].text: 0.95, **{POOL[number].text: 0.97 for number in numbers}}
    return CrossEncoderJudge(lambda pairs: [texts.get(text, 0.1) for _, text in pairs], margin=0.1)


def test_what_surely_answers_joins_the_positives_and_never_the_negatives() -> None:
    answering = (1, 2, 3, 9)

    (kept,) = audit(
        [ROW], _answers_to_documents(*answering), false_negatives="keep-as-positive", candidates=8
    ).examples
    (dropped,) = audit([ROW], _answers_to_documents(*answering), candidates=8).examples

    positives = {passage.text for passage in kept.further_positives}
    assert {POOL[number].text for number in (1, 2, 3)} <= positives <= {POOL[number].text for number in answering}
    assert dropped.further_positives == ()
    for example in (kept, dropped):
        texts = [example.positive, *(other.text for other in example.others)]
        assert len(set(texts)) == len(texts)
    assert positives.isdisjoint({negative.text for negative in kept.negatives})
    assert kept.actions.count("kept_positive") == len(kept.further_positives)


def test_a_written_negative_that_answers_is_kept_as_a_positive_too() -> None:
    strict = CrossEncoderJudge(lambda pairs: [0.95 if "written" in text else 0.5 for _, text in pairs], margin=0.0)
    (example,) = audit([ROW], strict, false_negatives="keep-as-positive").examples
    assert [passage.text for passage in example.further_positives] == [ROW.negatives[Level.HARD]]


def test_a_passage_is_a_positive_only_where_all_judges_say_so() -> None:
    sure = CrossEncoderJudge(lambda pairs: [0.95] * len(pairs), margin=-0.1)

    (example,) = audit(
        [ROW], _answers_to_documents(1, 2), sure, false_negatives="keep-as-positive", candidates=8
    ).examples

    assert {passage.text for passage in example.further_positives} == {POOL[1].text, POOL[2].text}


@pytest.mark.parametrize(("words", "answers"), [("document number 5", True), ("words of its own", False), ("", False)])
def test_a_quoted_answer_must_stand_in_the_passage(words: str, answers: bool) -> None:
    model = ScriptedLLM([json.dumps({"words": words, "score": 5})])
    judge = LanguageModelJudge(model, LocalEngine(), config=JudgeConfig(quote=True), seed=0)

    assert judge.answering([("which one?", "It is Document  number 5.")]) == [answers]
    assert "words" in model.requests[0].messages[-1].content


def test_other_documents_that_were_given_as_answers_are_further_positives() -> None:
    row = SynthesizedRow("r", "d0", "the query of all", POOL[0].text, relevant_ids=("d7", "d30", "nowhere"))

    (example,) = audit([row]).examples

    assert [passage.text for passage in example.further_positives] == [POOL[7].text, POOL[30].text]
    assert all(passage.origin is Origin.MINED for passage in example.further_positives)


def test_documents_near_a_held_out_query_that_judges_are_sure_of_count_as_its_answers() -> None:
    judge = _answers_to_documents(1, 3, 40)

    further = judge_heldout({"d0": ROW.query, "nowhere": "x all"}, POOL, embed([d.text for d in POOL]), embed, [judge])

    assert further == {"d0": ("d1", "d3")}, "its own document is none of them, and 40 is too far to be judged"
    assert judge_heldout(
        {"d0": ROW.query}, POOL, embed([d.text for d in POOL]), embed, [judge, _answers_to_documents(3)]
    ) == {"d0": ("d3",)}
