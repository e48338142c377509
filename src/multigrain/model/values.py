"""Value aggregation: token states are the values that attention mixes, averaged over layers.

After Value Aggregation (arXiv 2602.01572), which pools the value vectors of several layers over tokens and needs no
training. Ours takes all layers with equal weight; a mean over tokens by sentence-transformers' own Pooling completes
it, so that padding and prompts are treated as everywhere else.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.base.modules import Module, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor, nn

from multigrain.errors import ModelError
from multigrain.model.attention.observed import ObservedTransformer
from multigrain.model.attention.received import Scores
from multigrain.model.pooling import AtaOptions, PoolingKind


class ValueTransformer(ObservedTransformer):
    """Transformer whose `token_embeddings` are value vectors, heads side by side, averaged over layers.

    Args:
        model_name_or_path: a folder or hub id.
        **kwargs: those of `sentence_transformers.base.modules.Transformer`.

    Raises:
        ModelError: the architecture does not compute its attention through transformers' AttentionInterface, or its
            layers' values differ in width.
    """

    own_attributes = ("value_dimension", "calls")

    def __init__(self, model_name_or_path: str, **kwargs: Any) -> None:
        super().__init__(model_name_or_path, **kwargs)
        self.start()

    def start(self, settings: None = None) -> None:
        """Read values from every layer."""
        trace = self.prepare()
        if len(set(trace.value_widths)) != 1:
            widths = ", ".join(str(width) for width in trace.value_widths)
            raise ModelError(f"{type(self.model).__name__}: values of different widths ({widths}) cannot be averaged")
        self.value_dimension = trace.value_widths[0]
        self.calls = len(trace.layers)

    def get_embedding_dimension(self) -> int:
        """Width of the token states: key-value heads times head size."""
        return self.value_dimension

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add token states, (batch, tokens, value_dimension), to the features.

        Raises:
            ModelError: not every layer was run.
        """
        observer = _ValueSum()
        features = self.run_observed(features, observer, **kwargs)
        total = observer.take()
        if total is None or observer.calls != self.calls:
            raise ModelError(f"value aggregation: {observer.calls} layers showed their values, {self.calls} expected")
        states = features[self.module_output_name]
        features[self.module_output_name] = (total / self.calls).to(states.dtype)
        return features


class _ValueSum:
    """Adds up the layers' values in one forward pass, (batch, tokens, value_dimension), in float32."""

    def __init__(self) -> None:
        self.calls = 0
        self._total: Tensor | None = None
        self._open = True

    def observe(self, layer: nn.Module, scores: Scores, value: Tensor) -> None:
        # Closed, it is gradient checkpointing that repeats a layer in the backward pass.
        if not self._open:
            return
        values = value.transpose(1, 2).flatten(2).to(torch.promote_types(value.dtype, torch.float32))
        self._total = values if self._total is None else self._total + values
        self.calls += 1

    def take(self) -> Tensor | None:
        total, self._total, self._open = self._total, None, False
        return total


def _build(transformer: Transformer, options: AtaOptions, include_prompt: bool) -> tuple[Transformer, Module]:
    adopted = ValueTransformer.adopt(transformer, None)
    return adopted, Pooling(adopted.value_dimension, pooling_mode="mean", include_prompt=include_prompt)


def _recognise(transformer: nn.Module, pooling: nn.Module) -> bool:
    return isinstance(transformer, ValueTransformer) and getattr(pooling, "pooling_mode", None) in ("mean", ("mean",))


VALUES = PoolingKind(_build, _recognise, (ValueTransformer,))
