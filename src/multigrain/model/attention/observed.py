"""A sentence-transformers Transformer whose attention can be observed while it runs."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from sentence_transformers.base.modules import Transformer
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.logging import get_verbosity, set_verbosity

from multigrain.errors import ModelError
from multigrain.model.attention.flash import FLASH_IMPLEMENTATION, FLASH_NAME
from multigrain.model.attention.mpnet import announced, observe_mpnet, release_mpnet
from multigrain.model.attention.sdpa import ATTENTION_NAME, OBSERVER_ARGUMENT, AttentionObserver, LayerTrace


class ObservedTransformer(Transformer):
    """Transformer with an observer of its attention in every forward pass.

    Every layer computes SDPA, or FlashAttention-2 where the model was loaded with it.

    Same weights and same token states as the Transformer it is made from. Saved under the subclass's name, so that a
    loaded model has its attention set up again.

    Raises:
        ModelError: the architecture does not compute its attention through transformers' AttentionInterface.
    """

    # What a subclass adds to the Transformer it is made from, and what is taken away again by `release`.
    own_attributes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def adopt(cls, transformer: Transformer, settings: Any) -> Self:
        """Make a loaded Transformer an observed one. The two share their weights; use only the new one from here on.

        Args:
            transformer: a plain Transformer.
            settings: what the subclass's `start` takes.

        Raises:
            ModelError: as the class.
        """
        require_plain(transformer)
        adopted = cls.__new__(cls)
        adopted.__dict__.update(transformer.__dict__)
        adopted.start(settings)
        return adopted

    @abstractmethod
    def start(self, settings: Any) -> None:
        """Take the subclass's settings and prepare the model."""

    def prepare(self) -> LayerTrace:
        """Set the attention function, see that the model calls it, and return its calls in one forward pass."""
        if self.backend != "torch":
            raise ModelError(f"attention cannot be read from the {self.backend!r} backend: use torch")
        # Flattened texts would share one row, where padding no longer tells them apart.
        self.can_flatten_inputs = False
        return install(self.model)

    def release(self) -> Transformer:
        """The plain Transformer again, with transformers' own attention. The two share their weights."""
        flash = self.model.config._attn_implementation == FLASH_NAME
        uninstall(self.model, FLASH_IMPLEMENTATION if flash else "sdpa")
        released: Transformer = Transformer.__new__(Transformer)
        released.__dict__.update(
            {key: value for key, value in self.__dict__.items() if key not in self.own_attributes}
        )
        return released

    def run_observed(self, features: dict[str, Any], observer: AttentionObserver, **kwargs: Any) -> dict[str, Any]:
        """The Transformer's forward pass, with an observer."""
        with announced(observer):
            return super().forward(features, **{**kwargs, OBSERVER_ARGUMENT: observer})


def require_plain(transformer: Transformer) -> None:
    """See that a Transformer is sentence-transformers' own and nothing built on it.

    Raises:
        ModelError: it is not.
    """
    if type(transformer) is not Transformer:
        raise ModelError(
            f"reading attention needs a plain sentence-transformers Transformer, got {type(transformer).__name__}"
        )


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


def install(model: PreTrainedModel) -> LayerTrace:
    """Give a model the observable attention, and run two tokens through it.

    Returns:
        The calls of its attention modules.

    Raises:
        ModelError: no module calls the registered function, or the model refuses it.
    """
    flash = model.config._attn_implementation in (FLASH_IMPLEMENTATION, FLASH_NAME)
    if flash and getattr(model.config, "attn_logit_softcapping", None):
        raise ModelError(f"{type(model).__name__} caps its scores softly: under FlashAttention-2 they cannot be read")
    if not observe_mpnet(model):
        verbosity = get_verbosity()
        # A model that cannot is about to be refused in one line; transformers would warn in three of its own.
        set_verbosity(logging.ERROR)
        try:
            model.set_attn_implementation(ATTENTION_NAME)
        finally:
            set_verbosity(verbosity)
    name, trace = type(model).__name__, LayerTrace()
    tokens = torch.ones((1, 2), dtype=torch.long, device=next(model.parameters()).device)
    try:
        with evaluating(model), torch.no_grad(), announced(trace):
            model(input_ids=tokens, attention_mask=tokens, **{OBSERVER_ARGUMENT: trace})
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name}: its attention cannot be read ({error}); choose mean, cls or last pooling") from None
    if not trace.layers:
        raise ModelError(
            f"{name}: its attention cannot be read, for this architecture does not use transformers' attention "
            "interface; choose mean, cls or last pooling, or another base model"
        )
    if flash:
        # Not before: a model is looked at where and as it was loaded, and the kernel takes half precision on a GPU.
        model.set_attn_implementation(FLASH_NAME)
    return trace


def uninstall(model: PreTrainedModel, implementation: str) -> None:
    """Undo `install`, going back to an attention implementation of transformers."""
    release_mpnet(model)
    if model.config._attn_implementation in (ATTENTION_NAME, FLASH_NAME):
        model.set_attn_implementation(implementation)
