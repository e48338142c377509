"""Losses that learn from scores: what they compute, what their labels are, and what the batches hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from multigrain.config import TrainingConfig
from multigrain.curriculum.bands import band_length, evenly, score_band
from multigrain.errors import ConfigError, ModelError
from multigrain.records import LEVELS, GradedExample, Level, Origin, Passage, ScoreScale
from multigrain.training.data import LABEL, TrainingSource, plan_training
from multigrain.training.losses.registry import check_losses
from multigrain.training.losses.scored import DistilLoss, GradedLoss, MarginLoss
from multigrain.training.targets import score_targets
from multigrain.training.train import train_candidate, training_sources

from .graded import config_of, encoder, examples, largest_difference, scored_examples

SCORED = ("distil", "margin-mse", "graded")


def _vectors(columns: int, rows: int = 4) -> list[Tensor]:
    draw = torch.Generator().manual_seed(3)
    return [torch.randn(rows, 8, generator=draw, dtype=torch.float64) for _ in range(columns)]


def _cosines(vectors: Sequence[Tensor]) -> Tensor:
    unit = [torch.nn.functional.normalize(column, dim=-1) for column in vectors]
    return torch.stack([(unit[0] * column).sum(dim=1) for column in unit[1:]], dim=1)


def test_distillation_is_nothing_where_the_model_agrees_and_the_divergence_elsewhere(small_bert: Path) -> None:
    model, vectors = encoder(small_bert), _vectors(5)
    own = _cosines(vectors)
    loss = DistilLoss(model, scale=20.0, infonce_share=0.0)

    assert float(loss.compute_loss_from_embeddings(vectors, own)) == pytest.approx(0.0, abs=1e-9)
    labels = torch.flip(own, dims=[1])
    teacher, student = (labels / 0.05).softmax(dim=1), (own / 0.05).log_softmax(dim=1)
    expected = (teacher * (teacher.log() - student)).sum(dim=1).mean()
    assert float(loss.compute_loss_from_embeddings(vectors, labels)) == pytest.approx(float(expected), rel=1e-6)


def test_the_share_of_infonce_is_over_the_positives_of_the_batch(small_bert: Path) -> None:
    model, vectors = encoder(small_bert), _vectors(4)
    own = _cosines(vectors)
    queries, positives = (torch.nn.functional.normalize(column, dim=-1) for column in vectors[:2])
    contrast = torch.nn.functional.cross_entropy(20 * queries @ positives.T, torch.arange(4))

    value = DistilLoss(model, infonce_share=0.25).compute_loss_from_embeddings(vectors, own)

    assert float(value) == pytest.approx(0.25 * float(contrast), rel=1e-6)


def test_margins_are_nothing_where_they_agree_whatever_the_scores_offset(small_bert: Path) -> None:
    vectors = _vectors(5)

    value = MarginLoss(encoder(small_bert)).compute_loss_from_embeddings(vectors, _cosines(vectors) + 0.3)

    assert float(value) == pytest.approx(0.0, abs=1e-12)


def test_the_graded_loss_is_least_where_probabilities_agree(small_bert: Path) -> None:
    model, vectors = encoder(small_bert), _vectors(5)
    agreeing = torch.sigmoid(20 * (_cosines(vectors) - 0.4))
    loss = GradedLoss(model, threshold=0.4, in_batch=False)

    least = float(loss.compute_loss_from_embeddings(vectors, agreeing))

    for change in (-0.1, 0.1):
        moved = (agreeing + change).clamp(0, 1)
        entropy = torch.nn.functional.binary_cross_entropy(moved, moved)
        assert float(loss.compute_loss_from_embeddings(vectors, moved)) > float(entropy)
    entropy = torch.nn.functional.binary_cross_entropy(agreeing, agreeing)
    assert least == pytest.approx(float(entropy), rel=1e-6)


@given(passages=st.integers(1, 60))
def test_bands_hold_every_passage_rise_and_are_as_equal_as_they_can_be(passages: int) -> None:
    bands = [list(score_band(level, passages)) for level in LEVELS]

    assert {place for band in bands for place in band} == set(range(passages))
    assert all(low[0] <= high[0] and low[-1] <= high[-1] for low, high in pairwise(bands))
    assert max(map(len, bands)) == band_length(passages)
    assert max(map(len, bands)) - min(map(len, bands)) <= 1


@given(count=st.integers(1, 30), available=st.integers(1, 30))
def test_places_are_evenly_spread_and_hold_the_last(count: int, available: int) -> None:
    places = evenly(count, available)

    assert len(places) == count
    assert places[-1] == available - 1
    assert set(places) <= set(range(available))
    assert len(set(places)) == min(count, available)


def _source(rows: Sequence[GradedExample], config: TrainingConfig, folder: Path) -> TrainingSource:
    (source,) = training_sources(rows, config, folder, seed=1)
    return source


@pytest.mark.parametrize("loss", SCORED)
@pytest.mark.parametrize("schedule", ["coarse-to-fine", "reverse", "random", "mixed", "fixed-2", "listwise"])
def test_labels_are_the_teachers_order_and_levels_its_bands(tmp_path: Path, loss: str, schedule: str) -> None:
    rows = scored_examples(12)
    source = _source(rows, config_of(loss=loss, teacher="judge", schedule=schedule), tmp_path)
    scores = {row.query: {other.text: other.score for other in row.others} for row in rows}

    assert len(source.pool) == len(rows)
    for number in range(len(rows)):
        previous = -math.inf
        for level in LEVELS if schedule != "listwise" else (Level.HARD,):
            entry = source.dataset[source.pool.index(number, level, 0)]
            texts = [text for name, text in entry.items() if name.startswith("passage_")]
            own = [scores[entry["query"]][text] for text in texts]
            assert own == sorted(own)
            assert entry[LABEL][1:] == sorted(entry[LABEL][1:])
            assert max(own) >= previous
            previous = max(own)
            if loss == "graded":
                assert entry[LABEL] == pytest.approx([4.5 / 5, *(score / 5 for score in own)])


def test_a_scale_of_any_width_teaches_the_same(tmp_path: Path) -> None:
    rows = scored_examples(12)

    def stretched(row: GradedExample) -> GradedExample:
        passages = {
            name: tuple(replace(one, score=40 * one.score - 7) for one in getattr(row, name))
            for name in ("negatives", "candidates")
        }
        return replace(row, scale=ScoreScale.GIVEN, positive_score=40 * 4.5 - 7, **passages)  # type: ignore[arg-type]

    config = config_of(loss="margin-mse", teacher="judge", schedule="listwise")
    one = _source(rows, config, tmp_path / "one").dataset[0][LABEL]
    other = _source([stretched(row) for row in rows], config, tmp_path / "two").dataset[0][LABEL]

    assert [label - one[0] for label in one] == pytest.approx([label - other[0] for label in other], abs=1e-5)


def test_cosines_become_probabilities_between_the_lowest_band_and_the_positives() -> None:
    rows = [replace(row, scale=ScoreScale.COSINE) for row in scored_examples(12)]

    targets = score_targets(rows, "probability")

    assert targets.label(4.5) == 1.0
    assert targets.label(-1.0) == 0.0
    assert 0 < targets.label(2.5) < 1


def test_rows_without_scores_are_left_out_and_a_set_without_any_is_refused(tmp_path: Path) -> None:
    rows = scored_examples(6)
    partly = [replace(rows[0], positive_score=None), *rows[1:]]
    config = config_of(loss="distil", teacher="judge")

    assert len(_source(partly, config, tmp_path).pool) == 5
    with pytest.raises(ModelError, match=r"0 training rows have a teacher's scores.*at least 2"):
        _source(examples(6), config, tmp_path)
    same = [
        replace(row, positive_score=1.0, candidates=(), negatives=tuple(replace(n, score=1.0) for n in row.negatives))
        for row in rows
    ]
    with pytest.raises(ModelError, match="gives all passages of a row the same score"):
        _source(same, config, tmp_path)  # type: ignore[arg-type]


def test_a_loss_that_learns_from_scores_needs_a_teacher_and_a_list() -> None:
    with pytest.raises(ConfigError, match=r"'distil' learns from a teacher's scores; set training.teacher"):
        check_losses(config_of(loss="distil"))
    with pytest.raises(ConfigError, match="'graded' cannot be trained with schedule: in-batch"):
        check_losses(config_of(loss="graded", teacher="judge", schedule="in-batch"))


@pytest.mark.parametrize("loss", SCORED)
def test_gradients_cached_are_plain_gradients(small_bert: Path, tmp_path: Path, loss: str) -> None:
    models = []
    for size in (None, 3):
        model = encoder(small_bert, dropout=False)
        config = config_of(loss=loss, teacher="judge", steps=2, mini_batch_size=size)
        train_candidate(model, scored_examples(), config, name="a", seed=1, checkpoints=tmp_path / str(size))
        models.append(model)

    assert largest_difference(*models) <= 1e-5


# Several positives


def _several(rows: int = 24) -> list[GradedExample]:
    """Rows whose neighbour's positive answers their query as well."""
    plain = examples(rows)
    return [
        replace(row, further_positives=(Passage(plain[(number + 1) % rows].positive, Origin.MINED, 0.8),))
        for number, row in enumerate(plain)
    ]


