"""A Transformer that also says how much attention each token receives in the last layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn

from multigrain.errors import ModelError
from multigrain.model.attention.observed import ObservedTransformer, require_plain, uninstall
from multigrain.model.attention.received import Reduction
from multigrain.model.attention.sdpa import ReceivedAttention

RECEIVED_FEATURE = "attention_received"

# Marks the attention module to read, with how often it runs in a forward pass (layers may share one module). A mark
# on the module itself outlives deep copies, adapters and wrappers.
_MARK = "_multigrain_calls"


class ReceivingTransformer(ObservedTransformer):
    """Transformer whose forward adds `attention_received`, (batch, tokens), to the features.

    Args:
        model_name_or_path: a folder or hub id.
        received: the fields of `Reduction`.
        **kwargs: those of `sentence_transformers.base.modules.Transformer`.

    Raises:
        ModelError: the architecture does not compute its attention through transformers' AttentionInterface.
    """

    config_keys: list[str] = [*Transformer.config_keys, "received"]  # noqa: RUF012 (as its base)
    own_attributes = ("reduction",)

    def __init__(self, model_name_or_path: str, *, received: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(model_name_or_path, **kwargs)
        self.start(Reduction(**(received or {})))

    def start(self, settings: Reduction) -> None:
        """Read attention with this reduction."""
        self.reduction = settings
        layers = self.prepare().layers
        for module in self.model.modules():
            module.__dict__.pop(_MARK, None)
        setattr(layers[-1], _MARK, sum(layer is layers[-1] for layer in layers))

    @property
    def received(self) -> dict[str, Any]:
        """The reduction, as it is saved."""
        return asdict(self.reduction)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add token states and `attention_received` to the features.

        Raises:
            ModelError: the last layer was not run as often as it should have been, or gradients shall flow through
                the weights and cannot.
        """
        layer, calls = marked_layer(self.model)
        observer = ReceivedAttention(layer, _padding(features), self.reduction, calls=calls)
        features = self.run_observed(features, observer, **kwargs)
        received = observer.take()
        needs_gradients = self.reduction.grad == "through" and features[self.module_output_name].requires_grad
        if needs_gradients and not received.requires_grad:
            raise ModelError(
                "ATA pooling: gradients cannot flow through weights made under reentrant gradient checkpointing; "
                "set use_reentrant to false, or grad to 'detach'"
            )
        features[RECEIVED_FEATURE] = received
        return features


@contextmanager
def observed(transformer: Transformer, reduction: Reduction) -> Iterator[ReceivingTransformer]:
    """Borrow a Transformer as a receiving one, and leave it as it was.

    Raises:
        ModelError: as `ReceivingTransformer`.
    """
    require_plain(transformer)
    before = transformer.model.config._attn_implementation
    try:
        yield ReceivingTransformer.adopt(transformer, reduction)
    finally:
        uninstall(transformer.model, before)


def _padding(features: dict[str, Any]) -> Tensor | None:
    mask = features.get("attention_mask")
    if mask is None:
        return None
    valid: Tensor = mask.bool()
    return None if bool(valid.all()) else valid


def marked_layer(model: nn.Module) -> tuple[nn.Module, int]:
    """The attention module that a receiving model is read at, and how often it runs in a forward pass.

    Raises:
        ModelError: no module carries the mark.
    """
    for module in model.modules():
        if _MARK in module.__dict__:
            return module, getattr(module, _MARK)
    raise ModelError(
        f"{type(model).__name__}: its layers were replaced after loading; build or load the encoder again"
    )
