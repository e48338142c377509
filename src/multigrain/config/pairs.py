"""Queries that are given, with the passages that answer them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from multigrain.config.paths import InputPath
from multigrain.config.section import Section


class PairsConfig(Section):
    """start_from: pairs only. Queries that are given, with the passages that answer them: negatives are written."""

    kind: Literal["auto", "jsonl", "json", "csv", "tsv", "parquet", "hub", "beir"] = "auto"
    """What `path` holds; auto tells by the name, and takes a folder for a BEIR data set."""

    path: InputPath | None = None
    """A .jsonl, .json, .csv, .tsv or .parquet file, hf:OWNER/NAME[@REVISION][:CONFIG][:SPLIT], or a BEIR folder
    (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv). Rows with the same query are one query with several positives."""

    query_field: str = "query"
    """Column with the query. Its words are never changed."""

    positive_field: str = "positive"
    """Column with the passage that answers it, or with a list of such passages."""

    split: str = "train"
    """BEIR only: which qrels file."""

    limit: int | None = Field(default=None, ge=10)
    """Take a seeded sample of this many queries (null: all)."""
