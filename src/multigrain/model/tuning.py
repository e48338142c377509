"""What a base model is given for as long as it is tuned: another dropout, attention that learns faster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedModel

from multigrain.model.attention.sdpa import ATTENTION_NAME

_SDPA = "sdpa"
_ONE_THREAD: Final = 1_000_000
"""Weights below which a CPU's threads wait for each other longer than they compute."""


@contextmanager
def dropout_set_to(model: nn.Module, probability: float | None) -> Iterator[None]:
    """Set every dropout of a model, and set each back to its own at the end; adapters keep theirs.

    Some architectures drop with modules and others, such as Llama's attention, with a number that a layer keeps: both
    are set. The model's config is not touched, so what is saved says what the base model said.

    Args:
        model: the model.
        probability: of a value to be dropped; None leaves everything as it is.
    """
    own: list[tuple[nn.Module, str, float]] = []
    if probability is not None:
        for name, module in model.named_modules():
            if "lora_" not in name:
                own += [(module, attribute, value) for attribute, value in _dropouts(module)]
    for module, attribute, _ in own:
        setattr(module, attribute, probability)
    try:
        yield
    finally:
        for module, attribute, value in own:
            setattr(module, attribute, value)


def _dropouts(module: nn.Module) -> list[tuple[str, float]]:
    if isinstance(module, _DropoutNd):
        return [("p", module.p)]
    return [(name, value) for name, value in vars(module).items() if "drop" in name and isinstance(value, float)]


@contextmanager
def as_in_use(model: nn.Module) -> Iterator[None]:
    """Without dropout for a while, though the model is being tuned."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def quick_attention(model: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Let a model's attention choose the type in which a CPU computes it faster; at the end it is SDPA again.

    Models whose attention is read (ATA pooling) have that attention anyway; those with other attention keep it.

    Args:
        model: what is tuned.
        enabled: whether it is tuned on a CPU in bfloat16; nothing is changed otherwise.
    """
    whole = [module for module in model.modules() if isinstance(module, PreTrainedModel)] if enabled else []
    changed = [module for module in whole if module.config._attn_implementation == _SDPA]
    for module in changed:
        module.set_attn_implementation(ATTENTION_NAME)
    try:
        yield
    finally:
        for module in changed:
            module.set_attn_implementation(_SDPA)


@contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """Let a CPU compute with one thread what has few weights, such as a small map of vectors; at the end as before.

    Args:
        model: what is tuned; all its weights are counted.
    """
    before = torch.get_num_threads()
    if sum(weight.numel() for weight in model.parameters()) < _ONE_THREAD:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
