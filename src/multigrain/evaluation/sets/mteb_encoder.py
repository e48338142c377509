"""Hand MTEB an encoder that is no sentence-transformers model."""

from __future__ import annotations

from typing import Any

import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from mteb.types import PromptType
from numpy.typing import NDArray

from multigrain.encoders.protocol import Encoder


class MtebEncoder(AbsEncoder):
    """An encoder as MTEB asks for it. Queries are embedded as queries, everything else as documents.

    Args:
        encoder: embeds the texts; its vectors are compared by cosine.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.mteb_model_meta = ModelMeta.create_empty()

    def encode(self, inputs: Any, *, prompt_type: PromptType | None = None, **_: Any) -> NDArray[np.float32]:
        """Embed what MTEB's loader yields, in its order: (texts, dimensions)."""
        texts = [text for batch in inputs for text in batch["text"]]
        asks = prompt_type == PromptType.query
        return self._encoder.encode_queries(texts) if asks else self._encoder.encode_documents(texts)
