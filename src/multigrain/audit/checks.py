"""The checks by name, and asking those that are on.

Another package adds a check with

    [project.entry-points."multigrain.checks"]
    my-check = "my_package.checks:MY_CHECK"

where MY_CHECK is a `multigrain.Check`; it is on where a config has `audit: {checks: {my-check: true}}`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np

from multigrain.audit.check import Check, CheckedText, MeasuredRow, Part, Problem, TextCheck
from multigrain.audit.duplicates import near_duplicates, same_queries
from multigrain.audit.language import check_negative_language, check_query_language
from multigrain.config import AuditChecks, AuditConfig
from multigrain.config.audit import CHECK_GROUP
from multigrain.errors import ConfigError
from multigrain.plugins import Registry
from multigrain.records import SynthesizedRow, TaskKind
from multigrain.sources.words import fold_words, word_ngrams

# People too write "I can't log in": a refusal is what a text opens with, and names what only a model is asked to do.
# The pattern of `llm.answers` may be looser: it names answers without an object in them, which are lost anyway.
_SORRY: Final = (
    r"(?:i(?:'m| am) (?:\w+ )?(?:sorry|afraid)|i apologi[sz]e|(?:my )?apologies|sorry|unfortunately)\b.{0,60}?\b"
)
_CANNOT: Final = (
    r"i(?: can(?:'t|not| not)| could(?:n't| not)| won't| will not|(?: am|'m) (?:unable to|not able to|not going to))"
    r"(?: be able to)? "
)
_WRITE: Final = r"(?:provide|generate|create|write|produce|answer)\b"
_OUR_TEXT: Final = r"(?:quer(?:y|ies)|passages?|texts?|contents?|documents?|requests?|prompts?|information)\b"
_REFUSAL: Final = re.compile(
    rf"^\W*(?:(?:{_SORRY})?(?:as an? (?:ai|(?:large )?language model)(?: language model| model| assistant)?(?:,| i\b)"
    rf"|{_CANNOT}(?:(?:assist|comply|fulfil)|help(?: you)?(?: with\b|\W*$|[.,;!])"
    rf"|{_WRITE} (?:(?:\w+ ){{0,3}}?{_OUR_TEXT}|(?:that|this)\W*$)))"
    rf"|{_SORRY}(?:{_CANNOT}{_WRITE}|but (?:\w+ ){{1,3}}?{_OUR_TEXT}))",
    re.I,
)
_ECHO: Final = re.compile(
    r":\s*$"  # "Here is the query:" and whatever else only announces a text
    r"|^(?:here(?:'s| is) (?:a|an|the|one|your)\b|sure[,.!]|certainly[,.!]|of course[,.!])"
    r"|\blevel_[1-4]\b",
    re.I,
)
_MIN_COPIED_WORDS: Final = 8
_LONGEST_TASK_QUERY: Final = 1000


def _refusal(checked: CheckedText) -> Problem | None:
    return Problem("refusal", checked.text[:80]) if _REFUSAL.search(checked.text.replace("’", "'")) else None


def _prompt_echo(checked: CheckedText) -> Problem | None:
    return Problem("prompt_echo", checked.text[:80]) if _ECHO.search(checked.text.strip()) else None


def _where_written(check: TextCheck) -> TextCheck:
    """The check of a positive that a language model wrote: a document of the corpus may say what it likes."""
    return lambda checked: check(checked) if checked.row.document_id is None else None


def _short(checked: CheckedText) -> Problem | None:
    count, least = len(checked.words), checked.limits.min_query_words
    return Problem("too_short", f"{count} words, at least {least}") if count < least else None


def _long(count: int, most: int | None) -> Problem | None:
    return Problem("too_long", f"{count} words, at most {most}") if most is not None and count > most else None


def _repetition(words: Sequence[str], times: int) -> Problem | None:
    """Words that stand this often on average say nothing new."""
    different = len(set(words))
    if different * times < len(words) and len(words) >= _MIN_COPIED_WORDS:
        return Problem("repetition", f"{different} different words of {len(words)}")
    return None


def _repeats_query(checked: CheckedText, what: str) -> Problem | None:
    same = " ".join(checked.words) == fold_words(checked.row.query)
    return Problem("copied_query", f"the {what} repeats the query") if same else None


def _copied_query(checked: CheckedText) -> Problem | None:
    if len(checked.words) >= _MIN_COPIED_WORDS and " ".join(checked.words) in fold_words(checked.row.positive):
        return Problem("copied_document", "the query is a passage of its document")
    return None


def _copied_negative(checked: CheckedText) -> Problem | None:
    share = containment(checked.text, checked.row.positive)
    if share > checked.limits.max_copied_share:
        return Problem("copied_document", f"{share:.0%} of its word trigrams stand in the positive")
    return None


def _round_trip(measured: MeasuredRow) -> Problem | None:
    limit = measured.limits.round_trip_rank
    if limit is None or measured.row.given:
        return None
    rank = int(np.searchsorted(-measured.others, -measured.similarity, side="left"))
    return Problem("round_trip", f"{rank} documents are nearer than its own") if rank >= limit else None


# In the order in which they are asked. Those without functions are steps of the audit, which the name switches:
# mending rows, comparing with evaluation sets, asking judges, putting negatives in order.
_BUILT_IN: Final[tuple[Check, ...]] = (
    Check("structure", {"schema": "not in the form of a row"}),
    Check("empty", {"empty": "nothing was written"}),
    Check(
        "refusal",
        {"refusal": "the model refused"},
        query=_refusal,
        positive=_where_written(_refusal),
        negative=_refusal,
    ),
    Check(
        "prompt_echo",
        {"prompt_echo": "repeats the instructions"},
        query=_prompt_echo,
        positive=_where_written(_prompt_echo),
        negative=_prompt_echo,
    ),
    Check("short", {"too_short": "too short"}, query=_short, negative=_short, first_on=("negative",)),
    Check(
        "long",
        {"too_long": "too long"},
        query=lambda checked: _long(len(checked.words), checked.limits.max_query_words),
        negative=lambda checked: _long(len(checked.words), checked.limits.max_passage_words),
        first_on=("negative",),
    ),
    Check(
        "repeats",
        {
            "copied_query": "repeats the query",
            "duplicate_query": "another row has the same query",
            "repeated": "same text at another level",
            "repetition": "says the same again and again",
        },
        query=lambda checked: _repetition(checked.words, 2),
        positive=lambda checked: _repeats_query(checked, "positive"),
        negative=lambda checked: _repetition(checked.words, 3) or _repeats_query(checked, "negative"),
        rows=same_queries,
        first_on=("positive",),
    ),
    Check("copied", {"copied_document": "copied from the document"}, query=_copied_query, negative=_copied_negative),
    Check(
        "language",
        {"wrong_language": "in another language"},
        row=check_query_language,
        negative=check_negative_language,
    ),
    Check(
        "near_duplicates",
        {"near_duplicate": "nearly the same as another row", "same_meaning": "asks what another row asks"},
        rows=near_duplicates,
    ),
    Check("decontamination", {"contaminated": "an evaluation set contains it too"}),
    Check("round_trip", {"round_trip": "the query does not find its own document"}, measured=_round_trip),
    Check(
        "false_negatives",
        {
            "false_negative": "too close to the positive: may be an answer too",
            "judged_positive": "the judge does not find the answer in its document",
        },
    ),
    Check(
        "level_order",
        {"no_level": "its similarity falls in no free level", "no_negative": "no negative found for some level"},
    ),
)
CHECKS: Final[Registry[Check]] = Registry(
    kind="check",
    group=CHECK_GROUP,
    built_in={check.name: check for check in _BUILT_IN},
    named_by="audit.checks",
    instance_of=Check,
)
_OTHER_REASONS: Final = {
    "copied_style": "repeats one of the queries that were shown as examples of style",
    "judged_query": "the judge finds that nobody would ask it",
    "marked_bad": "marked bad by a reader",
    "reasoning": "the model did not come to the end of its reasoning",
}


@lru_cache(maxsize=64)
def active_checks(checks: AuditChecks) -> tuple[Check, ...]:
    """The checks that are on, in the order in which they are asked; those of other packages come last.

    Raises:
        ConfigError: a check of another package cannot be loaded, or has the name of one of ours.
    """
    for name in CHECKS.built_in.keys() & CHECKS.added:
        CHECKS.check(name)
    ours = [check for check in _BUILT_IN if check.name in checks.on]
    return (*ours, *(CHECKS.get(name) for name in checks.on if name not in CHECKS.built_in))


@lru_cache(maxsize=64)
def _text_checks(checks: AuditChecks, part: Part) -> tuple[TextCheck, ...]:
    in_order = sorted(active_checks(checks), key=lambda check: part not in check.first_on)
    functions = [{"query": check.query, "positive": check.positive, "negative": check.negative} for check in in_order]
    return tuple(function for of_part in functions if (function := of_part[part]) is not None)


def limits_for(row: SynthesizedRow, config: AuditConfig) -> AuditConfig:
    """The limits on lengths as they go for a row: rows for tasks have long queries or passages of one word by kind."""
    if row.task is None or row.query_type not in tuple(TaskKind):
        return config
    changes: dict[str, Any] = {"min_query_words": 1}
    if row.query_type in (TaskKind.LONG_SHORT, TaskKind.LONG_LONG):
        changes["max_query_words"] = _LONGEST_TASK_QUERY
    return config.model_copy(update=changes)


def check_row(row: SynthesizedRow, config: AuditConfig) -> Problem | None:
    """What is wrong with a row by itself, or None. A given query is no writer's mistake, whatever it looks like."""
    limits = limits_for(row, config)
    problem = None if row.given else _check_text("query", row.query, row, limits)
    problem = problem or _check_text("positive", row.positive, row, limits)
    for check in active_checks(config.checks):
        if problem is None and check.row is not None:
            problem = check.row(row, limits)
    return problem


