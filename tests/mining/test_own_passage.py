"""A query's own passage is never its negative, with its title or without, in any case, whatever it is read from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.mining.corpus import CorpusFiles
from multigrain.mining.job import mine, read_pairs
from multigrain.mining.rules import MiningRules

WORDS = ["owl", "hen", "kite", "crow", "duck", "swan", "heron", "finch", "gull", "tern", "stork", "crane"]
BODIES = [f"The {word} is told of in chapter {n}, page {7 * n}, and on no other." for n, word in enumerate(WORDS)]
TITLES = [f"About the {word}" for word in WORDS]


class Alike:
    """Every text is as near to every query as any other, so that ranks go by row alone."""

    fingerprint = "alike"

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones((len(texts), 1), dtype=np.float32)

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones((len(texts), 1), dtype=np.float32)


def jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@settings(max_examples=30, deadline=None)
@given(
    in_pairs=st.booleans(),
    in_corpus=st.booleans(),
    separator=st.sampled_from([" ", ". ", "\n", " - "]),
    upper=st.booleans(),
    negatives=st.integers(1, 11),
)
def test_no_row_has_its_own_passage_as_a_negative(
    tmp_path_factory: pytest.TempPathFactory,
    in_pairs: bool,
    in_corpus: bool,
    separator: str,
    upper: bool,
    negatives: int,
) -> None:
    folder = tmp_path_factory.mktemp("own")
    positives = [title + separator + body if in_pairs else body for title, body in zip(TITLES, BODIES, strict=True)]
    positives = [text.upper() if upper else text for text in positives]
    pairs = jsonl(
        folder / "pairs.jsonl", [{"query": f"ask {n}", "positive": text} for n, text in enumerate(positives)]
    )
    corpus = jsonl(
        folder / "corpus.jsonl",
        [{"text": body} | ({"title": title} if in_corpus else {}) for title, body in zip(TITLES, BODIES, strict=True)],
    )

    mine(
        read_pairs(pairs, None, None),
        CorpusFiles((str(corpus),)),
        MiningRules(negatives=negatives),
        Alike(),
        store=str(folder / "vectors"),
        out=folder / "out.jsonl",
    )

    rows = list(map(json.loads, (folder / "out.jsonl").read_text().splitlines()))
    assert len(rows) == len(WORDS), "no query is short of negatives for want of its own passage alone"
    for row, body in zip(rows, BODIES, strict=True):
        assert not any(body in text for name, text in row.items() if name.startswith("negative"))


def test_texts_of_a_list_that_are_labelled_as_no_match_are_no_positives(tmp_path: Path) -> None:
    rows = [{"query": "q", "answer": ["wrong", "right"], "labels": [0, 1]}]

    pairs = read_pairs(jsonl(tmp_path / "pairs.jsonl", rows), None, None)

    assert pairs.positives == (("right",),)
    assert pairs.reading.unused == []


def test_similarities_that_call_no_row_of_a_query_no_match_are_told(tmp_path: Path) -> None:
    rows = [{"query": "q", "answer": f"p{n}", "score": 0.8 - n / 100} for n in range(3)]

    pairs = read_pairs(jsonl(tmp_path / "pairs.jsonl", rows), None, None)

    assert any("all 3 rows of 1 queries count as matches" in note for note in pairs.notes)


def test_pairs_heed_labels_and_count_what_is_left_out(tmp_path: Path) -> None:
    rows = [
        {"question": "a", "answer": "x", "label": 1},
        {"question": "a", "answer": "y", "label": 0},
        {"question": "b", "answer": "z", "label": 2, "url": "u"},
        {"question": " ", "answer": "z", "label": 1},
    ]

    pairs = read_pairs(jsonl(tmp_path / "pairs.jsonl", rows), None, None)

    assert (pairs.queries, pairs.positives) == (("a", "b"), (("x",), ("z",)))
    assert [note.split("; the first")[0] for note in pairs.notes] == [
        "pairs.jsonl: 1 of 4 rows left out, labelled as no match (a match is above 0)",
        "pairs.jsonl: 1 of 4 rows left out, no query or no positive",
        "pairs.jsonl: column 'url' not used",
    ]
