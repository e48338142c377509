"""Tables in parts, and folders that hold more than one table: what is read for the whole is the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multigrain.config import DocumentsConfig, PairsConfig
from multigrain.dataset.foreign import read_foreign
from multigrain.errors import SourceError
from multigrain.mining.corpus import CorpusFiles
from multigrain.mining.job import read_pairs as read_pairs_to_mine
from multigrain.sources.beir import read_texts
from multigrain.sources.load import read_documents
from multigrain.sources.pairs import read_pairs
from multigrain.storage.rows import read_rows

READERS: dict[str, Callable[[Path], object]] = {
    "documents": lambda path: list(read_documents(DocumentsConfig(path=path, text_field="answer"))[0]),
    "pairs": lambda path: read_pairs(PairsConfig(path=path)),
    "training files": read_foreign,
    "mining": lambda path: read_pairs_to_mine(path, None, None),
    "corpus": lambda path: list(CorpusFiles((str(path),), "answer")),
}


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def pairs(count: int, start: int = 0) -> list[dict[str, object]]:
    return [{"query": f"q{n}", "answer": f"p{n}"} for n in range(start, start + count)]


@pytest.mark.parametrize("reader", READERS)
def test_one_of_several_parts_is_not_read_for_the_whole(tmp_path: Path, reader: str) -> None:
    parts = [write(tmp_path / f"train-0000{n}-of-00003.parquet", pairs(4, 4 * n)) for n in range(3)]

    with pytest.raises(
        SourceError, match=r"train-00001-of-00003\.parquet: one of 3 parts of a table; put them all in"
    ):
        READERS[reader](parts[1])

    READERS[reader](tmp_path)
    for part in parts[:2]:
        part.unlink()
    READERS[reader](parts[2])


ALONE = "; to read this one alone, copy it to a folder of its own"


@pytest.mark.parametrize("reader", ["pairs", "training files", "mining"])
def test_parts_of_json_lines_are_to_be_joined(tmp_path: Path, reader: str) -> None:
    for name in ("train", "train-hard"):
        for n in range(2):
            (tmp_path / f"{name}-{n}-of-2.jsonl").write_text('{"query": "q", "answer": "p"}\n')
    part = tmp_path / "train-0-of-2.jsonl"

    with pytest.raises(SourceError) as caught:
        READERS[reader](part)
    command = "cat train-0-of-2.jsonl train-1-of-2.jsonl > train.jsonl"
    assert str(caught.value) == f"{part}: one of 2 parts of a table; join them first, e.g. `{command}`{ALONE}"


@pytest.mark.parametrize(
    ("stem", "count", "cure"),
    [
        ("d[v2]", 2, "join them first, e.g. `cat 'd[v2]-0-of-2.jsonl' 'd[v2]-1-of-2.jsonl' > 'd[v2].jsonl'`"),
        ("a b*", 2, "join them first, e.g. `cat 'a b*-0-of-2.jsonl' 'a b*-1-of-2.jsonl' > 'a b*.jsonl'`"),
        ("t", 12, "join all 12 parts first, t-0-of-12.jsonl to t-11-of-12.jsonl in this order, e.g. as t.jsonl"),
    ],
)
def test_the_command_that_joins_parts_names_these_alone(tmp_path: Path, stem: str, count: int, cure: str) -> None:
    for n in range(count):
        (tmp_path / f"{stem}-{n}-of-{count}.jsonl").write_text('{"query": "q", "answer": "p"}\n')
    part = tmp_path / f"{stem}-0-of-{count}.jsonl"

    with pytest.raises(SourceError) as caught:
        list(read_rows(part))
    assert str(caught.value) == f"{part}: one of {count} parts of a table; {cure}{ALONE}"


def test_the_command_that_joins_parts_overwrites_nothing(tmp_path: Path) -> None:
    for name in ("t-0-of-2", "t-1-of-2", "t", "t-joined"):
        (tmp_path / f"{name}.jsonl").write_text('{"query": "q", "answer": "p"}\n')

    with pytest.raises(SourceError, match=r"`cat t-0-of-2\.jsonl t-1-of-2\.jsonl > t-joined1\.jsonl`"):
        list(read_rows(tmp_path / "t-0-of-2.jsonl"))


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_part_of_ids_and_texts_is_not_advised_to_be_read_alone(tmp_path: Path, suffix: str) -> None:
    parts = [tmp_path / f"corpus-{n}-of-2.{suffix}" for n in range(2)]
    for part in parts:
        part.write_text('{"_id": "d", "text": "t"}\n' if suffix == "jsonl" else "_id,text\nd,t\n")

    with pytest.raises(SourceError, match="one of 2 parts of a table; ") as caught:
        list(read_texts(parts[0]))
    assert ALONE not in str(caught.value)
    parts[1].unlink()
    with pytest.raises(SourceError, match=r"corpus-1-of-2.*: no such file, and .* is one of 2 parts; fetch them all"):
        list(read_texts(parts[0]))


def test_a_folder_of_ids_and_texts_beside_judgments_is_not_one_table(tmp_path: Path) -> None:
    write(tmp_path / "en-corpus" / "test-00000-of-00001.parquet", [{"_id": "d", "text": "t"}])
    write(tmp_path / "en-qrels" / "test-00000-of-00001.parquet", [{"query-id": "q", "corpus-id": "d", "score": 1}])

    with pytest.raises(SourceError, match=r"several tables, .*en-corpus \(_id, text\) and .*en-qrels \(query-id, "):
        list(read_rows(tmp_path))

    assert len(list(read_rows(tmp_path / "en-corpus"))) == 1


def test_years_of_one_table_may_add_columns_or_lack_some(tmp_path: Path) -> None:
    write(tmp_path / "year=2023" / "a.parquet", [{"_id": "d", "text": "t"}])
    write(tmp_path / "year=2024" / "a.parquet", [{"_id": "e", "text": "t", "title": "T"}])
    write(tmp_path / "year=2025" / "a.parquet", [{"text": "t"}])

    assert [row.values["year"] for row in read_rows(tmp_path)] == [2023, 2024, 2025]


@pytest.mark.parametrize("columns", [("query", "answer"), ("query", "answer", "negative")])
def test_the_configs_of_a_copy_of_a_data_set_are_not_one_table(tmp_path: Path, columns: tuple[str, ...]) -> None:
    for name, there in (("pair", ("query", "answer")), ("triplet", columns)):
        write(tmp_path / name / "train-00000-of-00001.parquet", [dict.fromkeys(there, "x")])
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("pair", "triplet"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n# Pairs\n")

    with pytest.raises(SourceError, match=r"the folder holds the configs pair, triplet; name one of them, as in hf:"):
        list(read_rows(tmp_path))

    assert [tuple(row.values) for row in read_rows(f"hf:{tmp_path}:triplet")] == [columns]
    assert [tuple(row.values) for row in read_rows(tmp_path / "pair")] == [("query", "answer")]


def test_years_of_one_table_may_change_their_columns(tmp_path: Path) -> None:
    write(tmp_path / "year=2023" / "a.parquet", [{"_id": "d", "text": "t", "old": "o"}])
    write(tmp_path / "year=2024" / "a.parquet", [{"_id": "e", "text": "t", "new": "n"}])
    write(tmp_path / "year=2025" / "month=1" / "a.parquet", [{"id": "f", "body": "t"}])

    assert [row.values["year"] for row in read_rows(tmp_path)] == [2023, 2024, 2025]


def test_folders_of_one_table_may_each_have_a_column_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "en" / "a.parquet", [{"query": "q", "answer": "p", "url": "u"}])
    write(tmp_path / "fr" / "a.parquet", [{"query": "r", "answer": "s", "source": "v"}])

    assert [row.values["query"] for row in read_rows(tmp_path)] == ["q", "r"]


@pytest.mark.parametrize(
    "other",
    [
        {"query-id": "q", "corpus-id": "d", "score": 1},
        {"query_id": "q", "doc_id": "d", "score": 1},
    ],
)
def test_a_folder_that_differs_is_found_wherever_it_stands(tmp_path: Path, other: dict[str, object]) -> None:
    write(tmp_path / "a" / "year=2023" / "a.parquet", [{"doc_id": "d", "text": "t"}])
    write(tmp_path / "b" / "a.parquet", [{"doc_id": "d", "text": "t", "title": "T"}])
    write(tmp_path / "c" / "year=2023" / "a.parquet", [other])

    with pytest.raises(SourceError, match=r"several tables, .*a/year=2023 \(doc_id, text\) and .*c/year=2023 \(query"):
        list(read_rows(tmp_path))


CARD = "---\nlicense: mit\nconfigs:\n{}---\n# Pairs\n"
PAIR = '- config_name: pair\n  data_files: "pair/*.parquet"\n'
TRIPLETS = {
    "text": "- config_name: triplet\n  data_files: triplet/**\n",
    "list": "- config_name: triplet\n  data_files:\n  - none.csv\n  - triplet/[!x]*-0000?-of-*.parquet\n",
    "splits": "- config_name: triplet\n  data_files:\n  - split: train\n    path: ['**/triplet/*.parquet']\n",
    "folder": "- config_name: triplet\n  data_dir: triplet\n",
}


@pytest.mark.parametrize("form", TRIPLETS)
def test_configs_count_where_their_files_are_here(tmp_path: Path, form: str) -> None:
    write(tmp_path / "pair" / "train-00000-of-00001.parquet", pairs(2))
    (tmp_path / "README.md").write_text(CARD.format(PAIR + TRIPLETS[form]))

    assert len(list(read_rows(tmp_path))) == 2

    write(tmp_path / "triplet" / "train-00000-of-00001.parquet", pairs(2))
    with pytest.raises(SourceError, match=r"holds the configs pair, triplet; name one of them, as in hf:.*:pair$"):
        list(read_rows(tmp_path))


def test_a_config_of_some_of_the_files_of_another_is_no_second_table(tmp_path: Path) -> None:
    for n in range(2):
        write(tmp_path / "data" / f"train-0000{n}-of-00002.parquet", pairs(2, 2 * n))
    configs = "- config_name: {}\n  data_files: {}\n"
    tiny = configs.format("tiny", "data/train-00000-of-00002.parquet")
    (tmp_path / "README.md").write_text(CARD.format(tiny + configs.format("default", "data/*.parquet")))
    assert len(list(read_rows(tmp_path))) == 4

    second = configs.format("second", "data/train-00001-of-00002.parquet")
    (tmp_path / "README.md").write_text(CARD.format(tiny + second))
    with pytest.raises(SourceError, match="holds the configs tiny, second"):
        list(read_rows(tmp_path))


@pytest.mark.parametrize(
    "card", ["---\nconfigs: [\n---\n", "---\nconfigs: 3\n---\n", "---\nconfigs:\n- 1\n- {config_name: a}\n---\n", "x"]
)
def test_a_card_without_configs_hinders_nothing(tmp_path: Path, card: str) -> None:
    write(tmp_path / "a" / "part.parquet", pairs(2))
    (tmp_path / "README.md").write_text(card)

    assert len(list(read_rows(tmp_path))) == 2
