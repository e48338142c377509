"""Which tokens of a text its vector is anchored to: tokens with the weights that ATA pooling gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.util import batch_to_device

from multigrain.errors import ModelError
from multigrain.model.attention.observed import evaluating
from multigrain.model.pooling import AnchorTokenPooling, AtaOptions
from multigrain.model.transformer import ReceivingTransformer, observed


@dataclass(frozen=True, slots=True)
class AnchorToken:
    """One token of a text.

    Attributes:
        token: as the tokenizer names it, e.g. "[CLS]", "embed", "##ding".
        weight: its share of the text's vector, 0..1; the weights of a text add up to 1.
    """

    token: str
    weight: float


@dataclass(frozen=True, slots=True)
class AnchoredText:
    """A text and the weights of its tokens.

    Attributes:
        text: as it was given.
        tokens: as the model reads them, special tokens included, padding left out.
    """

    text: str
    tokens: tuple[AnchorToken, ...]


def anchors(
    model: SentenceTransformer, texts: Sequence[str], *, options: AtaOptions | None = None, batch_size: int = 32
) -> list[AnchoredText]:
    """The weight of every token of every text.

    Args:
        model: one with ATA pooling shows the weights it pools with. Any other one is read as if it had ATA pooling,
            and left as it was.
        texts: what to look at.
        options: for models without ATA pooling, how they are read; None for the defaults.
        batch_size: texts a forward pass.

    Returns:
        One entry a text, in order.

    Raises:
        ModelError: the model's architecture cannot do ATA pooling.
    """
    transformer = model[0]
    pooling = next((module for module in model if isinstance(module, AnchorTokenPooling)), None)
    if isinstance(transformer, ReceivingTransformer) and pooling is not None:
        return _anchors(model, transformer, pooling, texts, batch_size)
    if not isinstance(transformer, Transformer):
        raise ModelError(f"anchor tokens are read from attention, which {type(transformer).__name__} has none of")
    options = options or AtaOptions()
    pooling = AnchorTokenPooling(1, include_prompt=options.include_prompt, sink_clip=options.sink_clip)
    with observed(transformer, options.reduction) as receiving:
        return _anchors(model, receiving, pooling, texts, batch_size)


def _anchors(
    model: SentenceTransformer,
    transformer: ReceivingTransformer,
    pooling: AnchorTokenPooling,
    texts: Sequence[str],
    batch_size: int,
) -> list[AnchoredText]:
    tokenizer = transformer.tokenizer
    if tokenizer is None:
        raise ModelError("anchor tokens need a model with a tokenizer")
    anchored: list[AnchoredText] = []
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(texts), batch_size):
            batch = list(texts[start : start + batch_size])
            features = transformer(batch_to_device(model.preprocess(batch), model.device))
            columns = (features["attention_mask"].bool(), features["input_ids"], pooling.token_weights(features))
            for text, own, ids, weights in zip(batch, *(column.cpu() for column in columns), strict=True):
                names = tokenizer.convert_ids_to_tokens(ids[own].tolist())
                tokens = map(AnchorToken, names, weights[own].tolist())
                anchored.append(AnchoredText(text, tuple(tokens)))
    return anchored
