"""Does an export give the reranker's scores? Asked after every export, and answered loudly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from sentence_transformers import CrossEncoder
from torch import nn

from multigrain.encoders.protocol import Floats
from multigrain.errors import ExportError
from multigrain.export.parity import PARITY_TEXTS, PARITY_TOLERANCE

PARITY_PAIRS: Final = tuple(
    (query, PARITY_TEXTS[(place + turn) % len(PARITY_TEXTS)])
    for turn in (1, 4)
    for place, query in enumerate(PARITY_TEXTS)
)
"""Each text as a query with two others: every script and length on either side, and more than any model reads."""


class PairLogits(Protocol):
    """Anything that scores pairs in log-odds."""

    def logits(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32) -> Floats:
        """Score (query, document) pairs: (pairs,)."""
        ...


class ModelLogits:
    """A reranker as sentence-transformers itself computes it."""

    def __init__(self, model: CrossEncoder) -> None:
        self._model = model

    def logits(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32) -> Floats:
        """As `PairLogits.logits`."""
        scores = self._model.predict(
            list(pairs), batch_size=batch_size, show_progress_bar=False, activation_fn=nn.Identity()
        )
        return np.asarray(scores, dtype=np.float32)


def check_pair_parity(
    model: CrossEncoder,
    exported: PairLogits,
    *,
    what: str,
    tolerance: float = PARITY_TOLERANCE,
    pairs: Sequence[tuple[str, str]] = PARITY_PAIRS,
) -> float:
    """Compare an export with its reranker, pair by pair and in a padded batch.

    Args:
        model: the reranker, in the precision that the export was made in.
        exported: the export.
        what: what errors call it.
        tolerance: the largest difference of log-odds that passes, of those above 1 relative to their size.
        pairs: what to score.

    Returns:
        The largest difference, in log-odds.

    Raises:
        ExportError: it is larger than the tolerance, or not a number.
    """
    worst, original = 0.0, ModelLogits(model)
    for batch_size in (1, len(pairs)):
        expected = original.logits(pairs, batch_size=batch_size)
        found = np.asarray(exported.logits(pairs, batch_size=batch_size), dtype=np.float32)
        if found.shape != expected.shape:
            raise ExportError(f"{what} gives scores of shape {found.shape}, the model {expected.shape}")
        differences = np.abs(found - expected)
        relative = differences / np.maximum(np.abs(expected), 1)
        row = int(np.argmax(np.where(np.isnan(relative), np.inf, relative)))
        if not relative[row] <= tolerance:
            query, document = pairs[row]
            raise ExportError(
                f"{what} does not give the model's scores: log-odds {differences[row]:.2g} apart, {tolerance:.0e} "
                f"allowed for the query {query[:40]!r} with {document[:40]!r} in batches of {batch_size}; nothing was "
                "exported"
            )
        worst = max(worst, float(differences.max()))
    return worst
