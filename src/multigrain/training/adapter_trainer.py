"""Train adapters, and resume them over a base that is held in fewer bits than its checkpoint."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from torch import nn

from multigrain.errors import ModelError
from multigrain.model.loading import load_any


class AdapterTrainer(SentenceTransformerTrainer):
    """The trainer that resumes what learns alone.

    Checkpoints of adapters hold no weights of the base. sentence-transformers reads the base again, whole, and copies
    all of it over the model's: needless where nothing of it has changed, and an error where the model holds it packed
    in 4 bits.
    """

    def _load_from_checkpoint(self, checkpoint_path: str, model: nn.Module | None = None) -> None:
        del model  # the trainer names it where it holds several
        own: SentenceTransformer = getattr(self.model, "_orig_mod", self.model)
        kept = load_any(checkpoint_path, device="cpu", trust_remote_code=own.trust_remote_code).state_dict()
        learning = [name for name, parameter in own.named_parameters() if parameter.requires_grad]
        missing = [name for name in learning if name not in kept]
        if missing:
            raise ModelError(
                f"{checkpoint_path}: holds no weights of {missing[0]}; delete the checkpoint to train from the start"
            )
        own.load_state_dict({name: kept[name] for name in learning}, strict=False)
