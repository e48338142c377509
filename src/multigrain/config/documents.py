"""Where documents come from, and queries that are given with the passages that answer them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from multigrain.config.paths import InputPath
from multigrain.config.section import Section
from multigrain.display.suggest import did_you_mean
from multigrain.plugins import Registry

DATA_SOURCES: Final = Registry[object](
    kind="data source",
    group="multigrain.sources",
    built_in={
        "folder": "multigrain.sources.folder:FOLDER",
        "jsonl": "multigrain.sources.tables:JSONL",
        "json": "multigrain.sources.tables:JSON",
        "csv": "multigrain.sources.tables:CSV",
        "tsv": "multigrain.sources.tables:TSV",
        "parquet": "multigrain.sources.tables:PARQUET",
        "hub": "multigrain.sources.tables:HUB",
        "docstrings": "multigrain.sources.docstrings:DOCSTRINGS",
    },
    named_by="documents.kind",
)
"""What `documents.kind` may be, besides auto; see `multigrain.sources.source`."""

_OF_NO_PATH: Final = ("auto", "docstrings")


def _data_source(kind: str) -> str:
    if kind not in ("auto", *DATA_SOURCES.built_in) and kind not in DATA_SOURCES.added:
        names = ["auto", *DATA_SOURCES.names()]
        raise ValueError(f"no data source is called {kind!r}{did_you_mean(kind, names)}; expected {', '.join(names)}")
    return kind


class DocumentsConfig(Section):
    """Where the documents come from and how they are split."""

    added: ClassVar[Mapping[str, Any]] = {"text_format": "plain"}

    kind: Annotated[str, AfterValidator(_data_source)] = "auto"
    """What `path` holds: folder, jsonl, json, csv, tsv, parquet, hub, docstrings (of installed Python packages; no
    path), or a data source of another package. auto tells by the file name."""

    path: InputPath | None = None
    """A folder of text, Markdown, HTML, PDF and DOCX files; or one .jsonl, .json, .csv, .tsv or .parquet file. A
    folder of Parquet files, or one that `datasets` saved. Or a data set, hf:OWNER/NAME[@REVISION][:CONFIG][:SPLIT].
    Relative to the config file."""

    id_field: str = "id"
    """Column with the document id (made from the row number where the column is missing)."""

    text_field: str = "text"
    """Column with the text."""

    text_format: Literal["plain", "html"] = "plain"
    """Tables only: what the text column holds. html: its cells are read as HTML files are. plain: as they stand."""

    title_field: str | None = "title"
    """Column with a title that is not part of the text: it becomes a held-out query. Missing is fine."""

    unreadable: Literal["refuse", "skip"] = "refuse"
    """What becomes of files in a folder that hold no text (binaries, scans, encrypted ones, links to nothing): refuse
    names the first, counts the others and stops, skip leaves them out and counts them."""

    chunk_size: int | None = Field(default=None, ge=20)
    """Cut documents that are longer than this into chunks, at paragraphs and sentences where possible (null: don't).
    A chunk's id is ID#1, ID#2, …; no split divides the chunks of a document."""

    chunk_unit: Literal["words", "characters"] = "words"
    """What chunk_size counts."""

    chunk_overlap: float = Field(default=0.1, ge=0, le=0.5)
    """Share of a chunk that the next one repeats."""

    limit: int | None = Field(default=None, ge=10)
    """Take a seeded sample of this many documents (null: all)."""

    min_characters: int = Field(default=40, ge=1)
    """Shorter documents are left out, and counted."""

    max_characters: int = Field(default=20_000, ge=100)
    """Longer documents (or chunks) are cut here, at a space where one is near, and counted."""

    near_duplicate_similarity: float = Field(default=0.7, gt=0, le=1)
    """Documents whose word trigrams overlap this much (Jaccard) are one group. No split divides a group, unless it
    holds more than half of all documents."""

    validation_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of documents whose queries choose between models. Synthesis never sees them."""

    test_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of documents whose queries give the final figures. Synthesis never sees them."""

    @model_validator(mode="after")
    def _shares_leave_training(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share + test_share must stay below 1: nothing is left to train on")
        if self.chunk_size is not None and self.kind == "docstrings":
            raise ValueError("chunk_size: docstrings are not chunked")
        if self.path is None and self.kind in DATA_SOURCES.built_in and self.kind not in _OF_NO_PATH:
            raise ValueError(f"kind {self.kind!r} needs a path")
        return self


class PairsConfig(Section):
    """start_from: pairs only. Queries that are given, with the passages that answer them: negatives are written."""

    added: ClassVar[Mapping[str, Any]] = {"labels": None, "balance": True, "texts_per_label": 0}

    kind: Literal["auto", "jsonl", "json", "csv", "tsv", "parquet", "hub", "beir"] = "auto"
    """What `path` holds; auto tells by the name, and takes a folder that is no table for a BEIR data set."""

    path: InputPath | None = None
    """A .jsonl, .json, .csv, .tsv or .parquet file, or hf:OWNER/NAME[@REVISION][:CONFIG][:SPLIT]. Or a folder: of
    Parquet files, one that `datasets` saved, or a BEIR data set (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv).
    Rows with the same query are one query with several positives."""

    query_field: str = "query"
    """Column with the query. Its words are never changed."""

    positive_field: str = "positive"
    """Column with the passage that answers it, or with a list of such passages."""

    split: str = "train"
    """BEIR only: which qrels file."""

    limit: int | None = Field(default=None, ge=10)
    """Take a seeded sample of this many queries (null: all)."""

    labels: InputPath | None = None
    """A table of labels (columns `label` and `description`): `path` then holds texts, with a label or a list of labels
    each. The query is the text, its positives are the descriptions of its labels, and all other labels are negatives,
    graded by measured similarity. Set `synthesis.strategy: mined-bands`."""

    balance: bool = True
    """labels only: take training texts in rounds, one of each label at a time, so that `synthesis.max_documents` cuts
    frequent labels first."""

    texts_per_label: int = Field(default=0, ge=0, le=1000)
    """labels only: a label with fewer training texts than this gets further ones, which the language model writes. Its
    prompt names the labels, their descriptions and an example of each."""
