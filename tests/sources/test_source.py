"""A data source is added by its module and a line: it validates, reads, is looked at and has a fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multigrain import plugins
from multigrain.config import Config, DocumentsConfig
from multigrain.config.documents import DATA_SOURCES
from multigrain.errors import ConfigError, SourceError
from multigrain.mining.corpus import CorpusFiles
from multigrain.records import Document
from multigrain.sources.files import table_kind
from multigrain.sources.load import load_corpus, read_documents
from multigrain.sources.source import DataSource, data_source, look_at_documents, look_at_input


class ParagraphSource(DataSource):
    """A document a paragraph of one text file."""

    def read(self, config: DocumentsConfig) -> tuple[Iterator[Document], int]:
        """Read the paragraphs."""
        assert config.path is not None
        paragraphs = config.path.read_text().split("\n\n")
        return (Document(f"p{number}", text) for number, text in enumerate(paragraphs)), 0


PARAGRAPHS = ParagraphSource()
NO_SOURCE = "a text"


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("paragraphs", f"{__name__}:PARAGRAPHS", DATA_SOURCES.group),
        EntryPoint("broken", "no_such_module_at_all:SOURCE", DATA_SOURCES.group),
        EntryPoint("wrong", f"{__name__}:NO_SOURCE", DATA_SOURCES.group),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == DATA_SOURCES.group else [])


@pytest.mark.usefixtures("added")
def test_a_source_of_another_package_is_one_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("\n\n".join(f"Paragraph {n} tells of thing {n * 7} and no other one at all." for n in range(20)))
    config = Config.model_validate({"documents": {"kind": "paragraphs", "path": str(path)}})

    corpus = load_corpus(config.documents, seed=1)

    assert {document.id for document in corpus.documents} == {f"p{number}" for number in range(20)}
    assert corpus.counts["source"] == str(path)
    assert "20 documents" in look_at_input(config).summary
    before = data_source(config.documents).fingerprint(config.documents)
    path.write_text("changed")
    assert data_source(config.documents).fingerprint(config.documents) != before
    assert "at least 10 are needed" in look_at_input(config).problem
    assert "paragraphs" in DATA_SOURCES.names()


@pytest.mark.usefixtures("added")
def test_a_source_that_cannot_be_loaded_or_is_none_is_one_line(tmp_path: Path) -> None:
    for kind, words in (("broken", "cannot be loaded"), ("wrong", "names str, which is no DataSource")):
        config = DocumentsConfig(kind=kind, path=tmp_path)
        with pytest.raises(ConfigError, match=words):
            data_source(config)
        assert words in look_at_documents(config).problem


def test_an_unknown_kind_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        ValueError, match=r"no data source is called 'foldr' \(did you mean 'folder'\?\); expected auto"
    ):
        DocumentsConfig(kind="foldr", path=Path("x"))


def test_every_kind_of_ours_can_be_loaded_and_is_named_in_the_help() -> None:
    told = DocumentsConfig.model_fields["kind"].description or ""
    for kind in DATA_SOURCES.built_in:
        config = DocumentsConfig(kind=kind, path=Path("x"))
        assert isinstance(data_source(config), DataSource)
        assert kind in told.replace(",", " ").replace("\n", " ").split()


_TABLE_TEXTS = [f"Paragraph {n} tells of thing {n * 7} and of no other one at all." for n in range(20)]


def _write_table(folder: Path, shape: str) -> None:
    rows = [{"id": f"d{n}", "text": text} for n, text in enumerate(_TABLE_TEXTS)]
    if shape == "saved":
        datasets.Dataset.from_list(rows).save_to_disk(str(folder))
        return
    inside = folder / "data" if shape == "nested" else folder
    inside.mkdir(parents=True)
    for number, part in enumerate((rows[:7], rows[7:])):
        pq.write_table(pa.Table.from_pylist(part), inside / f"train-0000{number}-of-00002.parquet")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")


@pytest.mark.parametrize("shape", ["flat", "nested", "saved"])
def test_a_folder_that_is_one_table_is_read_as_it_is_by_all_readers(tmp_path: Path, shape: str) -> None:
    folder = tmp_path / "set"
    _write_table(folder, shape)
    config = DocumentsConfig(path=folder)

    assert table_kind(folder) == "parquet"
    assert [document.text for document in read_documents(config)[0]] == _TABLE_TEXTS
    assert "20 documents" in look_at_documents(config).summary
    assert list(CorpusFiles((str(folder),))) == _TABLE_TEXTS
    before = data_source(config).fingerprint(config)
    assert data_source(config).fingerprint(config) == before
    changed = next(file for file in sorted(folder.rglob("*")) if file.suffix in (".parquet", ".arrow"))
    changed.write_bytes(changed.read_bytes() + b" ")
    assert data_source(config).fingerprint(config) != before


def test_a_folder_of_documents_a_beir_folder_and_runs_are_no_tables(tmp_path: Path) -> None:
    for name in ("handbook", "run", "beir"):
        _write_table(tmp_path / name, "flat")
    (tmp_path / "handbook" / "a.md").write_text("# A")
    (tmp_path / "run" / "documents").mkdir()
    (tmp_path / "run" / "documents" / "manifest.json").write_text("{}")
    for name in ("corpus", "queries"):
        _write_table(tmp_path / "beir" / name, "flat")
    (tmp_path / "empty").mkdir()

    for name in ("handbook", "run", "beir", "empty"):
        assert table_kind(tmp_path / name) is None
    assert table_kind(tmp_path / "beir" / "corpus") == "parquet"


def test_a_compressed_file_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"compressed files are not read; unpack it .* `gunzip -k a\.jsonl"):
        data_source(DocumentsConfig(path=tmp_path / "a.jsonl.gz"))
