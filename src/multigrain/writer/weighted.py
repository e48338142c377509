"""TRL's SFT trainer with a weight for each completion."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import torch

from multigrain.writer.loss import weighted_loss

WEIGHT: Final = "weight"
"""The column of weights."""


@cache
def weighted_trainer() -> type[Any]:
    """The class, made where TRL is installed; `check_installed` says so before.

    It minimises the mean over a batch of weight × mean negative log-likelihood of the completion's tokens. With
    weights of 1 that is supervised fine-tuning in which every completion counts the same, however long. Positive
    weights are those of self data augmentation; advantages, which may be below zero, make it a policy-gradient step
    on logged completions.
    """
    from trl import SFTTrainer

    class WeightedSFTTrainer(SFTTrainer):  # type: ignore[misc]
        """See `weighted_trainer`."""

        data_collator: Any
        _signature_columns: Any

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            plain = self.data_collator

            def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
                batch: dict[str, Any] = plain(examples)
                batch[WEIGHT] = torch.tensor([example[WEIGHT] for example in examples], dtype=torch.float32)
                return batch

            self.data_collator = collate

        def _set_signature_columns_if_needed(self) -> None:
            super()._set_signature_columns_if_needed()
            if WEIGHT not in self._signature_columns:
                self._signature_columns = [*self._signature_columns, WEIGHT]

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """The weighted loss of a batch; called by the trainer."""
            del num_items_in_batch  # every completion counts by its weight, not by its tokens
            texts = {name: value for name, value in inputs.items() if name not in (WEIGHT, "labels")}
            outputs = model(**texts, use_cache=False)
            loss = weighted_loss(outputs.logits, inputs["labels"], inputs[WEIGHT])
            return (loss, outputs) if return_outputs else loss

    return WeightedSFTTrainer
