"""Checks that look at the whole set, at other sets, and at languages."""

from __future__ import annotations

import numpy as np
import pytest

from multigrain.audit.check import Problem
from multigrain.audit.checks import check_negative, check_row, check_rows
from multigrain.audit.evaluation_sets import Contamination, EvaluationTexts
from multigrain.audit.language import check_language
from multigrain.audit.structure import check_structure, mend
from multigrain.config import AuditChecks, AuditConfig, DecontaminationConfig
from multigrain.errors import SourceError
from multigrain.records import Level, SynthesizedRow
from multigrain.sources.language import main_language
from multigrain.stages.labels import dump_labels, read_labels

QUERIES = [
    "how can I rotate the log files of a busy server every night",
    "How can I rotate the log files of a busy server every night?!",
    "how can I rotate the log files of a busy server every day",
    "convert an image from png to jpeg without losing its colours",
]


def rows(queries: list[str], **fields: object) -> list[SynthesizedRow]:
    return [SynthesizedRow(f"r{n}", f"d{n}", query, "A passage.", **fields) for n, query in enumerate(queries)]  # type: ignore[arg-type]


def find_duplicates(rows: list[SynthesizedRow], config: AuditConfig) -> dict[int, Problem]:
    return check_rows(rows, range(len(rows)), config)


def test_queries_that_repeat_or_nearly_repeat_another_are_found() -> None:
    config = AuditConfig(near_duplicate_similarity=0.7)

    found = find_duplicates(rows(QUERIES), config)

    assert {place: problem.reason for place, problem in found.items()} == {1: "duplicate_query", 2: "near_duplicate"}
    assert "r0" in found[2].detail


def test_each_of_the_two_is_off_where_it_is_switched_off() -> None:
    off = AuditConfig(near_duplicate_similarity=0.7, checks=AuditChecks(near_duplicates=False, repeats=False))

    assert find_duplicates(rows(QUERIES), off) == {}


def test_a_given_query_keeps_a_row_for_each_of_its_positives() -> None:
    first = SynthesizedRow("a", "d1", QUERIES[0], "One.", relevant_ids=("d2",))
    second = SynthesizedRow("b", "d2", QUERIES[0], "Two.", relevant_ids=("d1",))

    assert find_duplicates([first, second], AuditConfig()) == {}


def test_written_positives_that_nearly_repeat_are_found_and_documents_are_not() -> None:
    text = "The log files of a busy server are rotated every night by a small program that runs as root."
    written = [SynthesizedRow(f"r{n}", None, query, text) for n, query in enumerate((QUERIES[0], QUERIES[3]))]
    documents = [SynthesizedRow(f"r{n}", "d", query, text) for n, query in enumerate((QUERIES[0], QUERIES[3]))]

    assert [problem.reason for problem in find_duplicates(written, AuditConfig()).values()] == ["near_duplicate"]
    assert find_duplicates(documents, AuditConfig()) == {}


def axes(*places: int) -> np.ndarray:
    return np.eye(8, dtype=np.float32)[list(places)]


def test_rows_of_an_evaluation_set_are_found_by_words_and_by_meaning() -> None:
    held = EvaluationTexts(
        "faq", (QUERIES[0], "how do logs turn"), ("the secret passage that nobody may ever have seen",)
    )
    guard = Contamination([held], DecontaminationConfig(), axes(0, 1))

    problems = guard.check(
        [QUERIES[1], "something else", "logs: how do they turn?", "short one"],
        ["p", "So the secret passage that nobody may ever have seen", "p", "p"],
        axes(4, 5, 1, 6),
    )

    assert [each is not None for each in problems] == [True, True, True, False]
    assert "query stands in faq" in problems[0].detail
    assert "positive stands in faq" in problems[1].detail
    assert "similarity 1.00 to faq: how do logs turn" in problems[2].detail
    assert {each.reason for each in problems if each} == {"contaminated"}


def test_a_short_query_is_contaminated_only_by_its_whole_self() -> None:
    guard = Contamination([EvaluationTexts("s", ("rotate logs",))], DecontaminationConfig(), axes(0))

    problems = guard.check(["Rotate logs!", "rotate logs daily", "rotate"], ["p", "p", "p"], axes(3, 4, 5))

    assert [each is not None for each in problems] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("how to rotate logs", False),
        ("JPEG XL encoder", False),
        ("numpy.linalg.norm of a matrix", False),
        ("ok", False),
        ("", False),
        ("Wie kann ich die Protokolldateien rotieren?", True),
        ("¿Cómo puedo rotar los archivos de registro?", True),
        ("如何轮换服务器的日志文件", True),
        ("как повернуть логи", True),
    ],
)
def test_only_what_is_surely_in_another_language_is_turned_away(text: str, wrong: bool) -> None:
    problem = check_language(text, ["en"])

    assert (problem is not None) == wrong
    assert check_language(text, []) is None


