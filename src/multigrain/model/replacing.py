"""Name a model's pooling, and replace it, by the table of poolings."""

from __future__ import annotations

from typing import Any, TypeGuard

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

from multigrain.config.poolings import KEEP, POOLINGS
from multigrain.errors import ModelError
from multigrain.model.attention.observed import ObservedTransformer
from multigrain.model.pooling import AtaOptions, PoolingKind, TokenPooling


def pooling_name(model: SentenceTransformer) -> str:
    """How a model pools.

    Returns:
        A name of the table, or another of sentence-transformers' modes. Combined modes are joined by "+"; a model
        without a pooling module gives "none".
    """
    position = _position(model)
    if position is None:
        return "none"
    pooling = model[position]
    for name in (*POOLINGS.built_in, *POOLINGS.added):
        if POOLINGS.get(name).recognise(model[0], pooling):
            return name
    modes = getattr(pooling, "pooling_mode", type(pooling).__name__)
    return modes if isinstance(modes, str) else "+".join(modes)


def replace_pooling(model: SentenceTransformer, pooling: str, options: AtaOptions) -> None:
    """Give a model another pooling, in place; what follows the pooling (normalising, dense layers) stays.

    Args:
        model: any encoder that pools a transformer's token states.
        pooling: the name of its new pooling; "keep" changes nothing.
        options: for `ata` all of them; for `diagonal` all but `reduce`; the others take `include_prompt` from the
            pooling that is replaced.

    Raises:
        ConfigError: no pooling has the name.
        ModelError: the model pools no token states, its architecture does not show its attention, or later modules
            need vectors of another width.
    """
    if pooling == KEEP:
        return
    kind: PoolingKind = POOLINGS.get(pooling)
    position, transformer = _position(model), model[0]
    if position is None or not isinstance(transformer, Transformer):
        raise ModelError("has no pooling over a transformer's tokens to replace; use pooling: keep")
    before: Any = model[position]
    if isinstance(transformer, ObservedTransformer):
        transformer = transformer.release()
    after: Any
    transformer, after = kind.build(transformer, options, bool(before.include_prompt))
    widths = before.get_embedding_dimension(), after.get_embedding_dimension()
    weighted = any(list(module.parameters()) for module in list(model.children())[position + 1 :])
    if widths[0] != widths[1] and weighted:
        raise ModelError(
            f"its later modules take vectors of width {widths[0]}, {pooling} pooling gives {widths[1]}; "
            "use pooling: keep"
        )
    model[0], model[position] = transformer, after


def pooling_of(path: str) -> str | None:
    """The pooling whose module a saved model names; None where it is of none of the table.

    Args:
        path: of a class, as modules.json names it.
    """
    # Other packages' poolings are imported only where this package's do not have the class.
    for name in (*POOLINGS.built_in, *POOLINGS.added):
        kind: PoolingKind = POOLINGS.get(name)
        if any(path == f"{module.__module__}.{module.__qualname__}" for module in kind.modules):
            return name
    return None


def is_pooling(module: nn.Module) -> TypeGuard[Pooling | TokenPooling]:
    """Whether a module makes a text's vector of its token states."""
    return isinstance(module, Pooling | TokenPooling)


def _position(model: SentenceTransformer) -> int | None:
    """The index of the pooling module."""
    return next((index for index, module in enumerate(model.children()) if is_pooling(module)), None)


def _mode(mode: str) -> PoolingKind:
    """A pooling that sentence-transformers computes, by its own name of it."""

    def build(transformer: Transformer, options: AtaOptions, include_prompt: bool) -> tuple[Transformer, Module]:
        width = int(transformer.get_embedding_dimension())
        return transformer, Pooling(width, pooling_mode=mode, include_prompt=include_prompt)

    def recognise(transformer: nn.Module, pooling: nn.Module) -> bool:
        if isinstance(transformer, ObservedTransformer):
            return False
        return type(pooling) is Pooling and pooling.pooling_mode in (mode, (mode,))

    return PoolingKind(build, recognise)


MEAN = _mode("mean")
CLS = _mode("cls")
LAST = _mode("lasttoken")
WEIGHTED_MEAN = _mode("weightedmean")
