"""A sentence-transformers Transformer that also says how much attention each token receives in the last layer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Self

import torch
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.logging import get_verbosity, set_verbosity

from multigrain.errors import ModelError
from multigrain.model import mpnet
from multigrain.model.attention import ATTENTION_NAME, OBSERVER_ARGUMENT, LayerTrace, ReceivedAttention
from multigrain.model.received import Reduction

__all__ = ["RECEIVED_FEATURE", "ReceivingTransformer", "evaluating", "observed"]

RECEIVED_FEATURE = "attention_received"

# Marks the attention module to read, with how often it runs in a forward pass (layers may share one module). A mark
# on the module itself outlives deep copies, adapters and wrappers.
_MARK = "_multigrain_last_attention"


class ReceivingTransformer(Transformer):
    """Transformer whose forward adds `attention_received`, (batch, tokens), to the features.

    Same weights, same token states as the Transformer it is made from; attention is SDPA in every layer. Saved under
    this class, so that a loaded model has its attention set up again.

    Args:
        model_name_or_path: a folder or hub id.
        received: the fields of `Reduction`.
        **kwargs: those of `sentence_transformers.base.modules.Transformer`.

    Raises:
        ModelError: the architecture does not compute its attention through transformers' AttentionInterface.
    """

    config_keys: list[str] = [*Transformer.config_keys, "received"]  # noqa: RUF012 (as its base)

    def __init__(self, model_name_or_path: str, *, received: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(model_name_or_path, **kwargs)
        self._start(Reduction(**(received or {})))

    @classmethod
    def adopt(cls, transformer: Transformer, reduction: Reduction) -> Self:
        """Make a loaded Transformer a receiving one. The two share their weights; use only the new one from here on.

        Raises:
            ModelError: as the class.
        """
        if type(transformer) not in (Transformer, cls):
            raise ModelError(
                f"ATA pooling needs a plain sentence-transformers Transformer, got {type(transformer).__name__}"
            )
        adopted = cls.__new__(cls)
        adopted.__dict__.update(transformer.__dict__)
        adopted._start(reduction)
        return adopted

    def _start(self, reduction: Reduction) -> None:
        if self.backend != "torch":
            raise ModelError(
                f"ATA pooling reads attention, which the {self.backend!r} backend does not show: use torch"
            )
        self.reduction = reduction
        # Flattened texts would share one row, where padding no longer tells them apart.
        self.can_flatten_inputs = False
        _install(self.model)

    def release(self) -> Transformer:
        """The plain Transformer again, with transformers' own SDPA. The two share their weights."""
        released: Transformer = Transformer.__new__(Transformer)
        released.__dict__.update(self.__dict__)
        del released.reduction
        _uninstall(self.model, "sdpa")
        return released

    @property
    def received(self) -> dict[str, Any]:
        """The reduction, as it is saved."""
        return asdict(self.reduction)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add token states and `attention_received` to the features.

        Raises:
            ModelError: the last layer's attention was not observed exactly once, or gradients shall flow through the
                weights and cannot.
        """
        layer, calls = _marked_attention(self.model)
        observer = ReceivedAttention(layer, _padding(features), self.reduction, calls=calls)
        with mpnet.announced(observer):
            features = super().forward(features, **{**kwargs, OBSERVER_ARGUMENT: observer})
        received = observer.take()
        wanted = self.reduction.grad == "through" and features[self.module_output_name].requires_grad
        if wanted and not received.requires_grad:
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
    model = transformer.model
    before = model.config._attn_implementation
    try:
        yield ReceivingTransformer.adopt(transformer, reduction)
    finally:
        if not isinstance(transformer, ReceivingTransformer):
            _uninstall(model, before)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch dropout and the like off, and every part back to what it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _padding(features: dict[str, Any]) -> Tensor | None:
    mask = features.get("attention_mask")
    if mask is None:
        return None
    valid: Tensor = mask.bool()
    return None if bool(valid.all()) else valid


def _install(model: PreTrainedModel) -> None:
    if not mpnet.install(model):
        verbosity = get_verbosity()
        # A model that cannot is about to be refused in one line; transformers would warn in three of its own.
        set_verbosity(logging.ERROR)
        try:
            model.set_attn_implementation(ATTENTION_NAME)
        finally:
            set_verbosity(verbosity)
    _mark_last_attention(model)


def _uninstall(model: PreTrainedModel, implementation: str) -> None:
    mpnet.uninstall(model)
    for module in model.modules():
        module.__dict__.pop(_MARK, None)
    if model.config._attn_implementation == ATTENTION_NAME:
        model.set_attn_implementation(implementation)


def _mark_last_attention(model: nn.Module) -> None:
    """Find the attention module that runs last, by running two tokens through the model.

    Raises:
        ModelError: none calls the registered function, or the model refuses the function.
    """
    name = type(model).__name__
    device = next(model.parameters()).device
    tokens = torch.ones((1, 2), dtype=torch.long, device=device)
    trace = LayerTrace()
    try:
        with evaluating(model), torch.no_grad(), mpnet.announced(trace):
            model(input_ids=tokens, attention_mask=tokens, **{OBSERVER_ARGUMENT: trace})
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{name}: ATA pooling cannot observe its attention ({error}); choose mean, cls or last"
        ) from None
    if not trace.layers:
        raise ModelError(
            f"{name}: ATA pooling cannot observe its attention, for this architecture does not use transformers' "
            "attention interface; choose mean, cls or last pooling, or another base model"
        )
    last = trace.layers[-1]
    setattr(last, _MARK, sum(layer is last for layer in trace.layers))


def _marked_attention(model: nn.Module) -> tuple[nn.Module, int]:
    for module in model.modules():
        if _MARK in module.__dict__:
            return module, getattr(module, _MARK)
    raise ModelError(
        f"{type(model).__name__}: its layers were replaced after loading; build or load the encoder again"
    )
