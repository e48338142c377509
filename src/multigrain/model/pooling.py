"""What a pooling is, and anchor-token-aware pooling: token states weighted by the attention each token receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from sentence_transformers.base.modules import Module, Transformer
from torch import Tensor, nn

from multigrain.errors import ModelError
from multigrain.model.attention.received import GradName, HeadsName, ReduceName, Reduction
from multigrain.model.transformer import RECEIVED_FEATURE, ReceivingTransformer


@dataclass(frozen=True, slots=True)
class AtaOptions:
    """Everything about anchor-token-aware pooling that can be chosen.

    Attributes:
        reduce: how attention is summed over queries: sum, log or mean.
        heads: mean or max over heads.
        grad: detach treats weights as constants in training; through lets gradients flow into them.
        include_prompt: pool the prompt's tokens too.
        sink_clip: cut weights at this multiple of the span's mean weight, against attention sinks; None leaves them.
            Not part of the published method.
    """

    reduce: ReduceName = "log"
    heads: HeadsName = "mean"
    grad: GradName = "detach"
    include_prompt: bool = True
    sink_clip: float | None = None

    @property
    def reduction(self) -> Reduction:
        """The part that the transformer carries out."""
        return Reduction(reduce=self.reduce, heads=self.heads, grad=self.grad)


@dataclass(frozen=True, slots=True)
class PoolingKind:
    """One entry of the table of poolings (`multigrain.config.poolings`).

    Attributes:
        build: gives a plain Transformer this pooling: the Transformer to use instead, or the same one, and the module
            behind it. Told the options, and whether the pooling that is replaced pools the prompt's tokens.
        recognise: whether a Transformer and the pooling module behind it are of this kind.
        modules: the classes that `build` may put into a model beside sentence-transformers' own. A saved model that
            names them loads without `trust_remote_code`.
    """

    build: Callable[[Transformer, AtaOptions, bool], tuple[Transformer, Module]]
    recognise: Callable[[nn.Module, nn.Module], bool]
    modules: tuple[type[Module], ...] = ()


class TokenPooling(Module):
    """Base of pooling modules that are not sentence-transformers' own: token states in, `sentence_embedding` out.

    Attributes:
        include_prompt: whether the prompt's tokens are pooled too.
    """

    include_prompt: bool = True

    def get_embedding_dimension(self) -> int:
        """Width of the sentence embedding."""
        raise NotImplementedError

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the module's config; weights are the business of a subclass that has some."""
        self.save_config(output_path)


class AnchorTokenPooling(TokenPooling):
    """Pools token states with weights read from the last layer's attention; it has no parameters.

    Stands behind a `ReceivingTransformer`, which leaves the attention each token receives in the features. That entry
    is taken out here: it belongs to one forward pass.

    Args:
        embedding_dimension: width of the token states.
        include_prompt: pool the prompt's tokens too.
        sink_clip: cut weights at this multiple of the span's mean weight, before they are normalised; None leaves
            them. Not part of the published method.

    Raises:
        ModelError: `sink_clip` is below 1, which would make all weights equal.
    """

    config_keys: list[str] = ["embedding_dimension", "include_prompt", "sink_clip"]  # noqa: RUF012 (as its base)

    def __init__(
        self, embedding_dimension: int, *, include_prompt: bool = True, sink_clip: float | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if sink_clip is not None and sink_clip < 1:
            raise ModelError(f"ATA pooling: sink_clip must be at least 1 (or null), got {sink_clip}")
        self.embedding_dimension = embedding_dimension
        self.include_prompt = include_prompt
        self.sink_clip = sink_clip

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding`, (batch, dimension), in the dtype of the token states.

        Raises:
            ModelError: no attention was received in this forward pass.
        """
        weights = self.token_weights(features)
        features.pop(RECEIVED_FEATURE)
        states: Tensor = features["token_embeddings"]
        with torch.autocast(device_type=states.device.type, enabled=False):
            pooled = weights.unsqueeze(1) @ states.to(weights.dtype)
        features["sentence_embedding"] = pooled.squeeze(1).to(states.dtype)
        return features

    def token_weights(self, features: dict[str, Any]) -> Tensor:
        """The weight of every token: (batch, tokens), adding up to 1 in each text, zero outside of the pooled span.

        Args:
            features: what a `ReceivingTransformer` returned.

        Raises:
            ModelError: no attention was received in this forward pass.
        """
        if RECEIVED_FEATURE not in features:
            raise ModelError(
                "AnchorTokenPooling got no attention from the transformer before it: build such a model with "
                "multigrain.model.encoder.build_encoder(..., pooling='ata')"
            )
        received: Tensor = features[RECEIVED_FEATURE]
        span = pooled_span(features, include_prompt=self.include_prompt)
        if span is not None:
            received = received * span
        if self.sink_clip is not None:
            count = received.shape[1] if span is None else span.sum(1, keepdim=True)
            received = torch.minimum(received, self.sink_clip * received.sum(1, keepdim=True) / count)
        return received / received.sum(1, keepdim=True).clamp(min=torch.finfo(received.dtype).tiny)

    def get_embedding_dimension(self) -> int:
        """Width of the sentence embedding."""
        return self.embedding_dimension


def pooled_span(features: dict[str, Any], *, include_prompt: bool) -> Tensor | None:
    """Which tokens are pooled: (batch, tokens) bool, or None for all of them.

    Follows sentence-transformers: the prompt is the first `prompt_length` tokens after any padding on the left, the
    start token among them. A text that is nothing but prompt keeps all its tokens.
    """
    mask: Tensor | None = features.get("attention_mask")
    valid = None if mask is None else mask.bool()
    length = features.get("prompt_length")
    if include_prompt or length is None or valid is None:
        return valid
    # An int when encoding, a tensor of equal entries when training.
    prompt = length.reshape(-1)[:1] if isinstance(length, Tensor) else int(length)
    rest = valid & (valid.cumsum(1) > prompt)
    return rest | (valid & ~rest.any(1, keepdim=True))


def _attention_weighted(*, diagonal: bool) -> PoolingKind:
    """A pooling by the attention that tokens receive from all, or from themselves alone."""

    def build(transformer: Transformer, options: AtaOptions, include_prompt: bool) -> tuple[Transformer, Module]:
        width = int(transformer.get_embedding_dimension())
        pooling = AnchorTokenPooling(width, include_prompt=options.include_prompt, sink_clip=options.sink_clip)
        reduction = replace(options.reduction, reduce="diagonal") if diagonal else options.reduction
        return ReceivingTransformer.adopt(transformer, reduction), pooling

    def recognise(transformer: nn.Module, pooling: nn.Module) -> bool:
        is_diagonal = isinstance(transformer, ReceivingTransformer) and transformer.reduction.reduce == "diagonal"
        return isinstance(pooling, AnchorTokenPooling) and is_diagonal == diagonal

    return PoolingKind(build, recognise, (ReceivingTransformer, AnchorTokenPooling))


ATA = _attention_weighted(diagonal=False)
DIAGONAL = _attention_weighted(diagonal=True)
