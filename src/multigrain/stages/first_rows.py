"""What the first rows of a synthesis say of all the others: where most are of no use, it ends early and says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from multigrain.audit.checks import check_row, reason_words
from multigrain.config import AuditConfig
from multigrain.engine.protocol import Failure
from multigrain.llm.protocol import CompletionFailure
from multigrain.llm.reasoning import REASONING_ADVICE
from multigrain.records import SynthesizedRow

FIRST_ROWS: Final = 100
_PASSING: Final = frozenset({"timeout", "connection", "rate_limited", "server_error", "over_limit", "internal"})
"""Failures of the moment: the client knows when there are too many of them."""

_STRUCTURE: Final = (
    "a small model needs synthesis.strategy: stepwise, an endpoint may need llm.structured_output: false"
)
_REMEDIES: Final[Mapping[str, str]] = {
    "reasoning": REASONING_ADVICE,
    "truncated": "answers came to no end: raise llm.max_tokens, or switch the model's reasoning off by llm.extra_body",
    "prose": _STRUCTURE,
    "schema": _STRUCTURE,
    "empty": "take another model (llm.model), or set llm.temperature lower",
    "refusal": "take another model (llm.model), or prompts of your own (synthesis.templates)",
    "content_filter": "take a model whose filter lets such documents pass (llm.model)",
    "prompt_echo": "take another model (llm.model) or other synthesis.query_types, or set llm.temperature lower",
    "too_short": "lower audit.min_query_words, or ask for other synthesis.query_types",
    "too_long": "raise audit.max_query_words, or ask for other synthesis.query_types",
    "repetition": "take another model (llm.model), or set llm.temperature lower",
    "copied_document": "ask for other synthesis.query_types, or switch off audit.checks.copied",
    "wrong_language": "name the language in synthesis.languages, or switch off audit.checks.language",
}
_USUAL: Final = "take another model (llm.model), or prompts of your own (synthesis.templates)"


def remedy(reason: str) -> str:
    """What may help where rows come to nothing for a reason: a kind of failure, or a reason of the audit."""
    return _REMEDIES.get(reason, _USUAL)


@dataclass
class FirstRows:
    """Judges the first rows by the audit's checks that need no model, and by how they failed.

    Attributes:
        audit: the checks that are on, and their limits.
        most: the share of the first rows that may fail one check; None lets all fail.
    """

    audit: AuditConfig
    most: float | None
    _seen: int = 0
    _reasons: Counter[str] = field(default_factory=Counter)
    _shown: dict[str, str] = field(default_factory=dict)

    def done(self, row: SynthesizedRow | None, failure: Failure | None) -> None:
        """A row is finished, or came to nothing."""
        if self.most is None or self._seen >= FIRST_ROWS:
            return
        if row is not None:
            problem = check_row(row, self.audit)
            reason, detail = (problem.reason, problem.detail) if problem is not None else ("", "")
        elif failure is not None and failure.kind not in _PASSING:
            reason, detail = failure.kind, said(failure)
        else:
            return
        self._seen += 1
        if reason:
            self._reasons[reason] += 1
            self._shown.setdefault(reason, detail)

    @property
    def verdict(self) -> str:
        """Why the rest is not worth asking for, in one line that says what to change; empty where it is."""
        if self.most is None or self._seen < FIRST_ROWS or not self._reasons:
            return ""
        ((reason, count),) = self._reasons.most_common(1)
        if count <= self.most * FIRST_ROWS:
            return ""
        shown = f", such as {self._shown[reason]!r}" if self._shown[reason] else ""
        return (
            f"{count} of the first {FIRST_ROWS} rows are useless for one reason ({reason_words(reason)}{shown}): "
            f"{remedy(reason)}; or let it continue with synthesis.unfit_share: null; what was written is kept"
        )


def said(failure: Failure) -> str:
    """What was said of a failure, without its kind."""
    return failure.error.detail if isinstance(failure.error, CompletionFailure) else failure.detail


def remedy_for(failed: Counter[str], last: Mapping[str, str]) -> str:
    """The end of a line about rows that all failed: what was said of the commonest kind, and what may help."""
    if not failed:
        return _STRUCTURE
    ((kind, _),) = failed.most_common(1)
    lately = f"lately: {last[kind]}; " if last.get(kind) else ""
    if kind in _PASSING or kind in ("bad_request", "too_long", "malformed"):
        return (
            f"{lately}`multigrain journal RUN` has what was said of each kind, `multigrain doctor` asks the endpoint"
        )
    return f"{lately}{remedy(kind)}"
