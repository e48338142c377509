"""What training meets at which step: ranges of steps with their levels, and retrieval sets that are mixed in."""

from __future__ import annotations

from pydantic import Field, field_validator

from multigrain.config.paths import FileOrName
from multigrain.config.section import Section


class PhaseConfig(Section):
    """A range of steps, and how often each level is trained on in it."""

    until: float = Field(gt=0, le=1)
    """Share of the steps after which the range ends; the last one ends at 1."""

    levels: dict[int, float] = Field(min_length=1)
    """Level (1 easiest to 4 hardest) to weight. One level alone is that of whole batches; of several, each row draws
    its own."""

    @field_validator("levels")
    @classmethod
    def _levels_exist(cls, levels: dict[int, float]) -> dict[int, float]:
        for level, weight in levels.items():
            if level not in (1, 2, 3, 4):
                raise ValueError(f"there is no level {level}; levels are 1 (easiest) to 4 (hardest)")
            if weight < 0:
                raise ValueError(f"the weight of level {level} is {weight:g}; weights are 0 or more")
        if not any(levels.values()):
            raise ValueError("all weights are 0; give at least one level a weight above 0")
        return levels


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
