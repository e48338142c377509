"""What a folder's model would give if it were used wrongly: other pooling, lengths, layers, attention, precision."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from multigrain.encoders.encoder import encode
from multigrain.encoders.protocol import Floats
from multigrain.errors import ModelError
from multigrain.model.attention.direction import is_bidirectional, is_decoder, set_attention
from multigrain.model.attention.observed import evaluating
from multigrain.model.replacing import is_pooling, pooling_name

POOLINGS: Final = {"mean": "mean", "cls": "cls", "last": "lasttoken", "max": "max", "weighted-mean": "weightedmean"}
"""Poolings that servers have, by sentence-transformers' name."""
ROUNDINGS: Final = ("bfloat16", "8 bits", "4 bits")
"""Finest first."""

_BATCH: Final = 8
_BLOCK: Final = 32


@dataclass(frozen=True, slots=True)
class Way:
    """A way of computing a text's vector from it. The default is the folder's own.

    Attributes:
        pooling: another pooling; None for the folder's.
        skipped: names of layers behind the pooling that are left out.
        bare: without the special tokens that the tokenizer puts around a text.
        turned: with attention in the other direction (causal, or both ways).
    """

    pooling: str | None = None
    skipped: tuple[str, ...] = ()
    bare: bool = False
    turned: bool = False

    @property
    def deviations(self) -> int:
        """In how many points it differs from the folder's."""
        return (self.pooling is not None) + bool(self.skipped) + self.bare + self.turned


def can_vary(model: SentenceTransformer) -> bool:
    """Whether a model's parts can be exchanged: a transformer, and a pooling over its tokens."""
    return isinstance(model[0], Transformer) and any(is_pooling(module) for module in model.children())


def vectors_of_ways(model: SentenceTransformer, texts: Sequence[str]) -> Mapping[Way, Floats]:
    """A model's vectors of texts, computed in each of many ways.

    Args:
        model: one that can vary; it is left as it is.
        texts: with their prompts.

    Returns:
        By way, (texts, dimensions of that way).
    """
    bare = [False, True] if _has_specials(model) else [False]
    found: dict[Way, Floats] = {}
    others = _other_poolings(model)
    for turned in (False, True):
        with _attention(model, turned=turned) as possible:
            if possible:
                for without in bare:
                    found |= _by_pooling(model, texts, Way(bare=without, turned=turned), others, either=True)
    return found


def cut_vectors(model: SentenceTransformer, texts: Sequence[str], way: Way, limit: int | str | None) -> Floats:
    """The vectors of one way, of texts cut at so many tokens: "own" as the folder cuts, None where the model ends."""
    with _attention(model, turned=way.turned):
        return _by_pooling(model, texts, way, (), limit=limit)[way]


def longest_readable(model: SentenceTransformer) -> int | None:
    """Tokens that a model has positions for; None where it does not say."""
    config: Any = getattr(getattr(model[0], "auto_model", None), "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    offset = getattr(config, "pad_token_id", 0) or 0 if getattr(config, "model_type", "") in _OFFSET else 0
    return int(positions) - (offset + 1 if offset else 0) if isinstance(positions, int) and positions > 0 else None


_OFFSET: Final = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})
"""Their positions begin behind the padding token's number."""


def rounded_vectors(model: SentenceTransformer, texts: Sequence[str], rounding: str) -> Floats:
    """A model's vectors where its weights are held in fewer bits, 32 of a row sharing a scale; bfloat16 throughout.

    Args:
        model: any; it is left as it is, and copied.
        texts: with their prompts.
        rounding: one of `ROUNDINGS`.
    """
    rounded = copy.deepcopy(model).float()
    if rounding == "bfloat16":
        return encode(rounded.bfloat16(), texts, prompt="", batch_size=_BATCH)
    levels = 2 ** (int(rounding.partition(" ")[0]) - 1) - 1
    for module in rounded.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding) and isinstance(weight, torch.nn.Parameter):
            weight.data = _rounded(weight.data, levels)
    return encode(rounded, texts, prompt="", batch_size=_BATCH)


