"""Why tuning may have made it worse: the causes in the order of how often they occur, each with what tells.

The one home of the list: `multigrain diagnose` goes through it, and docs/guides/tuning-made-it-worse.md has a section
of each, in this order and with these commands (a test compares them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause.

    Attributes:
        name: short, for scripts.
        question: what to ask, as the page's heading does.
        command: what tells more; {run} is the run directory.
        advice: what to do where it is found.
    """

    name: str
    question: str
    command: str
    advice: str


CAUSES: Final = (
    Cause(
        "noise",
        "Is it worse, or is it noise?",
        "multigrain label {run}",
        "get more test queries before you change anything",
    ),
    Cause(
        "queries",
        "Do the written queries look like those of your users?",
        "multigrain report {run}",
        "set synthesis.query_types to the kind that your users type, or show theirs by synthesis.style_queries",
    ),
    Cause(
        "audit",
        "What did the audit reject?",
        "multigrain audit {run}",
        "read the rejected rows in the report; take a larger model to write, and keep the audit's limits",
    ),
    Cause(
        "too far",
        "Did training go too far?",
        "multigrain train config.yaml --run {run} --redo",
        "hold out validation documents (documents.validation_share), and leave training.learning_rate, merge and "
        "early_stopping to auto and keep to best",
    ),
    Cause(
        "nothing moved",
        "Did training do anything?",
        "multigrain train config.yaml --run {run} --redo",
        "raise training.learning_rate or training.steps, or use harder negatives",
    ),
    Cause(
        "nothing to gain",
        "Was there anything to gain?",
        "multigrain bases {run}/config.yaml --run {run}",
        "compare other bases before you tune this one again",
    ),
    Cause(
        "kinds",
        "Is it worse for one kind of query?",
        "multigrain report {run}",
        "write more rows like the queries that lost",
    ),
    Cause(
        "elsewhere",
        "Is it worse elsewhere?",
        "multigrain evaluate config.yaml --run {run} --redo",
        "name a set of role forgetting under evaluation.sets; training.merge: auto and general pairs under "
        "training.mix reduce what is lost",
    ),
)
"""The most frequent first."""
