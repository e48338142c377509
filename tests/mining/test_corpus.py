"""Corpora to mine: the same texts from tables, folders of them and BEIR folders."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multigrain.errors import SourceError
from multigrain.mining.corpus import CorpusFiles

TEXTS = [f"text {number}" for number in range(30)]


def write(path: Path, texts: list[str]) -> str:
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_files_and_folders_give_their_texts_in_order_and_any_of_them_again(tmp_path: Path) -> None:
    paths = (
        write(tmp_path / "a.jsonl", TEXTS[:10]),
        str(Path(write(tmp_path / "folder" / "1.parquet", TEXTS[10:15])).parent),
        write(tmp_path / "b.parquet", TEXTS[20:]),
    )
    write(tmp_path / "folder" / "2.jsonl", TEXTS[15:20])
    corpus = CorpusFiles(paths)

    assert list(corpus) == TEXTS
    assert corpus.pick({3, 17, 29}) == {3: TEXTS[3], 17: TEXTS[17], 29: TEXTS[29]}
    assert corpus.pick(set()) == {}


@pytest.mark.parametrize("place", ["{}", "memory://test_mixed"])
def test_every_table_of_a_folder_is_read_and_other_data_in_it_named(tmp_path: Path, place: str) -> None:
    contents = {
        "1.jsonl": b'{"text": "text 0"}\n',
        "2.csv": b"id,text\n1,text 1\n",
        "3.ndjson": b'{"text": "text 2"}\n',
        "4.TSV": b"id\ttext\n3\ttext 3\n",
        "about.json": b"{}",
        "5.jsonl.gz": b"x",
        "notes.md": b"text",
    }
    folder = place.format(tmp_path)
    for name, content in contents.items():
        with fsspec.open(f"{folder}/{name}", "wb") as file:
            file.write(content)
    corpus = CorpusFiles((folder,))

    assert list(corpus) == TEXTS[:4]
    assert list(corpus.notes())[-1] == f"{folder}: not read: 5.jsonl.gz, about.json"


def test_a_saved_data_set_is_mined_by_its_folder_and_by_its_reference(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": TEXTS}).save_to_disk(str(tmp_path / "saved"))
    for place in (str(tmp_path / "saved"), f"hf:{tmp_path / 'saved'}"):
        corpus = CorpusFiles((place,))
        assert list(corpus) == TEXTS
        assert corpus.pick({4}) == {4: TEXTS[4]}


def test_addresses_are_read_as_paths_are(tmp_path: Path) -> None:
    local = Path(write(tmp_path / "a.parquet", TEXTS))
    with fsspec.open("memory://test_corpus/inside/a.parquet", "wb") as remote:
        remote.write(local.read_bytes())

    assert list(CorpusFiles(("memory://test_corpus/inside/a.parquet",))) == TEXTS
    assert list(CorpusFiles(("memory://test_corpus/inside",))) == TEXTS


def test_of_a_beir_folder_the_documents_are_mined_with_their_titles_and_not_the_queries(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(
        '{"_id": "d", "title": "Owls", "text": "They hunt."}\n{"_id": "e", "text": "x"}'
    )
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "who hunts"}')

    assert list(CorpusFiles((str(tmp_path),))) == ["Owls They hunt.", "x"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_title_is_joined_to_its_text_as_everywhere_and_empty_texts_are_counted(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"_id": "d", "title": "Owls", "contents": "They hunt.", "url": "x"},
        {"_id": "e", "title": "", "contents": "x", "url": "x"},
        {"_id": "f", "title": None, "contents": None, "url": "x"},
    ]
    path = tmp_path / f"corpus{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = CorpusFiles((str(path),))

    assert list(corpus) == ["Owls They hunt.", "x"]
    assert [passage.body for passage in corpus.passages()] == ["They hunt.", "x"]
    assert corpus.pick({1}) == {1: "x"}
    assert list(corpus)
    assert (corpus.readings[str(path)].rows, corpus.readings[str(path)].kept) == (3, 2)
    assert any("1 of 3 texts left out, empty" in line for line in corpus.notes())


def test_a_row_with_a_title_may_lack_its_text_where_others_have_it(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"title": "Owls"}\n{"title": "Dogs", "text": "They bark."}\n')
    assert list(CorpusFiles((str(path),))) == ["Owls", "Dogs They bark."]
    path.write_text('{"title": "Owls", "abstract": "They hunt."}\n')
    with pytest.raises(SourceError, match=r"corpus\.jsonl:1: no column with the text"):
        list(CorpusFiles((str(path),)))


def test_what_is_wrong_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": 7}')
    (tmp_path / "empty").mkdir()
    cases = {
        "a.jsonl": r"a\.jsonl:2: 'text' is int, not text",
        "empty": r"no \.jsonl, \.ndjson, \.csv, \.tsv, \.parquet file in the folder",
        "missing": "no such file or folder",
    }
    for name, words in cases.items():
        with pytest.raises(SourceError, match=words):
            list(CorpusFiles((str(tmp_path / name),)))
    with pytest.raises(SourceError, match=r"b\.parquet:row 1: no column 'txt' \(did you mean 'text'\?\)"):
        list(CorpusFiles((write(tmp_path / "b.parquet", TEXTS),), field="txt"))
