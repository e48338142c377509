"""How a base model is set up for tuning: attention, pooling, adapters, prompts, sharding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from multigrain.config.paths import FilePath
from multigrain.config.section import Section

AttentionName = Literal["keep", "causal", "bidirectional"]
AttentionImplementation = Literal["eager", "sdpa", "flash_attention_2"]
QuantizeName = Literal["none", "4bit"]
AdaptersName = Literal["merged", "apart"]
SideName = Literal["both", "query"]


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


AUTOMATIC_RANKS: Final = (8, 32, 128)
"""Ranks of a query adapter from which validation queries choose where it is auto; 32 where there are none."""
_AUTOMATIC_RANK: Final = 32
_Rank = Annotated[int, Field(ge=1)]


class QueryAdapterConfig(Section):
    """A small map behind the base model that moves query vectors.

    It begins as the identity and keeps the length of every vector; `training.merge` says how much of it is kept.
    """

    kind: Literal["linear", "low-rank", "mlp"] = "low-rank"
    """linear: a whole matrix. low-rank: a product of two thin ones. mlp: the same with a ReLU between them."""

    rank: _Rank | Annotated[list[_Rank], Field(min_length=1)] | Literal["auto"] = "auto"
    """Width between the two matrices of low-rank and mlp, or a list of which validation queries choose one. auto: 8,
    32 and 128, and 32 where there are no validation queries."""

    def ranks(self, *, choose: bool) -> tuple[int, ...]:
        """The ranks to train with; one for a whole matrix, which has none.

        Args:
            choose: whether there are validation queries to choose by; else there is one rank.
        """
        if self.kind == "linear":
            return (0,)
        if self.rank == "auto":
            return AUTOMATIC_RANKS if choose else (_AUTOMATIC_RANK,)
        several = tuple(dict.fromkeys(self.rank)) if isinstance(self.rank, list) else (self.rank,)
        return several if choose else several[:1]


class DocumentVectorsConfig(Section):
    """Where a store's vectors of the run's documents are, as the base model behind an endpoint gave them."""

    path: FilePath
    """A .npy file, a .parquet file (as LanceDB and others write), or a .jsonl file of points (Qdrant's scroll)."""

    id: str = "id"
    """The column, or key, of a document's identifier; of points also a path, e.g. payload.id."""

    vector: str = "vector"
    """The column, or key, of its vector."""

    ids: FilePath | None = None
    """For .npy: a file with an identifier a line, one for each row. null: rows stand in the order of the documents."""

    normalise: bool = False
    """Scale vectors to length 1, for a store that compares by cosine and keeps them as they came."""


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
