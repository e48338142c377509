"""Whatever rows come in, from a model or from somebody's file: no crash, and nothing unfit is kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multigrain.audit.run import audit_rows
from multigrain.config import AuditConfig
from multigrain.dataset.store import open_examples, write_examples, write_rejections
from multigrain.mining.search import Ranking
from multigrain.records import LEVELS, Document, Level, Origin, SynthesizedRow

SUBJECTS = ("water", "fire", "earth", "air")
DOCUMENTS = [
    Document(f"d{number}", f"document {number} is about {SUBJECTS[number % 4]} and {number}", group=number)
    for number in range(60)
]
CONFIG = AuditConfig.model_validate(
    {"bands": [[20, 58], [10, 20], [4, 10], [0, 4]], "min_level_gap": 0.002, "round_trip_rank": None}
)


def embed(texts: Sequence[str]) -> np.ndarray:
    """A vector for any text at all, the same each time."""
    made = []
    for text in texts:
        words = (text.encode("utf-8", "surrogatepass")[:64].split() or [b""])[:8]
        made.append(sum(np.random.default_rng(list(word)).normal(size=16) for word in words))
    vectors = np.array(made, dtype=np.float32).reshape(len(texts), 16)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = embed([each.text for each in DOCUMENTS])
words = st.sampled_from(
    ["water", "fire", "earth", "document", "air", "about", "Here is the query:", "I'm sorry, I cannot", "\x00",
     "\ud800", "\u2028", "\u202e", "</script>", "{{ 7*7 }}", "level_4", "水", "🜁", "a" * 300, "", "\t\n"]
)  # fmt: skip
texts = st.lists(words, max_size=6).map(" ".join) | st.text(max_size=20)
junk: st.SearchStrategy[Any] = (
    st.none() | st.integers() | st.floats() | st.binary(max_size=4) | st.lists(texts, max_size=2)
)
anything = texts | texts | texts | texts | junk
levels = st.sampled_from(LEVELS) | st.sampled_from(LEVELS) | st.sampled_from(LEVELS) | st.integers(-1, 6)
own = st.sampled_from([f"d{number}" for number in range(60)])
good = st.sampled_from([each.text for each in DOCUMENTS])
hostile_rows = st.builds(
    SynthesizedRow,
    id=st.uuids().map(str) | anything,
    document_id=own | own | st.none() | anything,
    query=good.map(lambda text: text[:18]) | anything,
    positive=good | good | anything,
    negatives=st.dictionaries(levels, anything, max_size=5) | st.dictionaries(levels, texts, max_size=4) | junk,
    strategy=st.just("mgh") | anything,
    candidates=st.just({})
    | st.dictionaries(levels, st.lists(texts, max_size=3).map(tuple) | anything, max_size=2)
    | junk,
    relevant_ids=st.just(()) | st.lists(own, max_size=2).map(tuple) | junk,
    query_type=st.none() | anything,
    task=st.none() | anything,
    mining=st.sampled_from(["bands", "nearest"]) | anything,
)


def check(rows: list[SynthesizedRow], config: AuditConfig, again: list[str], folder: Path) -> int:
    """Audit rows, hold what is kept to its promises, and return how many that are.

    Args:
        rows: what was written.
        config: checks and repairs.
        again: what the model says where it is asked again.
        folder: for files.
    """
    result = audit_rows(
        rows,
        DOCUMENTS,
        config,
        encode_queries=embed,
        encode_documents=embed,
        pool_vectors=VECTORS,
        seed=1,
        rewrite=lambda broken, turn: {row.id: dict.fromkeys(LEVELS, again[turn - 1 :]) for row in broken},
        tell_spares=len(again) > 1,
    )
    write_examples(folder / "graded.parquet", result.examples)
    write_rejections(folder / "rejects.parquet", result.rejections)
    kept = tuple(open_examples(folder / "graded.parquet"))
    assert len(kept) == len(result.examples)
    assert len(kept) + sum(each.part == "row" for each in result.rejections) == len(rows)
    for example in kept:
        assert example.id
        assert example.query.strip()
        assert example.positive.strip()
        assert [negative.level for negative in example.negatives] == list(LEVELS)
        for negative in example.negatives:
            assert negative.text.strip()
            assert negative.origin in set(Origin)
            assert isinstance(negative.written_level, Level | None)
            assert (negative.origin is Origin.MINED) <= (negative.written_level is None)
            assert -1.001 <= negative.similarity <= 1.001
        similarities = [negative.similarity for negative in example.negatives]
        assert all(high - low >= 0.002 - 1e-5 for low, high in itertools.pairwise(similarities))
        assert similarities[-1] <= example.positive_similarity - 0.05 + 1e-5
        fields = [example.query, example.positive, *(negative.text for negative in example.negatives)]
        assert not any("\x00" in each for each in fields)
        assert len({*fields[2:]}) == 4
    return len(kept)


configs = st.builds(
    lambda checks, repair, negatives: CONFIG.model_copy(
        update={"checks": CONFIG.checks.model_copy(update=checks), "repair": repair, "negatives": negatives}
    ),
    st.dictionaries(
        st.sampled_from(sorted(set(type(CONFIG.checks).model_fields) - {"level_order", "false_negatives"})),
        st.just(False),
        max_size=4,
    ),
    st.lists(st.sampled_from(["relevel", "regenerate", "refill"]), max_size=3),
    st.sampled_from(["hybrid", "mined", "written"]),
)


written_again = st.lists(texts | texts | good, max_size=3)


@given(rows=st.lists(hostile_rows, min_size=1, max_size=6), config=configs, again=written_again)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_hostile_rows_break_nothing_and_nothing_unfit_is_kept(tmp_path_factory, rows, config, again) -> None:
    check(rows, config, again, tmp_path_factory.mktemp("hostile"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_hostile_rows(tmp_path) -> None:
    """The whole number, in small sets: rows meet each other too, and hypothesis can hold a set."""
    kept: list[int] = []
    seen: list[int] = []

    @given(rows=st.lists(hostile_rows, min_size=10, max_size=14), config=configs, again=written_again)
    @settings(
        max_examples=2100, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
    )
    def run(rows: list[SynthesizedRow], config: AuditConfig, again: list[str]) -> None:
        kept.append(check(rows, config, again, tmp_path))
        seen.append(len(rows))

    run()
    assert sum(seen) >= 20_000
    assert sum(kept) > 100  # the test is about kept rows too


def test_an_empty_ranking_leaves_levels_out() -> None:
    from multigrain.audit.levels import mined_pool, pick_negatives

    empty = Ranking(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
    pool = mined_pool(empty, ((9, 12), (6, 9), (3, 6), (0, 3)), seed="s")

    assert pick_negatives([], pool, sources="hybrid", ceiling=0.5, gap=0.03, seed="s") == {}
