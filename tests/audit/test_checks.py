from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.installed import install

from multigrain.audit import checks
from multigrain.audit.check import Check, MeasuredRow, Problem
from multigrain.audit.checks import CHECKS, active_checks, check_row, containment
from multigrain.config import AuditChecks, AuditConfig
from multigrain.errors import ConfigError
from multigrain.records import SynthesizedRow

PASSAGE = (
    "The scheduler starts each job when its dependencies have finished and retries it on failure up to three times."
)


def check_query(query: str, positive: str, config: AuditConfig) -> Problem | None:
    """What is wrong with a row, whatever its language."""
    switches = config.checks.model_copy(update={"language": False})
    return check_row(SynthesizedRow("r", "d", query, positive), config.model_copy(update={"checks": switches}))


def check_negative(text: str, query: str, positive: str, config: AuditConfig) -> Problem | None:
    return checks.check_negative(text, SynthesizedRow("r", "d", query, positive), config)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("?!…", "empty"),
        ("scheduler", "too_short"),
        ("word other " * 40, "too_long"),
        ("I'm sorry, I cannot help with that request", "refusal"),
        ("I’m sorry, but I can’t help with that.", "refusal"),
        ("Unfortunately, I am unable to create such a query", "refusal"),
        ("I won't be able to assist you with this", "refusal"),
        ("I cannot provide information on weapons", "refusal"),
        ("I'm sorry, but the provided text is empty", "refusal"),
        ("As an AI language model I have no opinion", "refusal"),
        ('"As a large language model, my answers', "refusal"),
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
        "how does a language model tokenize text",
        "fine-tune a large language model on one GPU",
        "as an AI engineer, how do I serve a model",
        "I can't log in to my account after the update",
        "I can’t help falling in love with you lyrics",
        "i can't create a virtual environment in python",
        "i won't be able to attend, how do I cancel",
        "I am unable to open the attachment",
        "I'm sorry but my package never arrived, what now",
        "what it means when a chat bot says I cannot help with that",
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


def test_a_written_negative_may_be_about_language_models() -> None:
    text = "BERT is a language model that reads text in both directions; as an AI system it cannot help with writing."

    assert check_negative(text, "how are jobs retried?", PASSAGE, AuditConfig()) is None


@given(
    st.sampled_from(
        ["I'm sorry, but I can't", "I apologize, I cannot", "I am unable to", "I won't", "I'm not able to"]
    ),
    st.sampled_from(
        ["help with that", "assist you", "comply", "fulfil this request", "generate a query for this text"]
    ),
    st.text(max_size=80),
)
def test_how_apostrophes_are_written_changes_nothing_of_a_refusal(cannot: str, refused: str, rest: str) -> None:
    written = f"{cannot} {refused}. {rest}"

    for text in (written, written.replace("'", "’"), written.upper()):
        problem = check_query(text, PASSAGE, AuditConfig(max_query_words=1000))
        assert problem is not None
        assert problem.reason == "refusal"


@given(st.text(min_size=1, max_size=40).filter(lambda text: any(each.isalnum() for each in text)))
def test_a_refusal_that_a_text_only_quotes_is_none(start: str) -> None:
    quoting = f"people ask {start} and hear: I'm sorry, I cannot help with that request"

    problem = check_query(quoting, PASSAGE, AuditConfig(max_query_words=1000))
    assert problem is None or problem.reason != "refusal"


@given(st.text(), st.text())
def test_no_text_breaks_the_checks(text: str, other: str) -> None:
    check_query(text, other, AuditConfig())
    check_negative(text, other, other, AuditConfig())
    assert 0 <= containment(text, other) <= 1
    assert containment(text, text) == 1


def test_the_table_and_the_config_know_the_same_checks() -> None:
    assert set(CHECKS.built_in) == set(AuditChecks.model_fields)
    assert all(check.name == name for name, check in CHECKS.built_in.items() if isinstance(check, Check))


def test_every_reason_that_the_audit_gives_has_words_for_people() -> None:
    given_reasons = {
        call.args[0].value
        for path in Path(checks.__file__).parent.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Problem"
        if isinstance(call.args[0], ast.Constant)
    }
    declared = [reason for check in CHECKS.built_in.values() if isinstance(check, Check) for reason in check.reasons]

    assert len(given_reasons) > 10
    # The judge of queries is no check: `audit.query_judge` switches it on.
    assert given_reasons == {*declared, "judged_query"}
    assert len(declared) == len(set(declared))
    assert all(checks.reason_words(reason) != reason for reason in given_reasons)


def test_a_check_of_another_package_is_asked_last_and_only_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = """from multigrain import Check, Problem
shouting = lambda checked: Problem("shouting", checked.text) if checked.text.isupper() else None
over = lambda measured: Problem("sure", "0.9") if measured.similarity > 0.9 else None
WORDS = {"shouting": "all in capitals", "sure": "too easy"}
LOUD = Check("loud", WORDS, query=shouting, negative=shouting, measured=over)
"""
    parts = {"loud": "loud_checks:LOUD", "gone": "loud_checks:GONE", "odd": "loud_checks:shouting"}
    monkeypatch.syspath_prepend(str(install(tmp_path, "loud-checks", {CHECKS.group: parts}, {"loud_checks": module})))
    row = SynthesizedRow("r", "d", "HOW ARE JOBS RETRIED", PASSAGE)
    named = AuditConfig.model_validate({"checks": {"loud": True, "language": False}})

    assert check_row(row, named) == Problem("shouting", row.query)
    assert check_row(replace(row, query="AS AN AI LANGUAGE MODEL, I WON'T"), named).reason == "refusal"
    assert checks.check_negative("NO LEVEL IS LEFT", row, named).reason == "shouting"
    assert checks.check_measured(MeasuredRow(row, 0.95, np.zeros(0, np.float32), named)).reason == "sure"
    assert checks.reason_words("shouting") == "all in capitals"
    assert check_query(row.query, PASSAGE, AuditConfig()) is None
    for name, words in (("gone", "cannot be loaded"), ("odd", "not a Check")):
        with pytest.raises(ConfigError, match=rf"^audit.checks '{name}': .* {words}"):
            active_checks(AuditConfig.model_validate({"checks": {name: True}}).checks)
    with pytest.raises(ValueError, match="no check has the name 'lowd'; did you mean 'loud'"):
        AuditConfig.model_validate({"checks": {"lowd": True}})
