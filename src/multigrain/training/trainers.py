"""Trainers for what sentence-transformers' own cannot resume: adapters, one side of a Router, sharded models (FSDP2).

The trainer shards a twin of the model, block by block, by its own switches. Its checkpoints are written and read here:
it would save one process's shards as if they were the model, and cannot read a sharded checkpoint.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import load_fsdp_model
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, SentenceTransformer, SentenceTransformerTrainer
from torch import nn

from multigrain.config import TrainingConfig
from multigrain.errors import ModelError
from multigrain.model.loading import load_any
from multigrain.training.checkpoints import LEARNING
from multigrain.training.processes import is_main_process


def training_device(config: TrainingConfig, model: SentenceTransformer | CrossEncoder) -> torch.device:
    """Where steps are computed. A model that will be sharded waits on the CPU, since one device may not hold it."""
    device = torch.accelerator.current_accelerator() if config.fsdp and torch.accelerator.is_available() else None
    return model.device if device is None else device


def fsdp_arguments(config: TrainingConfig, model: SentenceTransformer) -> dict[str, Any]:
    """The trainer's `fsdp` and `fsdp_config`; nothing where training is not sharded.

    Blocks that are gathered one at a time are those that transformers names for the architecture. A model without
    such (a static one) is one piece.
    """
    if not config.fsdp:
        return {}
    blocks = config.fsdp_config.transformer_layer_cls_to_wrap or _blocks(model)
    options = {
        **config.fsdp_config.model_dump(),
        # Where there is no GPU they are there anyway, and torch would look for one.
        "cpu_offload": config.fsdp_config.cpu_offload and torch.accelerator.is_available(),
        "version": 2,
        "state_dict_type": "FULL_STATE_DICT",
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP" if blocks else "NO_WRAP",
        "transformer_layer_cls_to_wrap": blocks or None,
    }
    return {"fsdp": True, "fsdp_config": options}


def twin_to_shard(model: SentenceTransformer) -> SentenceTransformer:
    """A copy of a model whose weights lie in the same memory, for the trainer to cut up.

    The main process keeps the model itself, whole and on the CPU, to gather into at the end; the others let go of
    theirs (its weights are on the meta device afterwards).

    Args:
        model: whole, on the CPU.
    """
    shared: dict[int, Any] = {
        id(weight): nn.Parameter(weight.data, requires_grad=weight.requires_grad) for weight in model.parameters()
    }
    twin = copy.deepcopy(model, shared)
    # accelerate looks for the last norm among this attribute's children, and would take sentence-transformers'
    # Normalize for it, which has no weights and cannot be sharded.
    twin.base_model_prefix = "transformers_model"  # type: ignore[assignment]
    # BERT's pooler takes no part in an embedding. A weight that could learn and never does has no optimiser state, and
    # a checkpoint without it would be refused.
    pooler = getattr(twin.transformers_model, "pooler", None)
    if pooler is not None:
        pooler.requires_grad_(False)
    if not is_main_process():
        model.to("meta")
    return twin


def gather_into(model: SentenceTransformer, trainer: SentenceTransformerTrainer) -> None:
    """Put the trained shards together again, in the main process's whole model. All processes must call this.

    Args:
        model: what the trainer's sharded twin was made of.
        trainer: after training.
    """
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if is_main_process():
        model.load_state_dict(weights)


class ShardingTrainer(SentenceTransformerTrainer):
    """The trainer with checkpoints that hold the whole state of a sharded training, however many processes resume."""

    def create_accelerator_and_postprocess(self) -> None:
        """Called by the trainer as it starts. accelerate shards on GPUs alone, and on the CPU would not say so."""
        super().create_accelerator_and_postprocess()
        state = self.accelerator.state
        if state.distributed_type == DistributedType.MULTI_CPU:
            plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            if self.args.bf16:
                plugin.set_mixed_precision("bf16")
            state.distributed_type, state.fsdp_plugin = DistributedType.FSDP, plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP  # as accelerate itself does on GPUs
            self.is_fsdp_enabled = True

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Nothing: the trainer writes the weights of a checkpoint with its optimiser's state."""

    def _load_from_checkpoint(self, checkpoint_path: str, model: nn.Module | None = None) -> None:
        plugin = self.accelerator.state.fsdp_plugin
        load_fsdp_model(plugin, self.accelerator, self.model if model is None else model, checkpoint_path)


class AdapterTrainer(SentenceTransformerTrainer):
    """The trainer that resumes what learns alone.

    Checkpoints of adapters hold no weights of the base. sentence-transformers reads the base again, whole, and copies
    all of it over the model's: needless where nothing of it has changed, and an error where the model holds it packed
    in 4 bits.
    """

    def _load_from_checkpoint(self, checkpoint_path: str, model: nn.Module | None = None) -> None:
        del model  # the trainer names it where it holds several
        own: SentenceTransformer = getattr(self.model, "_orig_mod", self.model)
        saved = load_any(checkpoint_path, device="cpu", trust_remote_code=own.trust_remote_code).state_dict()
        learning = [name for name, parameter in own.named_parameters() if parameter.requires_grad]
        missing = [name for name in learning if name not in saved]
        if missing:
            raise ModelError(
                f"{checkpoint_path}: holds no weights of {missing[0]}; delete the checkpoint to train from the start"
            )
        own.load_state_dict({name: saved[name] for name in learning}, strict=False)


class _LearningAlone:
    """Makes a trainer's checkpoints hold the weights that learn, and nothing of what is frozen beside them."""

    args: Any
    model: Any

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        weights = self._learning()
        save_file({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, folder / LEARNING)

    @torch.no_grad()
    def _load_from_checkpoint(self, checkpoint_path: str, model: nn.Module | None = None) -> None:
        del model  # the trainer names it where it holds several
        saved, weights = load_file(Path(checkpoint_path) / LEARNING), self._learning()
        if saved.keys() != weights.keys():
            lacking = min(saved.keys() ^ weights.keys())
            raise ModelError(
                f"{checkpoint_path}: {lacking} is not in both the checkpoint and the model; delete the checkpoint to "
                "train from the start"
            )
        for name, weight in weights.items():
            weight.copy_(saved[name])

    def _learning(self) -> dict[str, nn.Parameter]:
        own: nn.Module = getattr(self.model, "_orig_mod", self.model)
        return {name: weight for name, weight in own.named_parameters() if weight.requires_grad}


class QuerySideTrainer(_LearningAlone, SentenceTransformerTrainer):
    """The trainer for one side of a Router.

    sentence-transformers writes the frozen route into every checkpoint too, and finds no adapters in a route again.
    """


class RerankerAdapterTrainer(_LearningAlone, CrossEncoderTrainer):
    """The trainer for a reranker's adapters and its head, which a checkpoint of adapters would leave out."""


def _blocks(model: SentenceTransformer) -> list[str]:
    named = getattr(model.transformers_model, "_no_split_modules", None) or ()
    present = {type(module).__name__ for module in model.modules()}
    return sorted(present.intersection(named))
