"""Save a tuned model as an ordinary sentence-transformers folder."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SentenceTransformer

from multigrain.config import TrainingConfig
from multigrain.model.adapters import has_adapters, merge_adapters, merged_over_unquantized


def save_candidate(model: SentenceTransformer, folder: Path, settings: TrainingConfig) -> None:
    """Write a tuned candidate, its adapters merged or apart as its settings say.

    Args:
        model: the tuned model; adapters that are merged are gone from it afterwards.
        folder: where to; an ordinary sentence-transformers folder without a model card.
        settings: the candidate's.
    """
    if has_adapters(model) and settings.adapters == "merged":
        if settings.quantize == "none":
            merge_adapters(model)
        else:
            model = merged_over_unquantized(model, settings)
    model.save_pretrained(str(folder), create_model_card=False)
