from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from multigrain.config import MixSourceConfig
from multigrain.config.file import load_config
from multigrain.errors import SourceError
from multigrain.storage import parquet
from multigrain.training.data import mix_source, plan_training
from multigrain.training.mixing import MixedRows, PairRow, mix_fingerprint, read_mix
from multigrain.training.train import train_candidate, training_sources

from .graded import config_of, encoder, examples

ROWS: list[dict[str, Any]] = [
    {"question": f"garden w{row}", "passage": f"market w{row} w{row + 1}", "bm25": f"signal w{row}", "id": f"{row}"}
    for row in range(20)
]
COLUMNS = {"query": "question", "positive": "passage", "negatives": ["bm25"]}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def _write(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"pairs.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    elif kind in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, rows[0], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(path))
    elif kind == "folder":
        path.mkdir()
        datasets.Dataset.from_list(rows[:9]).to_parquet(str(path / "a.parquet"))
        datasets.Dataset.from_list(rows[9:]).to_parquet(str(path / "b.parquet"))
    elif kind == "shards":
        path = folder / "pairs.parquet"
        schema = pa.schema([(name, pa.string()) for name in rows[0]])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parquet, "_SHARD_ROWS", 7)
            parquet.write_table(path, schema, dict, rows)
    elif kind == "saved":
        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    else:
        datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(str(path))
    return path


def _source(path: Path | str, **values: object) -> MixSourceConfig:
    return MixSourceConfig.model_validate({"name": "public", "path": str(path), "columns": COLUMNS, **values})


def _read(config: MixSourceConfig, counts: MixedRows | None = None) -> list[PairRow]:
    return list(read_mix(config, counts or MixedRows(), seed=1))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "folder", "shards", "saved", "saved-splits"])
def test_a_set_reads_the_same_from_anything_it_is_kept_in(tmp_path: Path, kind: str) -> None:
    found = _read(_source(_write(tmp_path, kind, ROWS)))

    assert found == [PairRow(row["question"], row["passage"], (row["bm25"],)) for row in ROWS]


def test_a_wrong_mapping_lists_the_columns(tmp_path: Path) -> None:
    path = _write(tmp_path, "jsonl", ROWS)

    with pytest.raises(SourceError) as raised:
        _read(_source(path, columns={"query": "query", "positive": "passage", "negatives": ["dense"]}))
    message = str(raised.value)
    assert "pairs.jsonl: no column 'query'" in message
    assert "'question', 'passage', 'bm25', 'id'" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.jsonl", "no such file or folder"),
        ("/no/where", "no such file or folder"),
        ("nobody/nothing", "cannot be loaded"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(path: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as raised:
        _read(_source(path))
    assert "\n" not in str(raised.value)
    assert "'public'" in str(raised.value)


def test_files_that_cannot_be_read_are_told_in_one_line(tmp_path: Path) -> None:
    broken, unknown, empty = tmp_path / "broken.jsonl", tmp_path / "notes.docx", tmp_path / "empty"
    broken.write_text('{"question": "a"\n{"quest')
    unknown.write_text("x")
    empty.mkdir()

    for path, message in [
        (broken, "broken.jsonl:1: not JSON"),
        (unknown, "expected one of"),
        (empty, "neither Parquet files"),
    ]:
        with pytest.raises(SourceError, match=message) as raised:
            _read(_source(path))
        assert "\n" not in str(raised.value)
    with pytest.raises(SourceError, match="no split 'test'; it has train"):
        _read(_source(_write(tmp_path, "saved-splits", ROWS), split="test"))


def test_lists_are_taken_apart_and_unusable_rows_are_counted(tmp_path: Path) -> None:
    rows = [
        {"question": "q1", "passage": ["p1", "p1 again"], "bm25": ["n1", "n2", "n1", "p1", " "]},
        {"question": "q2", "passage": ["p2"], "bm25": []},
        {"question": "  ", "passage": ["p3"], "bm25": ["n3"]},
        {"question": "q4", "passage": [], "bm25": ["n4"]},
    ]
    counts = MixedRows()

    assert _read(_source(_write(tmp_path, "parquet", rows)), counts) == [
        PairRow("q1", positive, ("n1", "n2")) for positive in ("p1", "p1 again")
    ]
    assert counts == MixedRows(usable=1, without_text=2, without_negative=1)
    with pytest.raises(SourceError, match=r"1 usable rows of 4 \(2 have no query or positive, 1 no negative\)"):
        mix_source(_source(tmp_path / "pairs.parquet"), tmp_path / "out", seed=1)


def test_labels_are_heeded_and_columns_that_are_not_used_are_named(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "positive": f"p{n}", "label": n % 3 > 0, "url": "x"} for n in range(9)]
    counts = MixedRows()

    found = _read(_source(_write(tmp_path, "jsonl", rows), columns={"query": "query", "positive": "positive"}), counts)

    assert [row.query for row in found] == [f"q{n}" for n in range(9) if n % 3]
    assert (counts.read, counts.usable, counts.reading.dropped) == (9, 6, 3)
    assert "pairs: 3 of 9 rows left out, labelled as no match (a match is above 0)" in next(
        counts.reading.lines("pairs")
    )
    assert counts.reading.unused == ["url"]


def test_texts_of_a_list_that_are_labelled_as_no_match_are_left_out(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "answer": [f"p{n}", "no"], "labels": [1, 0]} for n in range(3)]
    counts = MixedRows()

    found = _read(_source(_write(tmp_path, "jsonl", rows), columns={"query": "query", "positive": "answer"}), counts)

    assert [row.positive for row in found] == ["p0", "p1", "p2"]
    assert counts.reading.unused == []


