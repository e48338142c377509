"""Vectors that cannot be used: which texts they are of, and how many are too many."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from multigrain.encoders.protocol import Floats, Role
from multigrain.errors import EvaluationError

_LOG = logging.getLogger(__name__)
_SHARE: Final = 10
"""More than one text in this many without a usable vector: not the texts are at fault."""
_DIFFERENT: Final = 4
"""Different texts that can have one vector by chance: cut to the same words, or all unknown ones."""
_NAMED: Final = 3
_SHOWN: Final = 40


class VectorCheck:
    """Looks over what a model gives. A text without a usable vector costs itself, a model that gives none the call.

    A text whose vector is all zeros or not finite gets a vector of zeros, which is similar to nothing: such a document
    is not found, and such a query finds nothing in particular. Each is named in a warning. More than one in ten, or
    every one, is refused. A blank text may well have zeros, and is not counted.

    Args:
        model: what messages call it.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._seen = 0
        self._unusable = 0

    def __call__(
        self, vectors: Floats, texts: Sequence[str], role: Role, *, reasons: Mapping[int, str] | None = None
    ) -> Floats:
        """Look over vectors.

        Args:
            vectors: (len(texts), dimensions).
            texts: what was embedded.
            role: as what.
            reasons: why a text has none, by its position, where that is known.

        Returns:
            The vectors; those that cannot be used are zeros.

        Raises:
            EvaluationError: too many cannot be used, or all texts have one vector.
        """
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(axis=1))
        usable = finite & np.asarray((vectors != 0).any(axis=1))
        positions = [position for position in np.flatnonzero(~usable).tolist() if texts[position].strip()]
        self._seen += sum(bool(text.strip()) for text in texts)
        self._unusable += len(positions)
        if positions:
            listed = [
                f"{role} {position + 1} of {len(texts)} ({_shown(texts[position])}): "
                + ((reasons or {}).get(position) or ("a vector of zeros" if finite[position] else "not finite (NaN)"))
                for position in positions[:_NAMED]
            ]
            more = f", and {len(positions) - _NAMED} more" if len(positions) > _NAMED else ""
            message = f"{self._model} gives no usable vector for {'; '.join(listed)}{more}"
            if self._unusable > max(1, self._seen // _SHARE) or self._unusable == self._seen:
                raise EvaluationError(
                    f"{message}: {self._unusable} of {self._seen} texts so far"
                    + (
                        ""
                        if reasons
                        else ". Zeros and NaN come of damaged weights, of training that diverged (lower "
                        "the learning rate), or of half precision that overflows (use float32)"
                    )
                )
            _LOG.warning("%s; it is taken as similar to nothing", message)
        if not usable.all():
            vectors = np.where(usable[:, None], vectors, np.float32(0))
        first = vectors[usable][:1]
        if len(first) and np.abs(vectors[usable] - first).max() <= 1e-6 * np.abs(first).max():
            different = list(dict.fromkeys(text for text, good in zip(texts, usable, strict=True) if good))
            if len(different) >= _DIFFERENT:
                raise EvaluationError(
                    f"{self._model} gives the same vector for {len(different)} different texts, e.g. for {role} 1 "
                    f"({_shown(different[0])}) and {role} {list(texts).index(different[1]) + 1} "
                    f"({_shown(different[1])}): nothing can be distinguished by it"
                )
        return vectors


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
