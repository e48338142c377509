"""Retrieval sets that training mixes with the graded rows."""

from __future__ import annotations

from pydantic import Field, field_validator

from multigrain.config.paths import FileOrName
from multigrain.config.section import Section


class ColumnsConfig(Section):
    """Which columns of a set are the query, the positive and the negatives."""

    query: str = "query"
    """The column with the query."""

    positive: str = "positive"
    """The column with the passage that answers it: text, or a list of which the first is taken."""

    negatives: list[str] = Field(default_factory=list)
    """Columns with mined negatives: text, or lists of texts. A row uses one of its negatives a visit, in turn. Left
    empty, the set is trained on with in-batch negatives alone."""


class MixSourceConfig(Section):
    """A retrieval set whose batches are mixed with those of the graded rows."""

    name: str = Field(min_length=1)
    """What logs and errors call it."""

    path: FileOrName = Field(min_length=1)
    """A JSONL, JSON, CSV, TSV or Parquet file, a folder of Parquet files, a folder that `datasets` saved, or the hub
    id of a data set."""

    split: str = "train"
    """The split of a hub data set or of a saved DatasetDict."""

    subset: str | None = None
    """The configuration of a hub data set that has several."""

    columns: ColumnsConfig = Field(default_factory=ColumnsConfig)
    """Column names in the set."""

    weight: float = Field(default=1.0, gt=0)
    """How many steps it gets for each step of a source of weight 1 (see training.graded_weight)."""

    max_rows: int | None = Field(default=None, ge=2)
    """Take at most so many rows, drawn by the run's seed (null: all)."""

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name == "graded":
            raise ValueError("the name 'graded' stands for the run's own rows; choose another")
        return name
