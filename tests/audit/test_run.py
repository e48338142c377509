from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.audit.run import AuditResult, audit_rows
from multigrain.audit.summary import summarise
from multigrain.config import AuditConfig
from multigrain.records import LEVELS, Document, GradedExample, Level, Origin, SynthesizedRow

WORDS = [f"topic{number}" for number in range(12)]


def embed(texts: Sequence[str]) -> np.ndarray:
    """Counts the words of each topic (`topic3a` is of topic 3): similarity that a person can work out."""
    counts = [[sum(token[:-1] == word for token in text.split()) for word in WORDS] for text in texts]
    # A little of each text's own, so that no two similarities are equal.
    own = [np.random.default_rng(sum(text.encode())).normal(scale=0.2, size=len(WORDS)) for text in texts]
    vectors = np.array(counts, dtype=np.float32) + np.array(own, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def about(topic: int, strength: int) -> str:
    """So many different words of one topic."""
    return " ".join(f"topic{topic}{letter}" for letter in "abcdefghijkl"[:strength])


def document(number: int) -> Document:
    text = f"{about(number % 12, 6)} {about((number * 5 + 1) % 12, number % 7)} unique{number}"
    return Document(id=f"d{number}", text=text, group=number)


POOL = [document(number) for number in range(120)]
QUERY = f"please {about(7, 6)} now"


def audit(rows: Sequence[SynthesizedRow], **settings_: object) -> AuditResult:
    config = AuditConfig.model_validate(
        {"bands": [[60, 119], [30, 60], [10, 30], [0, 10]], "min_level_gap": 0.001, **settings_}
    )
    vectors = embed([each.text for each in POOL])
    return audit_rows(rows, POOL, config, encode_queries=embed, encode_documents=embed, pool_vectors=vectors, seed=3)


def row(number: int, query: str, negatives: dict[Level, str] | None = None) -> SynthesizedRow:
    return SynthesizedRow(f"r{number}", f"d{number}", query, POOL[number].text, negatives or {})


def test_a_row_without_written_negatives_is_filled_from_the_corpus_in_order() -> None:
    result = audit([row(7, QUERY)])

    (example,) = result.examples
    similarities = [negative.similarity for negative in example.negatives]
    assert [negative.level for negative in example.negatives] == list(LEVELS)
    assert similarities == sorted(similarities)
    assert similarities[-1] <= example.positive_similarity - 0.05
    assert all(negative.origin is Origin.MINED for negative in example.negatives)
    assert example.positive not in [negative.text for negative in example.negatives]
    assert example.written_order_held is None


def test_a_query_that_does_not_find_its_document_is_turned_away() -> None:
    result = audit([row(7, about(3, 3))])

    assert [(each.part, each.reason) for each in result.rejections] == [("row", "round_trip")]


def test_a_written_negative_is_placed_by_its_measured_similarity_and_the_change_recorded() -> None:
    text = f"{about(7, 3)} {about(2, 4)} written words"
    result = audit([row(7, QUERY, {Level.EASY: text})])

    (example,) = result.examples
    placed = next(negative for negative in example.negatives if negative.origin is Origin.WRITTEN)
    assert placed.text == text
    assert placed.written_level is Level.EASY
    assert placed.level > Level.EASY
    assert f"relevelled:1>{int(placed.level)}" in example.actions


def test_a_false_negative_is_turned_away_with_its_figures() -> None:
    closer = f"{about(7, 9)} written"
    result = audit([row(19, QUERY, {Level.HARD: closer})])

    (rejection,) = [each for each in result.rejections if each.part == "level_4"]
    assert rejection.reason == "false_negative"
    assert "its positive" in rejection.detail
    assert rejection.text == closer


def test_repeated_queries_are_kept_once() -> None:
    result = audit([row(7, QUERY), row(7, QUERY.upper())])

    assert len(result.examples) == 1
    assert [each.reason for each in result.rejections] == ["duplicate_query"]


def test_the_order_as_written_is_judged_where_all_four_levels_were_written() -> None:
    texts = {
        Level.EASY: f"{about(1, 4)} here",
        Level.MEDIUM_LOW: f"{about(7, 1)} {about(1, 4)} here",
        Level.MEDIUM_HIGH: f"{about(7, 2)} {about(1, 3)} here",
        Level.HARD: f"{about(7, 3)} {about(1, 3)} here",
    }
    turned = dict(zip(texts, reversed(texts.values()), strict=True))

    held = audit([row(7, QUERY, texts)]).examples[0].written_order_held
    broken = audit([row(7, QUERY, turned)]).examples[0].written_order_held

    assert (held, broken) == (True, False)


def test_every_row_is_accounted_for() -> None:
    rows = [row(number, f"please {number} {POOL[number].text}") for number in range(40)] + [row(41, "")]
    result = audit(rows)
    summary = summarise(result, requested=50, written=len(rows), reference_model="bag of words")

    turned_away = [each for each in result.rejections if each.part == "row"]
    assert len(result.examples) + len(turned_away) == len(rows)
    assert summary["kept"] == len(result.examples) > 0
    assert summary["negatives_mined"] == 4 * summary["kept"]
    assert summary["rejected"]["empty"] == 1
    means = [summary["similarity"][name]["mean"] for name in ("level_1", "level_2", "level_3", "level_4", "positive")]
    assert means == sorted(means)


hostile = st.text(max_size=60) | st.lists(
    st.sampled_from([*WORDS, "\x00", "\u2028", "</script>", "{{ x }}"]), max_size=12
).map(" ".join)


@given(
    queries=st.lists(hostile, min_size=1, max_size=4),
    negatives=st.dictionaries(st.sampled_from(LEVELS), hostile, max_size=4),
    sources=st.sampled_from(["hybrid", "mined", "written"]),
    number=st.integers(0, 119),
)
@settings(max_examples=150, deadline=None)
def test_hostile_rows_never_break_the_audit_nor_its_promises(queries, negatives, sources, number) -> None:
    rows = [
        SynthesizedRow(f"r{index}", f"d{number}", query, POOL[number].text, negatives)
        for index, query in enumerate(queries)
    ]

    result = audit(rows, negatives=sources)

    for example in result.examples:
        similarities = [negative.similarity for negative in example.negatives]
        assert len(similarities) == 4
        assert similarities == sorted(similarities)
        assert similarities[-1] <= example.positive_similarity - 0.05 + 1e-6
        assert all(negative.text.strip() for negative in example.negatives)
    assert len(result.examples) + sum(each.part == "row" for each in result.rejections) == len(rows)


def test_the_round_trip_is_checked_however_shallow_the_bands_are() -> None:
    wrong = row(7, about(3, 3))
    bands = [[9, 12], [6, 9], [3, 6], [0, 3]]

    result = audit([wrong], bands=bands, round_trip_rank=20)

    assert [each.reason for each in result.rejections] == ["round_trip"]


def rounded(example: GradedExample) -> GradedExample:
    negatives = tuple(replace(negative, similarity=round(negative.similarity, 5)) for negative in example.negatives)
    return replace(example, negatives=negatives, positive_similarity=round(example.positive_similarity, 5))


def test_the_size_of_a_batch_changes_nothing() -> None:
    rows = [
        row(
            number,
            f"please {about(number % 12, 4)} question{number} now",
            {Level.HARD: f"{about(number % 12, 3)} own{number}"},
        )
        for number in range(40)
    ]
    rows += [row(41, rows[3].query), row(42, "")]
    asked = {
        "encode_queries": embed,
        "encode_documents": embed,
        "pool_vectors": embed([each.text for each in POOL]),
        "seed": 3,
    }
    bands = [(60, 119), (30, 60), (10, 30), (0, 10)]
    config = AuditConfig(bands=bands, min_level_gap=0.001, round_trip_rank=40, max_query_similarity=None)

    whole = audit_rows(rows, POOL, config, **asked)
    parts = audit_rows(rows, POOL, config, batch_rows=7, **asked)

    assert len(whole.examples) > 20
    assert {"duplicate_query", "false_negative"} <= {each.reason for each in whole.rejections}
    # A matrix product rounds by the size of its matrices.
    assert list(map(rounded, parts.examples)) == list(map(rounded, whole.examples))
    assert Counter(parts.rejections) == Counter(whole.rejections)
    assert parts.written_candidates == whole.written_candidates


@pytest.mark.parametrize("key", ["", "\x00", "\ud800", None])
@pytest.mark.parametrize("structure", [True, False])
def test_no_row_is_kept_without_an_id(key: str | None, structure: bool) -> None:
    result = audit(
        [replace(row(7, QUERY), id=key), row(8, f"please {about(8, 6)} now")], checks={"structure": structure}
    )

    assert [example.id for example in result.examples] == ["r8"]
    assert [rejection.part for rejection in result.rejections] == ["row"]
