"""How completions are graded by what the audit made of their texts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from multigrain.errors import SourceError
from multigrain.llm.protocol import Completion, CompletionRequest, Message
from multigrain.records import Document, GradedExample, Level, Negative, Origin, Rejection, SynthesizedRow
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.writer.attempts import Attempt, Exchange
from multigrain.writer.draws import distinct_share, self_similarity
from multigrain.writer.forms import trl_rows
from multigrain.writer.grading import GradedCompletion, Verdicts, grade_completions
from multigrain.writer.loss import weighted_loss
from multigrain.writer.training import advantages, training_rows

PROMPT = (Message("user", "Write a query."),)
TEXTS = {Level.EASY: "far away", Level.MEDIUM_LOW: "same field", Level.MEDIUM_HIGH: "close by", Level.HARD: "so near"}


def exchange(
    text: str, *, messages: tuple[Message, ...] = PROMPT, schema: bool = False, reason: str = "stop"
) -> Exchange:
    return Exchange(CompletionRequest(messages, schema={} if schema else None), Completion(text, reason, "m"))


def attempt(*exchanges: Exchange, row: SynthesizedRow | None, failure: str = "") -> Attempt:
    return Attempt(WritingUnit(Document("d", "the document")), row, failure, exchanges)


def row(query: str = "how to bleed a radiator", negatives: dict[Level, str] | None = None) -> SynthesizedRow:
    return SynthesizedRow("r", "d", query, "the document", negatives or {})


def kept(*, measured: dict[Level, Level] | None = None) -> GradedExample:
    """The row, with its written negatives at the levels where they were measured; mined ones elsewhere."""
    at = {new: old for old, new in (measured or {}).items()}
    easiest, low, high, hardest = (
        Negative(TEXTS[at[level]], level, Origin.WRITTEN, 0.1, at[level])
        if level in at
        else Negative(f"mined {level}", level, Origin.MINED, 0.1)
        for level in Level
    )
    return GradedExample("r", "d", "q", "p", (easiest, low, high, hardest), 0.9)


def graded(tried: Attempt, verdicts: Verdicts, rank: int = 0) -> list[GradedCompletion]:
    return list(grade_completions([tried], verdicts, {"r": rank}))


def test_a_query_is_worth_more_the_nearer_it_finds_its_document() -> None:
    tried = attempt(exchange("Query: how to bleed a radiator"), row=row())
    verdicts = Verdicts.of([kept()], [])

    first, fourth = graded(tried, verdicts)[0], graded(tried, verdicts, rank=3)[0]

    assert (first.accepted, first.reward, fourth.reward) == (True, 1.0, 0.25)
    assert first.text == "how to bleed a radiator"  # what was accepted, without what announced it
    assert first.document_ids == ("d",)


@pytest.mark.parametrize("reason", ["too_short", "round_trip", "judged_query", "marked_bad"])
def test_a_rejected_query_is_a_bad_completion_with_its_reason(reason: str) -> None:
    tried = attempt(exchange("how to bleed a radiator"), row=row())

    (found,) = graded(tried, Verdicts.of([], [Rejection("r", "row", reason, "", "q", "p")]))

    assert (found.accepted, found.reward, found.reasons) == (False, 0.0, (reason,))


@pytest.mark.parametrize("reason", ["contaminated", "duplicate_query"])
def test_what_is_wrong_with_the_set_is_no_completions_fault_and_is_not_learnt(reason: str) -> None:
    tried = attempt(exchange("how to bleed a radiator"), row=row())

    assert graded(tried, Verdicts.of([], [Rejection("r", "row", reason, "", "q", "p")])) == []


def test_negatives_count_by_how_far_from_their_level_they_were_measured() -> None:
    answer = json.dumps({f"level_{int(level)}": text for level, text in TEXTS.items()})
    tried = attempt(exchange(answer, schema=True), row=row(negatives=TEXTS))
    swapped = {Level.HARD: Level.MEDIUM_HIGH, Level.MEDIUM_HIGH: Level.HARD}
    lost = [
        Rejection("r", f"level_{int(level)}", "false_negative", "", "q", TEXTS[level])
        for level in (Level.EASY, Level.MEDIUM_LOW)
    ]

    (whole,) = graded(tried, Verdicts.of([kept(measured={level: level for level in Level})], []))
    (moved,) = graded(tried, Verdicts.of([kept(measured={Level.EASY: Level.EASY, **swapped})], []))
    (part,) = graded(tried, Verdicts.of([kept(measured={Level.HARD: Level.HARD})], lost))
    (most,) = graded(tried, Verdicts.of([kept(measured={Level.HARD: Level.HARD})], lost[:1]))

    assert most.accepted  # no more than half of it was rejected
    assert (whole.accepted, whole.reward, whole.text) == (True, 1.0, answer)
    assert (moved.accepted, moved.reward) == (True, pytest.approx((1 + 2 / 3 + 2 / 3) / 3, abs=1e-6))
    assert (part.accepted, part.reward, part.reasons) == (False, pytest.approx(1 / 3, abs=1e-6), ("false_negative",))


def test_query_and_negatives_of_two_calls_are_graded_each_by_itself() -> None:
    ask = (Message("user", "Write negatives."),)
    answer = json.dumps({"level_4": "so near"})
    tried = attempt(
        exchange("how to bleed a radiator"),
        exchange(answer, messages=ask, schema=True),
        row=row(negatives={Level.HARD: "so near"}),
    )
    lost = Rejection("r", "level_4", "no_level", "", "q", "so near")

    query, negatives = graded(tried, Verdicts.of([kept()], [lost]))

    assert (query.accepted, query.prompt) == (True, PROMPT)
    assert (negatives.accepted, negatives.prompt, negatives.reasons) == (False, ask, ("no_level",))


def test_a_retry_is_a_pair_of_one_prompt_whatever_was_said_in_between() -> None:
    again = (*PROMPT, Message("assistant", "I think …"), Message("user", "Reply again."))
    tried = attempt(
        exchange("I think …", schema=True, reason="length"),
        exchange('{"query": "how to bleed a radiator"}', messages=again, schema=True),
        row=row(),
    )

    bad, good = graded(tried, Verdicts.of([kept()], []))
    (pair,) = trl_rows([bad, good], "preference")

    assert (bad.reasons, good.accepted, bad.prompt, good.prompt) == (("truncated",), True, PROMPT, PROMPT)
    assert pair["prompt"] == [{"role": "user", "content": "Write a query."}]
    assert pair["chosen"][0]["content"] == '{"query": "how to bleed a radiator"}'
    assert (pair["rejected"][0]["content"], pair["margin"], pair["reasons"]) == ("I think …", 1.0, ["truncated"])


def test_an_answer_that_nothing_came_of_is_bad_and_one_before_it_is_not_blamed() -> None:
    tried = attempt(
        exchange("a query"), exchange("no JSON", messages=(Message("user", "b"),)), row=None, failure="prose"
    )

    (found,) = graded(tried, Verdicts.of([], []))

    assert (found.text, found.accepted, found.reasons) == ("no JSON", False, ("prose",))


def completion(text: str, reward: float, *, accepted: bool = True, prompt: str = "p") -> GradedCompletion:
    return GradedCompletion("r", ("d",), (Message("user", prompt),), text, accepted, reward)


def test_plain_rows_are_texts_and_kto_labels_every_completion() -> None:
    rows = trl_rows([completion("good", 1.0), completion("bad", 0.0, accepted=False)], "kto", conversational=False)

    assert [(each["prompt"], each["completion"], each["label"]) for each in rows] == [
        ("p\n\n", "good", True),
        ("p\n\n", "bad", False),
    ]


@pytest.mark.parametrize(
    ("completions", "form", "words"),
    [
        ([completion("x", 0.0, accepted=False)], "sft", "none of 1 judged completions was accepted"),
        ([completion("x", 1.0)], "kto", "none of 1 judged completions was rejected"),
        (
            [completion("x", 1.0, prompt="a"), completion("y", 0.0, accepted=False, prompt="b")],
            "preference",
            "no prompt has both",
        ),
    ],
)
def test_too_little_to_learn_from_is_one_line(completions, form, words) -> None:
    with pytest.raises(SourceError, match=words):
        trl_rows(completions, form)


def test_a_round_wants_eight_rows() -> None:
    with pytest.raises(SourceError, match="3 accepted completions; at least 8"):
        training_rows([completion(str(number), 1.0) for number in range(3)], "sft")


def test_imitation_weighs_by_reward_and_keeps_the_mean_at_one() -> None:
    rows = training_rows([completion(str(number), 0.5 if number % 2 else 1.0) for number in range(10)], "sft")

    assert np.mean([each["weight"] for each in rows]) == pytest.approx(1.0)
    assert rows[0]["weight"] == pytest.approx(2 * rows[1]["weight"])


def test_an_advantage_is_over_the_same_prompts_other_answers_and_never_far_below_zero() -> None:
    same = [completion("a", 1.0, prompt="x"), completion("b", 0.0, accepted=False, prompt="x")]
    alone = [completion("c", 1.0, prompt="y")]

    better, worse, single = advantages([*same, *alone])

    assert better > 0 > worse
    assert worse == -0.25
    assert single == pytest.approx((1 - 2 / 3) / np.std([1.0, 0.0, 1.0]))


def test_the_weighted_loss_is_the_mean_of_each_texts_own_mean() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 7), torch.tensor([[-100, 1, 2, 3], [-100, -100, 5, -100]])
    one = [weighted_loss(logits[n : n + 1], labels[n : n + 1], torch.ones(1)) for n in range(2)]

    assert weighted_loss(logits, labels, torch.tensor([2.0, -1.0])) == pytest.approx((2 * one[0] - one[1]).item() / 2)
    assert one[1] == pytest.approx(-logits[1, 1].log_softmax(-1)[5].item(), rel=1e-5)


def test_a_collapse_shows() -> None:
    assert distinct_share(["a b c", "a b c"], 2) == 0.5 < distinct_share(["a b c", "d e f"], 2)
    assert self_similarity(np.eye(3, dtype=np.float32)) == 0.0
    assert self_similarity(np.ones((3, 4), dtype=np.float32) / 2) == 1.0
