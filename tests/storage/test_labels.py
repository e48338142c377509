"""Labels of pairs: the names of their column, and grades that call nothing no match."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from multigrain.config import PairsConfig
from multigrain.dataset.foreign import read_foreign
from multigrain.errors import SourceError
from multigrain.sources.judgments import read_qrels
from multigrain.sources.pairs import read_pairs
from multigrain.storage.reading import Reading


def write_jsonl(path: Path, values: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "column", ["is_duplicate", "is_relevant", "relevant", "relevance_label", "relevance_score", "Is Match"]
)
@pytest.mark.parametrize(("yes", "no"), [(1, 0), (True, False), ("1", "0")])
def test_a_label_of_a_pair_is_used_by_any_of_its_names(tmp_path: Path, column: str, yes: object, no: object) -> None:
    values = [{"question": "q", "answer": "p", column: yes}, {"question": "q", "answer": "n", column: no}]
    path = write_jsonl(tmp_path / "a.jsonl", values)

    (row,), _ = read_foreign(path)
    table = read_pairs(PairsConfig(path=path))

    assert (row.positives, row.negatives) == (("p",), ("n",))
    assert [document.text for document in table.documents] == ["p"]


@pytest.mark.parametrize("score", ["score", "similarity"])
def test_a_label_goes_before_the_score_of_its_pair(tmp_path: Path, score: str) -> None:
    values = [
        {"query": "q", "answer": "p", score: 0.4, "label": 1},
        {"query": "q", "answer": "n", score: 0.9, "label": 0},
    ]
    path = write_jsonl(tmp_path / "a.jsonl", values)
    reading = Reading()

    (row,), _ = read_foreign(path, reading=reading)

    assert (row.positives, row.negatives) == (("p",), ("n",))
    assert reading.unused == [score]
    assert [document.text for document in read_pairs(PairsConfig(path=path)).documents] == ["p"]


@pytest.mark.parametrize("label", ["label", "is_duplicate", "is_relevant", "is_match"])
@pytest.mark.parametrize("grade", ["relevance", "rel", "relevance_grade", "score"])
def test_a_label_goes_before_a_grade_and_a_score(tmp_path: Path, label: str, grade: str) -> None:
    values = [
        {"query": "q", "answer": "p", grade: 1, label: 1},
        {"query": "q", "answer": "n", grade: 3, label: 0},
    ]
    path = write_jsonl(tmp_path / "a.jsonl", values)
    reading = Reading()

    (row,), _ = read_foreign(path, reading=reading)

    assert (row.positives, row.negatives, reading.unused) == (("p",), ("n",), [grade])
    assert [document.text for document in read_pairs(PairsConfig(path=path)).documents] == ["p"]


@pytest.mark.parametrize("labels", [("sports", "politics"), ("", None), ("sports", 1, "politics")])
def test_a_score_is_used_beside_a_label_that_is_empty_or_holds_other_words(
    tmp_path: Path, labels: tuple[object, ...]
) -> None:
    values = [
        {"query": "q", "answer": f"p{n}", "label": label, "score": float(n == 0)} for n, label in enumerate(labels)
    ]
    path = write_jsonl(tmp_path / "a.jsonl", values)
    reading = Reading()

    (row,), _ = read_foreign(path, reading=reading)
    table = read_pairs(PairsConfig(path=path))

    assert (row.positives, row.negatives[:1], reading.unused) == (("p0",), ("p1",), ["label"])
    assert [document.text for document in table.documents] == ["p0"]
    assert any("column 'label' not used" in note for note in table.notes)


def test_one_word_among_labels_is_a_fault_and_not_passed_over(tmp_path: Path) -> None:
    values = [{"query": "q", "answer": "p", "label": label, "score": 0.5} for label in ("yes", "no", "perhaps", "yes")]
    path = write_jsonl(tmp_path / "a.jsonl", values)

    with pytest.raises(SourceError, match=r"a\.jsonl:3: 'label' is 'perhaps', not a number"):
        read_pairs(PairsConfig(path=path))


def test_grades_none_of_which_is_0_are_told(tmp_path: Path) -> None:
    def notes(grades: list[int]) -> list[str]:
        values = [{"query": f"q{n}", "answer": f"p{n}", "grade": grade} for n, grade in enumerate(grades)]
        path = write_jsonl(tmp_path / "a.jsonl", values)
        reading = Reading()
        read_foreign(path, reading=reading)
        table = read_pairs(PairsConfig(path=path))
        read = [line for line in (*table.notes, *reading.lines("a.jsonl")) if "count as matches" in line]
        assert table.pairs == sum(grade > 0 for grade in grades)
        return read

    told = notes([1, 5, 3])

    assert len(told) == 2, "both readers of pairs say it"
    assert all("'grade' holds grades from 1 to 5, all above 0: all 3 rows of 3 queries" in line for line in told)
    assert notes([1, 1, 1]) == notes([0, 1, 2]) == notes([1, 2, 2]) == notes([0, 1, 5]) == []


@pytest.mark.parametrize("grades", [(1, 2), (2, 2), (1, 3), (2, 4), (3, 3), (0, 3), (-1, 3), (1, 1)])
def test_grades_that_begin_above_0_are_told_of_pairs_as_of_judgments(tmp_path: Path, grades: tuple[int, int]) -> None:
    told = min(grades) > 0 and max(grades) >= 3
    values = [{"query": f"q{n}", "answer": f"p{n}", "grade": grade} for n, grade in enumerate(grades)]
    pairs = read_pairs(PairsConfig(path=write_jsonl(tmp_path / "a.jsonl", values))).notes
    qrels = tmp_path / "test.tsv"
    qrels.write_text("".join(f"q\td{n}\t{grade}\n" for n, grade in enumerate(grades)))
    judgments = Reading("judgments")
    read_qrels(qrels, reading=judgments)

    assert any("where some grades mean no match" in line for line in pairs) == told
    assert any("none of them 0" in line for line in judgments.lines("test.tsv")) == told


@pytest.mark.parametrize("context", ["context", "contexts"])
def test_the_context_of_an_answer_is_the_passage(tmp_path: Path, context: str) -> None:
    row = {"question": "Who wrote it?", "answer": "Shakespeare", context: "Hamlet is a tragedy by Shakespeare."}
    path = write_jsonl(tmp_path / "a.jsonl", [row])

    assert read_foreign(path)[0][0].positives == (row[context],)
    assert [document.text for document in read_pairs(PairsConfig(path=path)).documents] == [row[context]]
    assert read_pairs(PairsConfig(path=path, positive_field="answer")).documents[0].text == "Shakespeare"
