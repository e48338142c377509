"""Score pairs with an exported reranker: needs numpy, onnxruntime and tokenizers, and nothing else.

    from reranker import Reranker

    reranker = Reranker(".")
    for place, score in reranker.rank("how do I rotate the logs?", ["Rotate logs with logrotate.", "Glaciers move."]):
        print(place, score)

`model.onnx` holds the encoder and its scoring head. `tokenizer.json` holds truncation and padding. `export.json` holds
what turns the graph's log-odds into scores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer


class Reranker:
    """An exported reranker.

    Args:
        folder: where the export lies.
        file: the graph in it: model.onnx, or model_int8.onnx where it was quantised.
        providers: onnxruntime's execution providers; None for the CPU.
        threads: that one forward pass may use; None for all.
        session: what runs the graph instead, by onnxruntime's call `run`; then no file is opened.
    """

    def __init__(
        self,
        folder: str | Path,
        file: str = "model.onnx",
        *,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        session: Any = None,
    ) -> None:
        folder = Path(folder)
        self.settings: dict[str, Any] = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self.session = session or onnxruntime.InferenceSession(
            str(folder / file), options, providers=list(providers or ["CPUExecutionProvider"])
        )

    def rank(
        self, query: str, documents: Sequence[str], *, top_k: int | None = None, batch_size: int = 32
    ) -> list[tuple[int, float]]:
        """Sort documents by how well they answer a query.

        Args:
            query: the query.
            documents: what a first stage found.
            top_k: how many to return; None for all.
            batch_size: pairs a forward pass.

        Returns:
            Places in `documents` with their scores, best first; of equal scores the earlier place first.
        """
        scores = self.scores([(query, document) for document in documents], batch_size=batch_size)
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [(int(place), float(scores[place])) for place in order]

    def scores(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Score pairs as the model's own `predict` does: (pairs,), in the order of `pairs`."""
        logits = self.logits(pairs, batch_size=batch_size)
        if self.settings["activation"] == "sigmoid":
            logits = np.exp(-np.logaddexp(0, -logits)).astype(np.float32)  # no overflow
        return logits

    def logits(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Score pairs in log-odds.

        Args:
            pairs: (query, document).
            batch_size: pairs a forward pass.

        Returns:
            (pairs,), in the order of `pairs`.
        """
        logits = np.zeros(len(pairs), dtype=np.float32)
        # Pairs of like length share a batch, so that little of it is padding.
        order = np.argsort([-len(query) - len(document) for query, document in pairs], kind="stable")
        for start in range(0, len(pairs), batch_size):
            rows = order[start : start + batch_size]
            logits[rows] = self._forward([tuple(pairs[row]) for row in rows])
        return logits

    def _forward(self, pairs: list[Any]) -> NDArray[np.float32]:
        encoded = self.tokenizer.encode_batch(pairs)
        of_tokens = {
            "input_ids": [encoding.ids for encoding in encoded],
            "attention_mask": [encoding.attention_mask for encoding in encoded],
            "token_type_ids": [encoding.type_ids for encoding in encoded],
        }
        inputs = {name: np.array(of_tokens[name], dtype=np.int64) for name in self.settings["inputs"]}
        logits: NDArray[np.float32] = self.session.run(["logits"], inputs)[0]
        return logits[:, 0]