@pytest.mark.parametrize("values", [{}, {"schedule": "in-batch"}, {"schedule": "mixed", "group_by_length": True}])
def test_no_positive_of_a_row_is_in_a_batch_as_another_rows(tmp_path: Path, values: dict[str, object]) -> None:
    rows = _several()
    config = config_of(steps=40, **values)
    source = _source(rows, config, tmp_path)
    answers = {row.query: {row.positive, *(passage.text for passage in row.further_positives)} for row in rows}

    seen: dict[str, set[str]] = {}
    for batch in plan_training([source], config, seed=3).batches:
        entries = [source.dataset[index] for index in batch]
        for entry in entries:
            others = {text for other in entries if other is not entry for text in other.values()}
            assert not answers[entry["query"]] & others
            assert entry["positive"] in answers[entry["query"]]
            seen.setdefault(entry["query"], set()).add(entry["positive"])

    assert seen == answers, "every positive is trained on"


def test_rows_with_one_positive_are_planned_as_before(tmp_path: Path) -> None:
    rows = examples()
    source = _source(rows, config_of(), tmp_path)

    assert len(source.dataset) == 4 * len(rows)
    for level in LEVELS:
        entry = source.dataset[source.pool.index(5, level, 3)]
        assert entry == {
            "query": rows[5].query,
            "positive": rows[5].positive,
            "negative": rows[5].negatives[level - 1].text,
        }
