"""Does an export give the model's vectors? Asked after every export, and answered loudly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from multigrain.encoders.encoder import encode
from multigrain.errors import ExportError

PARITY_TOLERANCE: Final = 1e-4
"""The largest difference of any number of a vector, relative to the vector's length."""

# Short and long, several scripts, what tokenizers trip over, and more than any model reads.
PARITY_TEXTS: Final = (
    "how do I rotate the logs?",
    "a",
    "  Leading and   doubled spaces, tabs\tand\nnew lines  ",
    "ÜBER-große Äpfel kosten 3,50 €; cafés naïvely résumé.",
    "埋め込みモデルは文章をベクトルに変換します。",
    "القطط تنام في الشمس, и собаки тоже.",
    "🙂🙃 emoji, ²³ superscripts, \u200bzero-width, [CLS] and </s> as words",
    "def rotate(path: Path, *, keep: int = 7) -> None:  # https://example.org/a?b=c&d=%20",
    "The committee adjourned. " * 12,
    "Every one of these words is here to make the text longer than a model can read, again and again. " * 120,
)

Vectors = NDArray[np.float32]


class QueryDocumentEncoder(Protocol):
    """Anything that embeds queries and documents with the model's own prompts."""

    def encode_query(self, texts: list[str], *, batch_size: int = 32) -> Vectors:
        """Embed queries: (texts, dimension)."""
        ...

    def encode_document(self, texts: list[str], *, batch_size: int = 32) -> Vectors:
        """Embed documents: (texts, dimension)."""
        ...


def model_vectors(model: SentenceTransformer, texts: Sequence[str], batch_size: int) -> tuple[Vectors, Vectors]:
    """A model's vectors of texts as queries and as documents, as the model gives them."""
    queries = encode(model, texts, role="query", batch_size=batch_size, normalise=False)
    return queries, encode(model, texts, role="document", batch_size=batch_size, normalise=False)


def check_parity(
    model: SentenceTransformer,
    exported: QueryDocumentEncoder,
    *,
    what: str,
    tolerance: float = PARITY_TOLERANCE,
    texts: Sequence[str] = PARITY_TEXTS,
) -> float:
    """Compare an export with its model, text by text and in a padded batch, as queries and as documents.

    Args:
        model: the model, in the precision that the export was made in.
        exported: the export.
        what: what errors call it.
        tolerance: the largest difference that passes, relative to a vector's length.
        texts: what to embed.

    Returns:
        The largest difference.

    Raises:
        ExportError: it is larger than the tolerance, or not a number.
    """
    worst = 0.0
    for batch_size in (1, len(texts)):
        expected = model_vectors(model, texts, batch_size)
        encoders: tuple[Callable[..., Vectors], ...] = (exported.encode_query, exported.encode_document)
        for role, reference, embed in zip(("query", "document"), expected, encoders, strict=True):
            vectors = np.asarray(embed(list(texts), batch_size=batch_size), dtype=np.float32)
            if vectors.shape != reference.shape:
                raise ExportError(f"{what} gives vectors of shape {vectors.shape}, the model {reference.shape}")
            lengths = np.maximum(np.linalg.norm(reference, axis=1), 1e-12)
            differences = np.abs(vectors - reference).max(1) / lengths
            row = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
            if not differences[row] <= tolerance:
                raise ExportError(
                    f"{what} does not give the model's vectors: {differences[row]:.2g} apart, {tolerance:.0e} allowed "
                    f"for the {role} {texts[row][:60]!r} in batches of {batch_size}; nothing was exported"
                )
            worst = max(worst, float(differences[row]))
    return worst