def test_similarities_that_call_no_row_of_a_query_no_match_are_told(tmp_path: Path) -> None:
    rows = [{"query": f"q{n % 2}", "positive": f"p{n}", "score": 0.8 - n / 100} for n in range(6)]
    counts = MixedRows()

    _read(_source(_write(tmp_path, "jsonl", rows), columns={"query": "query", "positive": "positive"}), counts)

    assert any("all 6 rows of 2 queries count as matches" in line for line in counts.reading.lines("pairs"))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_name_with_dots_is_a_field_within_a_column(tmp_path: Path, kind: str) -> None:
    rows = [{"translation": {"en": f"owl {n}", "de": f"Eule {n}"}} for n in range(3)]
    path = tmp_path / f"bitext.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    counts = MixedRows()

    read = _read(_source(path, columns={"query": "translation.en", "positive": "translation.de"}), counts)

    assert read == [PairRow(f"owl {n}", f"Eule {n}") for n in range(3)]
    assert counts.reading.unused == []
    with pytest.raises(SourceError, match=r"no column 'translation\.fr'"):
        _read(_source(path, columns={"query": "translation.en", "positive": "translation.fr"}))


def test_a_column_of_numbers_is_no_text(tmp_path: Path) -> None:
    path = _write(tmp_path, "jsonl", [{**row, "score": 3} for row in ROWS])

    with pytest.raises(SourceError, match=r"pairs\.jsonl:1: 'score' holds int"):
        _read(_source(path, columns={**COLUMNS, "negatives": ["score"]}))


def test_a_limit_takes_rows_by_the_seed(tmp_path: Path) -> None:
    config = _source(_write(tmp_path, "jsonl", ROWS), max_rows=6)
    drawn = [[row.query for row in read_mix(config, MixedRows(), seed=seed)] for seed in (1, 1, 2)]

    assert len(set(drawn[0])) == 6
    assert drawn[0] == drawn[1] != drawn[2]


def test_batches_are_of_one_source_with_its_own_negatives_by_its_weight(tmp_path: Path) -> None:
    path = _write(tmp_path, "jsonl", ROWS)
    config = config_of(steps=40, mix=[_source(path, weight=0.25).model_dump()])
    plan = plan_training(training_sources(examples(), config, tmp_path / "rows", seed=0), config, seed=0)

    assert Counter(plan.sources) == {"graded": 32, "public": 8}
    assert plan.rows == {"graded": 24, "public": 20}
    joined = datasets.concatenate_datasets(list(plan.dataset.values()))
    negative_of = {row["question"]: row["bm25"] for row in ROWS}
    for source, batch in zip(plan.sources, plan.batches, strict=True):
        rows = [joined[index] for index in batch]
        texts = [text for row in rows for text in row.values()]
        assert len(texts) == len(set(texts))
        assert all((row["query"] in negative_of) == (source == "public") for row in rows)
        if source == "public":
            assert all(negative_of[row["query"]] == row["negative"] for row in rows)


@pytest.mark.parametrize("loss", ["infonce", "listmle"])
@pytest.mark.parametrize("negatives", [["bm25"], []], ids=["mined", "pairs"])
def test_training_goes_through_all_sources(small_bert: Path, tmp_path: Path, loss: str, negatives: list[str]) -> None:
    source = _source(_write(tmp_path, "jsonl", ROWS), columns={**COLUMNS, "negatives": negatives})
    schedule = "listwise" if loss == "listmle" else "coarse-to-fine"
    config = config_of(loss=loss, schedule=schedule, mix=[source.model_dump()], checkpoint_every=1000)
    log = train_candidate(encoder(small_bert), examples(), config, name="a", seed=2, checkpoints=tmp_path / "c")

    assert [step.source for step in log.history] == ["graded", "public"] * 4
    assert [step.level is None for step in log.history] == [
        step.source == "public" or loss == "listmle" for step in log.history
    ]
    assert log.sources == {"graded": 24, "public": 20}
    assert log.rows == 44


def test_a_mix_alone_needs_no_graded_rows(small_bert: Path, tmp_path: Path) -> None:
    config = config_of(graded_weight=0, mix=[_source(_write(tmp_path, "csv", ROWS)).model_dump()], checkpoint_every=99)
    log = train_candidate(encoder(small_bert), [], config, name="a", seed=2, checkpoints=tmp_path / "c")

    assert {step.source for step in log.history} == {"public"}
    assert log.boundaries == ()


def test_a_changed_file_changes_what_it_is_known_by(tmp_path: Path) -> None:
    path = _write(tmp_path, "jsonl", ROWS)
    before = mix_fingerprint(_source(path))
    _write(tmp_path, "jsonl", ROWS[:-1])

    assert mix_fingerprint(_source(path)) != before
    assert mix_fingerprint(_source("a/b")) != mix_fingerprint(_source("a/c"))


def test_paths_are_taken_from_the_configs_folder_and_hub_ids_stay(tmp_path: Path) -> None:
    path = _write(tmp_path, "jsonl", ROWS)
    mix = [{"name": "a", "path": path.name}, {"name": "b", "path": "owner/set"}]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"training": {"mix": mix}}))

    assert [each.path for each in load_config(tmp_path / "c.yaml").training.mix] == [str(path), "owner/set"]
