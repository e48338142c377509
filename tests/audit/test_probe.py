"""The source probe on data whose answer is known."""

from __future__ import annotations

import random

import numpy as np
import pytest

from multigrain.audit.probe import probe_source
from multigrain.config import ProbeConfig
from multigrain.records import LEVELS, GradedExample, Negative, Origin

WORDS = [f"word{number}" for number in range(300)]


def examples(count: int, *, habit: str, written: int = 2) -> list[GradedExample]:
    """Rows whose first `written` negatives were written; each begins with the writer's habit."""
    draw = random.Random(5)
    made = []
    for number in range(count):
        texts = [" ".join(draw.choices(WORDS, k=12)) for _ in LEVELS]
        negatives = tuple(
            Negative(habit + text, level, Origin.WRITTEN, 0.1)
            if int(level) <= written
            else Negative(text, level, Origin.MINED, 0.1)
            for level, text in zip(LEVELS, texts, strict=True)
        )
        made.append(GradedExample(f"r{number}", None, f"q{number}", f"p{number}", negatives, 0.9))  # type: ignore[arg-type]
    return made


def test_a_writer_s_habit_gives_the_source_away_and_warns() -> None:
    probe = probe_source(examples(60, habit="In this passage we delve into "), ProbeConfig(), seed=1)

    assert probe is not None
    assert probe.auc > 0.95
    assert probe.low <= probe.auc <= probe.high
    assert probe.warns
    assert probe.written_share == 0.5
    assert probe.advised_share is None  # at half and half the shortcut buys .75 at most


def test_texts_of_one_kind_cannot_be_told_apart() -> None:
    probe = probe_source(examples(100, habit=""), ProbeConfig(), seed=1)

    assert probe is not None
    assert probe.low <= 0.56
    assert probe.auc < 0.65
    assert not probe.warns


def test_more_written_negatives_than_the_threshold_allows_are_advised_against() -> None:
    probe = probe_source(examples(60, habit="We delve into ", written=3), ProbeConfig(warn_above=0.7), seed=1)

    assert probe is not None
    assert probe.written_share == 0.75
    assert probe.advised_share == pytest.approx(0.2 / (probe.auc - 0.5))
    # Mixed as advised, knowing the source ranks the positive first as often as the threshold allows.
    assert 0.5 + probe.advised_share * (probe.auc - 0.5) == pytest.approx(0.7)


def test_vectors_are_looked_at_where_they_are_given() -> None:
    rows = examples(60, habit="")
    kind = {n.text: float(n.origin is Origin.WRITTEN) for row in rows for n in row.negatives}

    def embed(texts):
        noise = np.random.default_rng(1).normal(size=(len(texts), 6))
        return (noise + 4 * np.array([[kind[text]] for text in texts])).astype(np.float32)

    probe = probe_source(rows, ProbeConfig(), seed=1, embed=embed)

    assert probe is not None
    assert probe.features == "embeddings"
    assert probe.by_feature["embeddings"] > 0.95 > 0.7 > probe.by_feature["characters"]


def test_the_probe_is_left_out_where_it_could_say_nothing_or_is_switched_off() -> None:
    assert probe_source(examples(5, habit=""), ProbeConfig(), seed=1) is None
    assert probe_source(examples(60, habit="", written=0), ProbeConfig(), seed=1) is None
    assert probe_source(examples(60, habit="x "), ProbeConfig(enabled=False), seed=1) is None
    assert probe_source([], ProbeConfig(), seed=1) is None