def test_a_passage_s_language_is_told_where_it_is_clear() -> None:
    assert main_language("The scheduler starts each job when its dependencies have finished, and retries it.") == "en"
    assert main_language("Der Planer startet jeden Auftrag, sobald seine Abhängigkeiten erledigt sind.") == "de"
    assert main_language("x") is None


PASSAGE = "The scheduler starts each job when its dependencies have finished and retries it on failure."


@pytest.mark.parametrize(
    ("check", "query"),
    [
        ("short", "scheduler"),
        ("long", "word " * 30 + "other words " * 30),
        ("refusal", "I'm sorry, I cannot help with that request"),
        ("prompt_echo", "Here is the query: "),
        ("repeats", "set the the the the the the the the"),
        ("copied", "starts each job when its dependencies have finished and retries it"),
        ("empty", "?!"),
    ],
)
def test_each_check_can_be_switched_off(check: str, query: str) -> None:
    on = AuditConfig(checks=AuditChecks.model_validate({name: name == check for name in AuditChecks.model_fields}))
    off = AuditConfig(checks=AuditChecks.model_validate({name: name != check for name in AuditChecks.model_fields}))

    row = SynthesizedRow("r", "d", query, PASSAGE)
    found = check_row(row, on)
    assert found is not None
    problem = check_row(row, off)
    assert problem is None or problem.reason != found.reason


def reason(query: str, positive: str, *, written: bool) -> str | None:
    problem = check_row(SynthesizedRow("r", None if written else "d", query, positive), AuditConfig())
    return None if problem is None else problem.reason


def test_a_positive_that_is_none_and_a_negative_that_is_too_long_go() -> None:
    assert reason("q w", " … ", written=False) == "empty"
    assert reason("the same words", "The same words.", written=False) == "copied_query"
    assert reason("a b", "I'm sorry, I cannot write that.", written=True) == "refusal"
    assert reason("a b", "I'm sorry, says the man in this play.", written=False) is None
    row = SynthesizedRow("r", "d", "q w", PASSAGE)
    assert check_negative("one two three four five six", row, AuditConfig(max_passage_words=5)).reason == "too_long"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("query", None, "query is NoneType"),
        ("positive", ["p"], "positive is list"),
        ("query", "half \ud800", "surrogate"),
        ("positive", "nul \x00", "NUL"),
        ("negatives", {7: "n"}, "level '7'"),
        ("negatives", {Level.HARD: 3}, "negative 4 is int"),
        ("negatives", "text", "negatives is str"),
        ("candidates", {Level.HARD: "text"}, "not a list of texts"),
        ("relevant_ids", "text", "relevant_ids is str"),
        ("id", "", "id is empty"),
    ],
)
def test_what_is_no_row_is_named(field: str, value: object, words: str) -> None:
    fields = {"id": "r", "document_id": "d", "query": "q", "positive": "p", field: value}
    broken = SynthesizedRow(**fields)  # type: ignore[arg-type]

    problem = check_structure(broken)

    assert problem is not None
    assert problem.reason == "schema"
    assert words in problem.detail
    assert check_structure(mend(broken)) is None or not mend(broken).id


def test_marks_are_read_as_lines_and_as_a_list(tmp_path) -> None:
    lines, whole = tmp_path / "marks.jsonl", tmp_path / "marks.json"
    lines.write_text(dump_labels(["a", "b"]), encoding="utf-8")
    whole.write_text('[{"id": "a", "mark": "bad"}, {"id": "b", "mark": "bad"}]', encoding="utf-8")

    assert read_labels(lines) == read_labels(whole) == ("a", "b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": "a", "mark": "bad"}\nnot json', ":2: not JSON"),
        ('{"id": "a"}', ":1: expected"),
        ('["a"]', "entry 1: expected"),
        ("[", "not JSON"),
        ('{"id": 3, "mark": "bad"}', ":1: expected"),
    ],
)
def test_a_file_that_holds_no_marks_is_refused_with_its_place(tmp_path, text: str, words: str) -> None:
    path = tmp_path / "marks.jsonl"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(SourceError, match=words):
        read_labels(path)
    with pytest.raises(SourceError, match="cannot be read"):
        read_labels(tmp_path / "missing")
