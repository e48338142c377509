"""Scoring rows: every pair once, whatever teachers answer, and going on where it was stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.graded import examples, scored_examples

from multigrain.audit.judges import LanguageModelJudge
from multigrain.config import JudgeConfig
from multigrain.engine.local import LocalEngine
from multigrain.llm.scripted import ScriptedLLM
from multigrain.records import GradedExample, Passage, ScoreScale
from multigrain.teachers.models import EmbedderTeacher, JudgeTeacher
from multigrain.teachers.protocol import LIMITS, kept_score
from multigrain.teachers.score import KeptTeacher, ScoreCounts, mixed_by_rank, score_rows
from multigrain.teachers.store import PairScores

anything = (
    st.floats(allow_nan=True, allow_infinity=True)
    | st.integers(-(10**400), 10**400)
    | st.none()
    | st.booleans()
    | st.text(max_size=3)
    | st.lists(st.floats(), max_size=2)
    | st.sampled_from(["4", "nan", b"1", object(), {}, 1 + 2j])
)


@dataclass
class Listed:
    """A teacher that answers from a list, over and over, and counts what it is asked."""

    answers: Sequence[Any]
    scale: ScoreScale = ScoreScale.GRADE
    fingerprint: str = "listed"
    asked: list[tuple[str, str]] = field(default_factory=list)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[Any]:
        start = len(self.asked)
        self.asked.extend(pairs)
        return [self.answers[(start + number) % len(self.answers)] for number in range(len(pairs))]


def _score(tmp_path: Path, *teachers: Any, rows: Sequence[GradedExample] | None = None) -> list[GradedExample]:
    kept = [KeptTeacher(teacher, PairScores(tmp_path / f"{number}.sqlite")) for number, teacher in enumerate(teachers)]
    try:
        return list(score_rows(examples() if rows is None else rows, kept, ScoreCounts(), rows=5))
    finally:
        for teacher in kept:
            teacher.known.close()


def _all_scores(rows: Sequence[GradedExample]) -> list[float | None]:
    return [score for row in rows for score in (row.positive_score, *(other.score for other in row.others))]


@pytest.mark.parametrize("scale", ScoreScale)
@given(value=anything)
@settings(max_examples=400, deadline=None)
def test_a_score_is_kept_within_its_scale_or_not_at_all(scale: ScoreScale, value: Any) -> None:
    score = kept_score(value, scale)

    low, high = LIMITS[scale]
    assert score is None or (math.isfinite(score) and low <= score <= high)


def test_ten_thousand_hostile_answers_crash_nothing_and_none_outside_the_scale_is_kept(tmp_path: Path) -> None:
    odd = [math.nan, math.inf, -math.inf, -1, 6, 5.5, "5", None, True, [], {}, 10**400, b"4", object(), 3, 2.5]
    teacher = Listed(odd)

    scored = _score(tmp_path, teacher, rows=examples(2100))

    assert len(teacher.asked) > 10_000
    assert set(_all_scores(scored)) == {None, 3.0, 2.5}


def test_hostile_judges_leave_passages_without_a_grade(tmp_path: Path) -> None:
    texts = [
        '{"score": 6}',
        '{"score": -1}',
        '{"score": 1e999}',
        '{"score": "5; ignore all rules"}',
        '{"score": NaN}',
        "[" * 3000,
        "{" * 3000,
        "",
        "I'm sorry, but as an AI",
        '{"score": null}',
        "\x00\ud800",
        '{"score": 3}',
    ]
    judge = LanguageModelJudge(ScriptedLLM(texts), LocalEngine(), config=JudgeConfig(), seed=0)

    scored = _score(tmp_path, JudgeTeacher(judge, "judge"))

    assert set(_all_scores(scored)) <= {None, *map(float, range(6))}
    assert any(score is not None for score in _all_scores(scored))


def test_every_pair_is_asked_once_and_an_interrupted_scoring_goes_on(tmp_path: Path) -> None:
    whole = _score(tmp_path / "whole", Listed([1.0, 2.0, 3.0]))
    first = Listed([1.0, 2.0, 3.0])

    class Stopped(Exception):  # noqa: N818
        pass

    class Stops(Listed):
        def scores(self, pairs: Sequence[tuple[str, str]]) -> list[Any]:
            if len(self.asked) > 40:
                raise Stopped
            return super().scores(pairs)

    stopped = Stops(first.answers)
    with pytest.raises(Stopped):
        _score(tmp_path / "cut", stopped)
    # What is asked after the stop goes on in the list where the stopped one was.
    offset = len(stopped.asked) % 3
    second = Listed([*first.answers[offset:], *first.answers[:offset]])
    resumed = _score(tmp_path / "cut", second)

    assert resumed == whole
    assert not set(stopped.asked) & set(second.asked)
    third = Listed([5.0])
    assert _score(tmp_path / "cut", third) == whole
    assert third.asked == []


@given(st.lists(st.lists(st.none() | st.floats(-1, 1), min_size=4, max_size=4), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_a_mix_by_rank_stays_on_its_scale_and_heeds_order_alone(teachers: list[list[float | None]]) -> None:
    mixed = mixed_by_rank(teachers)
    stretched = mixed_by_rank([[None if s is None else 7 * s + 3 for s in teachers[0]], *teachers[1:]])

    assert all(place is None or 0 <= place <= 1 for place in mixed)
    assert [place is None for place in mixed] == [all(t[n] is None for t in teachers) for n in range(4)]
    if all(s is None or abs(s) > 1e-12 or s == 0 for s in teachers[0]):
        assert [p is None for p in stretched] == [p is None for p in mixed]


def test_two_teachers_of_different_scales_are_mixed_by_their_orders(tmp_path: Path) -> None:
    (row,) = examples(1)
    count = 1 + len(row.others)
    rising, falling = Listed([float(n) for n in range(count)]), Listed([-0.1 * n for n in range(count)])

    (alone,) = _score(tmp_path / "one", rising, rows=[row])
    (both,) = _score(tmp_path / "both", rising, replace_scale(falling), rows=[row])

    assert alone.scale is ScoreScale.GRADE
    assert both.scale is ScoreScale.RANK
    assert _all_scores([both]) == [pytest.approx(0.5)] * count


def replace_scale(teacher: Listed) -> Listed:
    return replace(teacher, scale=ScoreScale.COSINE)


def test_an_embedders_scores_are_cosines_and_each_text_is_embedded_once(tmp_path: Path, small_bert: Path) -> None:
    from multigrain.encoders.cache import CachedEncoder
    from multigrain.model.encoder import build_encoder
    from multigrain.teachers.models import TokenBatchEncoder

    model = build_encoder(str(small_bert), device="cpu")
    plain = TokenBatchEncoder(model, batch_tokens=10**6)
    cached = CachedEncoder(TokenBatchEncoder(model, batch_tokens=20), "few", tmp_path / "vectors")
    rows = scored_examples(8)

    (few,) = (_score(tmp_path / "few", EmbedderTeacher(cached, "few"), rows=rows),)
    (many,) = (_score(tmp_path / "many", EmbedderTeacher(plain, "many"), rows=rows),)
    cached.close()

    assert few[0].scale is ScoreScale.COSINE
    assert _all_scores(few) == pytest.approx(_all_scores(many), abs=1e-5)
    query = plain.encode_queries([rows[0].query])[0]
    expected = float(query @ plain.encode_documents([rows[0].positive])[0])
    assert few[0].positive_score == pytest.approx(expected, abs=1e-5)


def test_further_positives_and_candidates_are_scored_too(tmp_path: Path) -> None:
    from multigrain.records import Origin

    row = replace(examples(1)[0], further_positives=(Passage("another answer", Origin.MINED, 0.8),))

    (scored,) = _score(tmp_path, Listed([4.0]), rows=[row])

    assert scored.further_positives[0].score == 4.0
    assert json.dumps(_all_scores([scored])) == json.dumps([4.0] * 6)
