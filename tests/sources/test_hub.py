"""Data sets through the real `datasets`: saved ones and folders that it reads, as neither needs a network."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from multigrain.config import DocumentsConfig
from multigrain.config.file import load_config
from multigrain.errors import SourceError
from multigrain.sources.load import load_corpus
from multigrain.sources.source import data_source
from multigrain.storage.hub import HubReference, parse_hub
from multigrain.storage.rows import read_rows

ROWS = {
    "key": [f"k{n}" for n in range(12)],
    "body": [f"Body {n} of a text w{n} that is long enough." for n in range(12)],
}
FIELDS = {"text_field": "body", "id_field": "key"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("reference", "read"),
    [
        ("hf:owner/name", HubReference("owner/name", None, "train", None)),
        ("hf:owner/name:test", HubReference("owner/name", None, "test", None)),
        ("hf:owner/name:train[:1000]", HubReference("owner/name", None, "train[:1000]", None)),
        ("hf:owner/name:en", HubReference("owner/name", "en", "train", None)),
        ("hf:owner/name@v1.0:en:dev[10%:]", HubReference("owner/name", "en", "dev[10%:]", "v1.0")),
    ],
)
def test_references_are_read(reference: str, read: HubReference) -> None:
    assert parse_hub(Path(reference)) == read


@pytest.mark.parametrize("form", ["saved", "saved-dict", "files"])
def test_data_sets_of_every_form_are_documents(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "set"
    rows = datasets.Dataset.from_dict(ROWS)
    if form == "saved":
        rows.save_to_disk(str(folder))
    elif form == "saved-dict":
        datasets.DatasetDict({"train": rows}).save_to_disk(str(folder))
    else:
        folder.mkdir()
        rows.to_parquet(str(folder / "train.parquet"))
    (tmp_path / "config.yaml").write_text(
        "documents: {path: 'hf:./set', text_field: body, id_field: key, min_characters: 5}"
    )

    corpus = load_corpus(load_config(tmp_path / "config.yaml").documents, seed=1)

    assert [each.id for each in corpus.documents] == ROWS["key"]
    assert [each.text for each in corpus.documents] == ROWS["body"]


def test_a_reference_to_the_hub_is_not_taken_for_a_path(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("documents: {path: 'hf:owner/name:test'}")

    assert load_config(tmp_path / "config.yaml").documents.path == Path("hf:owner/name:test")


def test_wrong_columns_splits_and_names_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"key": ["a"], "words": ["x"]})}).save_to_disk(
        str(folder)
    )
    cases = {
        f"hf:{folder}": "set:row 1: no column with the text (text, ",
        f"hf:{folder}:test": "no split 'test'; it has train",
        "hf:nobody/has-this": "cannot be loaded",
        "hf:": "not a data set",
    }
    for reference, words in cases.items():
        with pytest.raises(SourceError) as caught:
            load_corpus(DocumentsConfig(path=Path(reference)), seed=1)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_split_of_a_saved_data_set_may_have_any_name(tmp_path: Path) -> None:
    parts = {
        name: datasets.Dataset.from_dict({"text": [f"{name} {n}" for n in range(2)]}) for name in ("docs", "more")
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "set"))

    assert [row.values["text"] for row in read_rows(f"hf:{tmp_path / 'set'}:more")] == ["more 0", "more 1"]
    with pytest.raises(SourceError, match="no split 'corpus'; it has docs, more"):
        list(read_rows(f"hf:{tmp_path / 'set'}:corpus"))


def test_of_a_saved_data_set_the_written_split_is_read(tmp_path: Path) -> None:
    parts = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test", "corpus")}
    folder = tmp_path / "set"
    datasets.DatasetDict(parts).save_to_disk(str(folder))

    for reference, read in {
        "": "train",
        ":test": "test",
        ":corpus": "corpus",
        ":default:train": "train",
        ":default:test": "test",
        ":default:corpus": "corpus",
        ":test:test": "test",
    }.items():
        assert [row.values["text"] for row in read_rows(f"hf:{folder}{reference}")] == [read], reference
    for reference, words in {
        ":train:test": f"train and test are both splits of it; name one: hf:{folder}:test",
        ":corpus:train": f"corpus and train are both splits of it; name one: hf:{folder}:train",
        ":corpora": "no split 'corpora'; it has train, test, corpus",
        ":default:dev": "no split 'dev'; it has train, test, corpus",
    }.items():
        with pytest.raises(SourceError) as caught:
            list(read_rows(f"hf:{folder}{reference}"))
        assert str(caught.value) == f"hf:{folder}{reference}: {words}"


def test_the_fingerprint_of_a_folder_follows_its_files(tmp_path: Path) -> None:
    datasets.Dataset.from_dict(ROWS).to_json(str(tmp_path / "a.jsonl"))
    config = DocumentsConfig(path=Path(f"hf:{tmp_path}"), **FIELDS)
    before = data_source(config).fingerprint(config)

    assert data_source(config).fingerprint(config) == before
    datasets.Dataset.from_dict({"key": ["x"], "body": ["y"]}).to_json(str(tmp_path / "a.jsonl"))
    assert data_source(config).fingerprint(config) != before
