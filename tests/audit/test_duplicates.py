"""Queries that ask the same in other words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from multigrain.audit.duplicates import cosine_of, same_meaning
from multigrain.config import AuditConfig
from multigrain.encoders.protocol import Floats
from multigrain.records import SynthesizedRow


def _encode(queries: Sequence[str]) -> Floats:
    """A query is an angle in degrees."""
    angles = np.radians([float(query) for query in queries])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _rows(angles: Sequence[int], *, given_ones: frozenset[int] = frozenset()) -> list[SynthesizedRow]:
    return [
        SynthesizedRow(
            id=f"r{place}", document_id=f"d{place}", query=str(angle), positive="p", given=place in given_ones
        )
        for place, angle in enumerate(angles)
    ]


@given(angles=st.lists(st.integers(min_value=0, max_value=90), max_size=30, unique=True))
def test_what_stays_is_far_apart_and_what_goes_is_near_to_what_stays(angles: list[int]) -> None:
    gone = same_meaning(_rows(angles), range(len(angles)), AuditConfig(max_query_similarity=0.9), _encode)

    limit = cosine_of(0.9, _encode([str(angle) for angle in angles])) if angles else 0.9
    near = np.degrees(np.arccos(limit))
    stays = [angle for place, angle in enumerate(angles) if place not in gone]
    assert all(abs(one - other) >= near - 1e-3 for one in stays for other in stays if one != other)
    for place in gone:
        assert any(abs(angles[place] - other) <= near + 1e-3 for other in stays if angles.index(other) < place)
    assert {problem.reason for problem in gone.values()} <= {"same_meaning"}


def test_given_queries_and_those_of_several_documents_stay() -> None:
    config = AuditConfig(max_query_similarity=0.9)

    assert not same_meaning(_rows([10, 11, 90], given_ones=frozenset({1})), range(3), config, _encode)
    assert not same_meaning(_rows([10, 10, 90]), range(3), config, _encode)
    assert same_meaning(_rows([10, 90, 11, 11]), range(4), config, _encode).keys() == {2, 3}


@given(shift=st.floats(min_value=0, max_value=20), seed=st.integers(0, 99))
def test_an_encoder_that_puts_all_texts_near_each_other_calls_no_more_the_same(shift: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    directions = draw.normal(size=(40, 64))
    directions[1] = directions[0] + 0.01 * draw.normal(size=64)

    def encode(queries: Sequence[str]) -> Floats:
        vectors = directions[[int(query) for query in queries]].copy()
        vectors[:, 0] += shift
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    assert same_meaning(_rows(range(40)), range(40), AuditConfig(), encode).keys() == {1}


def test_it_is_switched_off_with_near_duplicates() -> None:
    off = [AuditConfig(max_query_similarity=None), AuditConfig.model_validate({"checks": {"near_duplicates": False}})]

    assert [same_meaning(_rows([10, 11, 90]), range(3), config, _encode) for config in off] == [{}, {}]
