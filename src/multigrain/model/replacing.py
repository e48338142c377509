"""Name a model's pooling, and replace it."""

from __future__ import annotations

from dataclasses import replace

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from multigrain.config import PoolingName
from multigrain.errors import ModelError
from multigrain.model.observed import ObservedTransformer
from multigrain.model.pooling import AnchorTokenPooling, AtaOptions
from multigrain.model.transformer import ReceivingTransformer
from multigrain.model.values import ValueTransformer

__all__ = ["pooling_name", "replace_pooling"]

# Our names of sentence-transformers' modes.
_MODES = {"mean": "mean", "cls": "cls", "last": "lasttoken", "weighted-mean": "weightedmean"}
_NAMES = {mode: name for name, mode in _MODES.items()}


def pooling_name(model: SentenceTransformer) -> str:
    """How a model pools.

    Returns:
        ata, diagonal, values, mean, cls, last, weighted-mean, or another of sentence-transformers' modes. Combined
        modes are joined by "+"; a model without a pooling module gives "none".
    """
    found, transformer = _pooling(model), model[0]
    if found is None:
        return "none"
    module = found[1]
    if isinstance(module, AnchorTokenPooling):
        diagonal = isinstance(transformer, ReceivingTransformer) and transformer.reduction.reduce == "diagonal"
        return "diagonal" if diagonal else "ata"
    modes = (module.pooling_mode,) if isinstance(module.pooling_mode, str) else module.pooling_mode
    if isinstance(transformer, ValueTransformer) and modes == ("mean",):
        return "values"
    return "+".join(_NAMES.get(mode, mode) for mode in modes)


def replace_pooling(model: SentenceTransformer, pooling: PoolingName, options: AtaOptions) -> None:
    """Give a model another pooling, in place; what follows the pooling (normalising, dense layers) stays.

    Args:
        model: any encoder that pools a transformer's token states.
        pooling: its new pooling; "keep" changes nothing.
        options: for `ata` all of them; for `diagonal` all but `reduce`; for the others `include_prompt` is taken from
            the pooling that is replaced.

    Raises:
        ModelError: the model pools no token states, its architecture does not show its attention, or later modules
            need vectors of another width.
    """
    if pooling == "keep":
        return
    found, transformer = _pooling(model), model[0]
    if found is None or not isinstance(transformer, Transformer):
        raise ModelError("has no pooling over a transformer's tokens to replace; use pooling: keep")
    position, before = found
    if isinstance(transformer, ObservedTransformer):
        transformer = transformer.release()
    width, include_prompt = int(transformer.get_embedding_dimension()), before.include_prompt
    after: Pooling | AnchorTokenPooling
    if pooling in ("ata", "diagonal"):
        reduction = replace(options.reduction, reduce="diagonal") if pooling == "diagonal" else options.reduction
        transformer = ReceivingTransformer.adopt(transformer, reduction)
        after = AnchorTokenPooling(width, include_prompt=options.include_prompt, sink_clip=options.sink_clip)
    elif pooling == "values":
        transformer = ValueTransformer.adopt(transformer, None)
        after = Pooling(transformer.value_dimension, pooling_mode="mean", include_prompt=include_prompt)
    else:
        after = Pooling(width, pooling_mode=_MODES[pooling], include_prompt=include_prompt)
    widths = before.get_embedding_dimension(), after.get_embedding_dimension()
    weighted = any(list(module.parameters()) for module in list(model.children())[position + 1 :])
    if widths[0] != widths[1] and weighted:
        raise ModelError(
            f"its later modules take vectors of width {widths[0]}, {pooling} pooling gives {widths[1]}; "
            "use pooling: keep"
        )
    model[0], model[position] = transformer, after


def _pooling(model: SentenceTransformer) -> tuple[int, Pooling | AnchorTokenPooling] | None:
    """The pooling module and where it stands."""
    for position, module in enumerate(model.children()):
        if isinstance(module, Pooling | AnchorTokenPooling):
            return position, module
    return None
