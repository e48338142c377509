"""Embed texts with an exported model: needs numpy, onnxruntime and tokenizers, and nothing else.

    from embedder import Embedder

    embedder = Embedder(".")
    queries = embedder.encode_query(["how do I rotate the logs?"])
    documents = embedder.encode_document(["Rotate logs with logrotate."])
    print(queries @ documents.T)

`model.onnx` holds the encoder, its pooling and what follows. `tokenizer.json` holds truncation and padding.
`export.json` holds the prompts that go before queries and documents.
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


class Embedder:
    """An exported model.

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

    def encode_query(self, texts: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed queries, with the model's query prompt."""
        return self.encode(texts, prompt=self.settings["query_prompt"], batch_size=batch_size)

    def encode_document(self, texts: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed documents, with the model's document prompt."""
        return self.encode(texts, prompt=self.settings["document_prompt"], batch_size=batch_size)

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: what to embed.
            prompt: put before every text; None for the model's default one, "" for none.
            batch_size: texts a forward pass.

        Returns:
            (texts, dimension), in the order of `texts`.
        """
        if prompt is None:
            prompt = self.settings["default_prompt"]
        vectors = np.zeros((len(texts), self.settings["dimension"]), dtype=np.float32)
        # Texts of like length share a batch, so that little of it is padding.
        order = np.argsort([-len(text) for text in texts], kind="stable")
        for start in range(0, len(texts), batch_size):
            rows = order[start : start + batch_size]
            vectors[rows] = self._forward([prompt + texts[row] for row in rows], prompt)
        return vectors

    def _forward(self, texts: list[str], prompt: str) -> NDArray[np.float32]:
        encoded = self.tokenizer.encode_batch(texts)
        inputs = {
            "input_ids": np.array([encoding.ids for encoding in encoded], dtype=np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in encoded], dtype=np.int64),
        }
        if not self.settings["pools_prompt"]:
            inputs["prompt_length"] = np.array(self._prompt_length(prompt), dtype=np.int64)
        vectors: NDArray[np.float32] = self.session.run(["sentence_embedding"], inputs)[0]
        return vectors

    def _prompt_length(self, prompt: str) -> int:
        """Tokens of the prompt, start token included, end token not."""
        if not prompt:
            return 0
        ids = self.tokenizer.encode(prompt).ids
        return len(ids) - (ids[-1] in self.settings["special_ids"])
