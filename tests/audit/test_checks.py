from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.audit.checks import check_negative, check_query, containment
from multigrain.config import AuditConfig

PASSAGE = (
    "The scheduler starts each job when its dependencies have finished and retries it on failure up to three times."
)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("?!…", "empty"),
        ("scheduler", "too_short"),
        ("word other " * 40, "too_long"),
        ("I'm sorry, I cannot help with that request", "refusal"),
        ("As an AI language model I have no opinion", "refusal"),
        ("Here is the query:", "prompt_echo"),
        ("Sure! A good query would be this one", "prompt_echo"),
        ("set the the the the the the the the", "repetition"),
        ("starts each job when its dependencies have finished and retries it", "copied_document"),
    ],
)
def test_a_query_that_is_none_is_turned_away_with_its_reason(query: str, reason: str) -> None:
    problem = check_query(query, PASSAGE, AuditConfig())

    assert problem is not None
    assert problem.reason == reason
    assert problem.detail


@pytest.mark.parametrize(
    "query",
    [
        "how are failed jobs started again",
        "retry a job after failure",
        "text encoding of a file",
        "query a database with parameters",
        "如何轮换服务器的日志文件",
        "ログをローテーションする方法",
        "Given a graph, find the shortest path between two nodes",
    ],
)
def test_ordinary_queries_pass(query: str) -> None:
    assert check_query(query, PASSAGE, AuditConfig()) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no", "too_short"),
        ("I apologize, but I can't write that passage.", "refusal"),
        ("Here is a passage about another topic:", "prompt_echo"),
        ("run the run the run the run the run the", "repetition"),
        ("How are jobs retried", "copied_query"),
        (PASSAGE.upper(), "copied_document"),
    ],
)
def test_a_written_negative_that_is_none_is_turned_away(text: str, reason: str) -> None:
    problem = check_negative(text, "how are jobs retried?", PASSAGE, AuditConfig())

    assert problem is not None
    assert problem.reason == reason


@given(st.text(), st.text())
def test_no_text_breaks_the_checks(text: str, other: str) -> None:
    check_query(text, other, AuditConfig())
    check_negative(text, other, other, AuditConfig())
    assert 0 <= containment(text, other) <= 1
    assert containment(text, text) == 1
