"""Pack the kept rows for the page's data explorer.

The same passage is the positive of one row and a negative of others, so texts are stored once and rows point at them.
The packed JSON is compressed and base64-encoded: tens of thousands of rows stay a few megabytes, and no text of a row
can be mistaken for markup before the explorer's script puts it on the page as text.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from multigrain.display.text import visible
from multigrain.records import LEVELS, GradedExample, Negative, Origin
from multigrain.report.messages import action_words
from multigrain.report.summaries import evenly_spaced

MAX_ROWS: Final = 25_000  # ready within two seconds on two cores, whatever the run holds
MAX_CHARACTERS: Final = 30_000_000  # of all texts together; a browser unpacks them within a second
_LONGEST, _SHORTEST = 2_000, 240  # characters kept of one text, when there are few texts and when there are many


def shown_rows(rows: Sequence[GradedExample]) -> Sequence[GradedExample]:
    """The rows that the explorer holds: all of them, or `MAX_ROWS` evenly spaced ones."""
    return rows if len(rows) <= MAX_ROWS else [rows[i] for i in evenly_spaced(len(rows), MAX_ROWS)]


def pack_rows(rows: Sequence[GradedExample], *, characters: int = MAX_CHARACTERS) -> str:
    """Pack rows as base64 of gzip of JSON; equal rows give an equal string.

    Args:
        rows: at most `MAX_ROWS`; texts longer than fits are cut, and how much of each is missing is kept.
        characters: about how many characters all texts together may have.
    """
    texts, actions = _numbered(), _numbered()
    columns = {
        "id": [row.id for row in rows],
        "document": [row.document_id for row in rows],
        "query": [visible(row.query) for row in rows],
        "held": [row.written_order_held for row in rows],
        "actions": [[actions[action] for action in row.actions] for row in rows],
        "positive": [texts[row.positive] for row in rows],
        "similarity": [
            [
                round(1000 * value)
                for value in (row.positive_similarity, *(negative.similarity for negative in row.negatives))
            ]
            for row in rows
        ],
        "negatives": [[texts[negative.text] for negative in row.negatives] for row in rows],
        "asked": [[_asked_level(negative) for negative in row.negatives] for row in rows],
    }
    longest = min(_LONGEST, max(_SHORTEST, characters // max(1, len(texts))))
    packed = {
        "levels": [int(level) for level in LEVELS],
        "texts": [visible(text[:longest]) for text in texts],
        "cut": {str(i): len(text) - longest for i, text in enumerate(texts) if len(text) > longest},
        "actions": [
            {"kind": visible(action.partition(":")[0]), "words": visible(action_words(action))} for action in actions
        ],
        "rows": columns,
    }
    raw = json.dumps(packed, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(raw, mtime=0)).decode()


def _numbered() -> defaultdict[str, int]:
    """Distinct texts, each with the number that it gets when it is first looked up."""
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    return numbers


def _asked_level(negative: Negative) -> int:
    """0 for a mined negative; for a written one the level that was asked for, or its own where that is unknown."""
    if negative.origin is Origin.MINED:
        return 0
    return int(negative.written_level or negative.level)