def _rounded(weight: torch.Tensor, levels: int) -> torch.Tensor:
    rows, columns = weight.shape
    blocks = torch.nn.functional.pad(weight, (0, -columns % _BLOCK)).view(rows, -1, _BLOCK)
    scale = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-12) / levels
    rounded: torch.Tensor = ((blocks / scale).round() * scale).view(rows, -1)[:, :columns]
    return rounded


def _other_poolings(model: SentenceTransformer) -> tuple[str, ...]:
    """The poolings of the table that are not the model's, where they give vectors that its later layers take."""
    own = next(module for module in model.children() if is_pooling(module))
    if own.get_embedding_dimension() != _width(model):
        return ()
    name = pooling_name(model)
    return tuple(other for other in POOLINGS if other != name)


def _width(model: SentenceTransformer) -> int:
    transformer: Any = model[0]
    return int(transformer.get_embedding_dimension())


def _by_pooling(
    model: SentenceTransformer,
    texts: Sequence[str],
    way: Way,
    others: Sequence[str],
    *,
    either: bool = False,
    limit: int | str | None = "own",
) -> dict[Way, Floats]:
    """Vectors of a way, and of it with other poolings and with later layers left out, from one pass of the encoder."""
    ways = [way, *(replace(way, pooling=name) for name in others)]
    if either and (later := _later(model)):
        ways += [replace(each, skipped=later) for each in ways]
    parts: dict[Way, list[Any]] = {each: [] for each in ways}
    with evaluating(model), torch.no_grad():
        for start in range(0, len(texts), _BATCH):
            features = _tokens(model, texts[start : start + _BATCH], bare=way.bare, limit=limit)
            states = model[0](features)
            for each in ways:
                parts[each].append(_pooled(model, dict(states), each).float().cpu().numpy())
    return {each: np.concatenate(rows).astype(np.float32) for each, rows in parts.items()}


def _later(model: SentenceTransformer) -> tuple[str, ...]:
    """The layers behind the pooling, but for normalising."""
    modules = list(model.children())
    place = next(index for index, module in enumerate(modules) if is_pooling(module))
    return tuple(type(module).__name__ for module in modules[place + 1 :] if not isinstance(module, Normalize))


def _pooled(model: SentenceTransformer, features: dict[str, Any], way: Way) -> Any:
    """A batch's vectors of its token states."""
    pooled = False
    for module in list(model.children())[1:]:
        part: Any = module
        if is_pooling(module):
            pooled = True
            part = module if way.pooling is None else Pooling(_width(model), pooling_mode=POOLINGS[way.pooling])
        if not (pooled and type(module).__name__ in way.skipped):
            features = part(features)
    return features["sentence_embedding"]


def _tokens(model: SentenceTransformer, texts: Sequence[str], *, bare: bool, limit: int | str | None) -> Any:
    tokenizer: Any = model.tokenizer
    most = model.max_seq_length if limit == "own" else limit
    readable = longest_readable(model)
    most = readable if most is None else most if readable is None else min(int(most), readable)
    encoded = tokenizer(
        list(texts),
        padding=True,
        truncation=most is not None,
        max_length=most,
        add_special_tokens=not bare,
        return_tensors="pt",
        verbose=False,
    )
    return {key: value.to(model.device) for key, value in encoded.items()}


def _has_specials(model: SentenceTransformer) -> bool:
    tokenizer: Any = model.tokenizer
    return len(tokenizer("a")["input_ids"]) > len(tokenizer("a", add_special_tokens=False)["input_ids"]) > 0


@contextmanager
def _attention(model: SentenceTransformer, *, turned: bool) -> Iterator[bool]:
    """A decoder's attention in the other direction for a while; gives whether that is possible."""
    transformer: Any = model[0]
    if not turned:
        yield True
    elif not is_decoder(transformer.model.config):
        yield False
    else:
        before = copy.deepcopy(transformer.model.config.__dict__)
        own = is_bidirectional(transformer.model)
        try:
            set_attention(model, "causal" if own else "bidirectional")
            possible = True
        except ModelError:
            possible = False
        try:
            yield possible
        finally:
            if possible:
                set_attention(model, "bidirectional" if own else "causal")
            transformer.model.config.__dict__.update(before)
