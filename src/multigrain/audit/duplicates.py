"""Rows that say what another row says already, over the whole set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from multigrain.audit.checks import Problem
from multigrain.config import AuditConfig
from multigrain.records import Document, SynthesizedRow, answering_ids
from multigrain.sources.grouping import near_duplicate_groups, normalise

__all__ = ["find_duplicates"]

_LABEL_WORDS: Final = 8


def find_duplicates(rows: Sequence[SynthesizedRow], config: AuditConfig) -> dict[int, Problem]:
    """Rows to turn away because an earlier one has the same query, or nearly so; by their place.

    Positives are compared too where a language model wrote them: rows for one document share its text by design.
    A given query with several positives has a row for each, and all of them stay.

    Args:
        rows: in order: the first of several stays.
        config: which checks are on.
    """
    found: dict[int, Problem] = {}
    if config.checks.repeats:
        seen: dict[str, SynthesizedRow] = {}
        for place, row in enumerate(rows):
            first = seen.setdefault(normalise(row.query), row)
            if first is not row and not _both_positives(first, row):
                found[place] = Problem("duplicate_query", "another row has the same query")
    if config.checks.near_duplicates:
        left = [place for place in range(len(rows)) if place not in found]
        written = [place for place in left if rows[place].document_id is None and not _is_label(rows[place].positive)]
        for places, what in ((left, "query"), (written, "positive")):
            texts = [Document(str(place), getattr(rows[place], what)) for place in places]
            groups = near_duplicate_groups(texts, config.near_duplicate_similarity)
            for own, group in enumerate(groups):
                place, first_place = places[own], places[group]
                if own != group and place not in found and not _both_positives(rows[first_place], rows[place]):
                    detail = f"its {what} is nearly that of row {rows[first_place].id}"
                    found[place] = Problem("near_duplicate", detail)
    return found


def _both_positives(first: SynthesizedRow, second: SynthesizedRow) -> bool:
    """Whether two rows are one query's, with a positive each."""
    return answering_ids(first)[0] in second.relevant_ids


def _is_label(text: str) -> bool:
    """Whether a positive is a label, a name or a headline, which many queries may rightly share."""
    return len(normalise(text).split()) < _LABEL_WORDS
