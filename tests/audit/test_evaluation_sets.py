"""The sets that training rows must not be in, as they lie in files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from multigrain.audit.evaluation_sets import find_contamination
from multigrain.config import Config
from multigrain.errors import EvaluationError


class NoModel:
    """Vectors that say nothing: words are what is compared here."""

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        return np.eye(len(texts), 8, dtype=np.float32)

    embed_queries = encode_queries


def config_of(path: Path) -> Config:
    return Config.model_validate({"audit": {"decontamination": {"sets": [str(path)]}}})


@pytest.mark.parametrize("column", ["query", "question", "anchor", "text"])
def test_a_table_of_queries_is_compared_with_whatever_its_column_is_called(tmp_path: Path, column: str) -> None:
    path = tmp_path / "held.jsonl"
    path.write_text(json.dumps({"id": "1", column: "how do logs turn"}) + "\n")

    guard = find_contamination(config_of(path), NoModel())  # type: ignore[arg-type]

    assert guard is not None
    problems = guard.check(["How do logs turn?", "else"], ["p", "p"], np.eye(8, dtype=np.float32)[[6, 7]])
    assert [problem is not None for problem in problems] == [True, False]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"query": "a"}\n{"quer', "held.jsonl:2: not JSON"),
        ('{"passage": "a"}', "held.jsonl:1: no column with the query (query, anchor"),
        ('{"query": 7}', "held.jsonl:1: '7' is int, not text"),
    ],
)
def test_a_table_that_cannot_be_compared_with_is_a_broken_evaluation_set(
    tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "held.jsonl"
    path.write_text(content)

    with pytest.raises(EvaluationError) as caught:
        find_contamination(config_of(path), NoModel())  # type: ignore[arg-type]

    assert words in str(caught.value)
    assert caught.value.exit_code == 9
