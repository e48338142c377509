"""Reads a query adapter with numpy alone: a copy of this file lies beside every adapter.

    from adapter_reader import load
    adapt = load(".")                      # the folder
    queries = adapt(vectors_of_queries)    # (n, dimensions), as the embedding model gives them

Documents stay as the embedding model gives them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WEIGHTS = "query_adapter.npz"


class Adapter:
    """Moves vectors of queries, and keeps their lengths.

    Args:
        arrays: `matrix`, or `down` and `up` and, for a ReLU between them, `bias`.
    """

    def __init__(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        self.arrays = arrays

    @property
    def dimensions(self) -> int:
        """Of the vectors that it takes."""
        return int((self.arrays["matrix"] if "matrix" in self.arrays else self.arrays["down"]).shape[1])

    def __call__(self, vectors: Any) -> NDArray[np.float32]:
        """Move vectors: (n, dimensions) or (dimensions,), float32.

        Raises:
            ValueError: they have other dimensions.
        """
        given = np.asarray(vectors, dtype=np.float32)
        rows = np.atleast_2d(given)
        if rows.shape[1] != self.dimensions:
            raise ValueError(f"vectors of {rows.shape[1]} dimensions: the adapter moves {self.dimensions}")
        if "matrix" in self.arrays:
            moved = rows @ self.arrays["matrix"].T
        else:
            hidden = rows @ self.arrays["down"].T
            if "bias" in self.arrays:
                hidden = np.maximum(hidden + self.arrays["bias"], 0)
            moved = rows + hidden @ self.arrays["up"].T
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        scaled = moved * (lengths / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12))
        return np.asarray(scaled, dtype=np.float32).reshape(given.shape)


def load(folder: str | Path) -> Adapter:
    """The adapter of a folder."""
    with np.load(Path(folder) / WEIGHTS, allow_pickle=False) as file:
        return Adapter({name: file[name] for name in file.files})
