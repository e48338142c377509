from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import get_args

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.dataset.store import (
    open_examples,
    open_rejections,
    read_rows,
    write_examples,
    write_rejections,
    write_rows,
)
from multigrain.records import (
    LEVELS,
    GradedExample,
    Mining,
    Negative,
    Origin,
    Passage,
    Rejection,
    ScoreScale,
    SynthesizedRow,
)

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
# Stored as float32: only values that it can hold come back unchanged.
similarity = st.floats(-1, 1, width=32)
score = st.none() | st.floats(-50, 50, width=32)
level = st.sampled_from(LEVELS)
passages = st.lists(st.builds(Passage, text, st.sampled_from(Origin), similarity, score), max_size=3).map(tuple)


EXAMPLE = {
    "id": text,
    "document_id": st.none() | text,
    "query": text,
    "positive": text,
    "negatives": st.tuples(
        *(
            st.builds(
                Negative,
                text=text,
                level=st.just(each),
                origin=st.sampled_from(Origin),
                similarity=similarity,
                written_level=st.none() | level,
                score=score,
            )
            for each in LEVELS
        )
    ),
    "positive_similarity": similarity,
    "written_order_held": st.none() | st.booleans(),
    "actions": st.lists(text, max_size=3).map(tuple),
    "positive_score": score,
    "further_positives": passages,
    "candidates": passages,
    "scale": st.none() | st.sampled_from(ScoreScale),
}
ROW = {
    "id": text,
    "document_id": st.none() | text,
    "query": text,
    "positive": text,
    "negatives": st.dictionaries(level, text),
    "strategy": text,
    "candidates": st.dictionaries(level, st.lists(text, min_size=1, max_size=3).map(tuple)),
    "relevant_ids": st.lists(text, max_size=3).map(tuple),
    "given": st.booleans(),
    "query_type": st.none() | text,
    "task": st.none() | text,
    "mining": st.sampled_from(get_args(Mining)),
}
REJECTION = dict.fromkeys(("id", "part", "reason", "detail", "query", "text"), text)
examples = st.builds(GradedExample, **EXAMPLE)
rows = st.builds(SynthesizedRow, **ROW)
rejections = st.builds(Rejection, **REJECTION)


@pytest.mark.parametrize(
    ("record", "varied"), [(GradedExample, EXAMPLE), (SynthesizedRow, ROW), (Rejection, REJECTION)]
)
def test_every_field_of_a_record_is_varied_here(record: type, varied: dict[str, object]) -> None:
    assert set(varied) == {field.name for field in fields(record)}


@given(st.lists(examples, max_size=4))
@settings(max_examples=50, deadline=None)
def test_graded_rows_survive_the_disk(tmp_path_factory, written: list[GradedExample]) -> None:
    path = tmp_path_factory.mktemp("store") / "graded.parquet"
    write_examples(path, written)

    assert tuple(open_examples(path)) == tuple(written)


@given(st.lists(rows, max_size=4))
@settings(max_examples=50, deadline=None)
def test_synthesized_rows_survive_the_disk(tmp_path_factory, written: list[SynthesizedRow]) -> None:
    path = tmp_path_factory.mktemp("store") / "rows.parquet"
    write_rows(path, written)

    assert read_rows(path) == tuple(written)


@given(st.lists(rejections, max_size=4))
@settings(max_examples=50, deadline=None)
def test_rejections_survive_the_disk(tmp_path_factory, written: list[Rejection]) -> None:
    path = tmp_path_factory.mktemp("store") / "rejects.parquet"
    write_rejections(path, written)

    assert tuple(open_rejections(path)) == tuple(written)
    assert pq.read_table(path).to_pylist() == [asdict(rejection) for rejection in written]


def test_rows_of_an_earlier_version_are_read_without_candidates(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [SynthesizedRow("a", None, "q", "p", {LEVELS[0]: "n"})])
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([name for name in table.column_names if name.startswith("candidates")]), path)

    assert read_rows(path) == (SynthesizedRow("a", None, "q", "p", {LEVELS[0]: "n"}),)


def test_graded_rows_of_an_earlier_version_are_read_without_scores_and_candidates(tmp_path: Path) -> None:
    path = tmp_path / "graded.parquet"
    negatives = tuple(Negative(f"n{int(level)}", level, Origin.MINED, 0.25, None, 2.0) for level in LEVELS)
    scored = GradedExample("a", "d", "q", "p", negatives, 0.5, None, (), 3.0, scale=ScoreScale.GRADE)  # type: ignore[arg-type]
    write_examples(path, [scored])
    table = pq.read_table(path)
    later = table.column_names[table.column_names.index("scale") :]
    pq.write_table(table.drop_columns(later), path)

    plain = tuple(replace(negative, score=None) for negative in negatives)
    assert tuple(open_examples(path)) == (GradedExample("a", "d", "q", "p", plain, 0.5),)  # type: ignore[arg-type]
