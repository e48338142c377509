from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.dataset.store import (
    read_examples,
    read_rows,
    write_examples,
    write_rejections,
    write_rows,
)
from multigrain.records import LEVELS, GradedExample, Negative, Origin, Rejection, SynthesizedRow

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
# Stored as float32: only values that it can hold come back unchanged.
similarity = st.floats(-1, 1, width=32)
level = st.sampled_from(LEVELS)


@st.composite
def examples(draw: st.DrawFn) -> GradedExample:
    negatives = tuple(
        Negative(draw(text), each, draw(st.sampled_from(Origin)), draw(similarity), draw(st.none() | level))
        for each in LEVELS
    )
    return GradedExample(
        id=draw(text),
        document_id=draw(st.none() | text),
        query=draw(text),
        positive=draw(text),
        negatives=negatives,  # type: ignore[arg-type]
        positive_similarity=draw(similarity),
        written_order_held=draw(st.none() | st.booleans()),
        actions=tuple(draw(st.lists(text, max_size=3))),
    )


rows = st.builds(
    SynthesizedRow,
    id=text,
    document_id=st.none() | text,
    query=text,
    positive=text,
    negatives=st.dictionaries(level, text),
    strategy=text,
    candidates=st.dictionaries(level, st.lists(text, min_size=1, max_size=3).map(tuple)),
)


@given(st.lists(examples(), max_size=4))
@settings(max_examples=50, deadline=None)
def test_graded_rows_survive_the_disk(tmp_path_factory, written: list[GradedExample]) -> None:
    path = tmp_path_factory.mktemp("store") / "graded.parquet"
    write_examples(path, written)

    assert read_examples(path) == tuple(written)


@given(st.lists(rows, max_size=4))
@settings(max_examples=50, deadline=None)
def test_synthesized_rows_survive_the_disk(tmp_path_factory, written: list[SynthesizedRow]) -> None:
    path = tmp_path_factory.mktemp("store") / "rows.parquet"
    write_rows(path, written)

    assert read_rows(path) == tuple(written)


def test_rejections_keep_their_reasons(tmp_path: Path) -> None:
    path = tmp_path / "rejects.parquet"
    write_rejections(path, [Rejection("a", "level_2", "repeated", "why", "query", "text")])

    assert pq.read_table(path).to_pylist() == [
        {"id": "a", "part": "level_2", "reason": "repeated", "detail": "why", "query": "query", "text": "text"}
    ]


def test_rows_of_an_earlier_version_are_read_without_candidates(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [SynthesizedRow("a", None, "q", "p", {LEVELS[0]: "n"})])
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([name for name in table.column_names if name.startswith("candidates")]), path)

    assert read_rows(path) == (SynthesizedRow("a", None, "q", "p", {LEVELS[0]: "n"}),)