def check_rows(rows: Sequence[SynthesizedRow], places: Sequence[int], config: AuditConfig) -> dict[int, Problem]:
    """What is wrong with rows beside each other, by their place.

    Args:
        rows: gone through in order a few times and not kept, so that they may lie in a file.
        places: of the rows to look at, rising.
        config: limits, and which checks are on.
    """
    problems: dict[int, Problem] = {}
    for check in active_checks(config.checks):
        if check.rows is not None:
            problems |= check.rows(rows, [place for place in places if place not in problems], config)
    return problems


def check_measured(measured: MeasuredRow) -> Problem | None:
    """What is wrong with a row by its measured similarities, or None."""
    for check in active_checks(measured.limits.checks):
        if check.measured is not None and (problem := check.measured(measured)) is not None:
            return problem
    return None


def _check_text(part: Part, text: str, row: SynthesizedRow, limits: AuditConfig) -> Problem | None:
    words = fold_words(text).split()
    if not words:
        # Whatever is switched off, a row has a query that is not blank, and its passages have words.
        may_be_so = part == "query" and text.strip() and not limits.checks.empty
        shown = repr(text[:60])
        return None if may_be_so else Problem("empty", f"the positive is {shown}" if part == "positive" else shown)
    checked = CheckedText(text, words, row, limits)
    for check in _text_checks(limits.checks, part):
        problem = check(checked)
        if problem is not None:
            return problem
    return None


check_negative = partial(_check_text, "negative")
"""What is wrong with a negative (text, the row that it was written for, its limits as of `limits_for`), or None."""


def reason_words(reason: str) -> str:
    """Why the audit turned something away, or why synthesis wrote nothing, in words for people."""
    for words in (*(check.reasons for check in _BUILT_IN), _OTHER_REASONS):
        if reason in words:
            return words[reason]
    for name in CHECKS.added:
        with contextlib.suppress(ConfigError):  # a run can be read without the package that checked it
            if reason in (words := CHECKS.get(name).reasons):
                return words[reason]
    return reason.replace("_", " ")


def containment(text: str, other: str) -> float:
    """The share of a text's distinct word trigrams that another text holds too, 0-1."""
    own = word_ngrams(text)
    return len(own & word_ngrams(other)) / len(own)
