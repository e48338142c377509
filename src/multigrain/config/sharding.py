"""How a model too large for one device is sharded over several."""

from __future__ import annotations

from pydantic import Field

from multigrain.config.section import Section


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
