"""Whether a transformer has the weights that it was loaded for: transformers fills in random ones and goes on."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel

from multigrain.errors import ModelError

_UNUSED = ("pooler.", "lm_head.", "cls.")
"""Heads, which embedding models leave out and no vector depends on."""


def require_weights(model: SentenceTransformer, reference: str, folder: Path) -> None:
    """See that no matrix of a model is random because its file lacks it, or has it by another name.

    So it is with checkpoints that were saved out of a wrapper ("module.", "model."), and with files that were cut.

    Args:
        model: as it was loaded, before anything replaced its parameters.
        reference: what messages call it.
        folder: where its files are, if it is a folder.

    Raises:
        ModelError: weights are missing.
    """
    for part in (part for part in model.modules() if isinstance(part, PreTrainedModel)):
        if getattr(part.config, "quantization_config", None) is not None:
            continue
        weights = {
            name: weight
            for name, weight in part.named_parameters()
            if weight.ndim > 1 and not name.startswith(_UNUSED) and "lora_" not in name
        }
        # The mark that transformers puts on what it read from a file, by which it knows what is left to initialise.
        missing = [name for name, weight in weights.items() if not getattr(weight, "_is_hf_initialized", False)]
        if missing:
            names = _names_in(folder)
            has = f"; its names begin like {names[0]!r}" if names and len(missing) == len(weights) else ""
            raise ModelError(
                f"{reference}: {len(missing)} of its {len(weights)} weight matrices are not in its file, e.g. "
                f"{missing[0]!r}, and would be random{has}: save it again with save_pretrained, or copy the whole file"
            )


def _names_in(folder: Path) -> list[str]:
    """The names of the weights in a folder's file; none where it has several, or another kind."""
    try:
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            return sorted(file.keys())
    except (OSError, SafetensorError):
        return []
