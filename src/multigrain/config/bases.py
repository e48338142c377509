"""How a base model is set up for tuning: attention, pooling, adapters, prompts, sharding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from multigrain.config.section import Section

AttentionName = Literal["keep", "causal", "bidirectional"]
AttentionImplementation = Literal["eager", "sdpa", "flash_attention_2"]
QuantizeName = Literal["none", "4bit"]
AdaptersName = Literal["merged", "apart"]


class AtaConfig(Section):
    """How anchor-token-aware pooling weighs tokens. The paper says that weights follow attention; the rest is ours."""

    reduce: Literal["log", "sum", "mean"] = "log"
    """How the attention that a token receives is summed: log (of 1 + n times it), sum, or mean over the queries that
    may see the token."""

    heads: Literal["mean", "max"] = "mean"
    """How heads are joined."""

    grad: Literal["detach", "through"] = "detach"
    """detach: weights are constants in training. through: gradients flow into them."""

    include_prompt: bool = True
    """Whether the prompt's tokens are pooled too."""

    sink_clip: float | None = Field(default=None, ge=1)
    """Cut weights at this multiple of the mean weight, against attention sinks (null: off). No part of the method."""


class LoraConfig(Section):
    """Low-rank adapters: the base's weights stay, small matrices beside them learn."""

    r: int = Field(default=16, ge=1)
    """Rank of the added matrices."""

    alpha: int = Field(default=32, ge=1)
    """Scale: what the adapters add is multiplied by alpha / r."""

    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout before the adapters."""

    targets: Literal["auto", "all-linear"] | list[str] = "auto"
    """Names of the layers that get adapters, e.g. [q_proj, v_proj]. auto: every projection of attention and
    feed-forward that the architecture has; all-linear: every linear layer."""


class PromptsConfig(Section):
    """What is put before texts, in training and whenever the model is used; saved with the model."""

    query: str | None = None
    """Before every query, e.g. "query: ". Null: made of `instruction`, else the base model's own."""

    document: str | None = None
    """Before every document, e.g. "passage: ". Null: the base model's own."""

    instruction: str | None = None
    """What the search is for, in a sentence. It is put into `template` and goes before every query."""

    template: str = "Instruct: {instruction}\nQuery: "
    """Where the instruction goes; the default is what E5-mistral, Qwen3-Embedding and many others read."""

    @model_validator(mode="after")
    def _one_query_prompt(self) -> Self:
        if self.query is not None and self.instruction is not None:
            raise ValueError("give query or instruction, not both: an instruction is made into the query's prompt")
        if "{instruction}" not in self.template:
            raise ValueError(f"template must hold {{instruction}}, got {self.template!r}")
        return self

    def resolved(self, own: Mapping[str, str | None]) -> dict[str, str | None]:
        """The prompts of a model, by kind.

        Args:
            own: the base model's prompts.
        """
        query = self.query
        if self.instruction is not None:
            query = self.template.replace("{instruction}", self.instruction)
        prompts = {"query": query, "document": self.document}
        return {**own, **{kind: text for kind, text in prompts.items() if text is not None}}


class FsdpConfig(Section):
    """Options of `training.fsdp`, under the names that the trainer gives them (`fsdp_config`)."""

    reshard_after_forward: bool = True
    """Free a block's whole weights after its forward pass and gather them again for the backward pass. false: faster,
    more memory."""

    cpu_offload: bool = False
    """Keep weights, gradients and optimiser in the CPU's memory, and move a block's to the GPU when it is its turn."""

    transformer_layer_cls_to_wrap: list[str] = Field(default_factory=list)
    """Classes of the blocks that are gathered one at a time, e.g. [MistralDecoderLayer] (empty: those that
    transformers names for the architecture)."""
