"""A data source is added by its module and a line: it validates, reads, is looked at and has a fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from multigrain import plugins
from multigrain.config import Config, DocumentsConfig
from multigrain.config.documents import DATA_SOURCES
from multigrain.errors import ConfigError
from multigrain.records import Document
from multigrain.sources.load import load_corpus
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
