"""See that a base model is there and can be what is asked of it, without loading its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from multigrain.config import AttentionName
from multigrain.config.paths import STATIC_PREFIX
from multigrain.errors import ModelError
from multigrain.model.attention.direction import is_decoder
from multigrain.model.loading import locate, unloadable
from multigrain.model.static import is_model2vec


def check_reference(
    reference: str,
    *,
    max_seq_length: int | None = None,
    attention: AttentionName = "keep",
    trust_remote_code: bool = False,
) -> None:
    """Read a model's config, from a folder or the hub, and hold it against what is asked for.

    Args:
        reference: what `build_encoder` takes.
        max_seq_length: tokens that it shall read; None for its own.
        attention: which way it shall attend.
        trust_remote_code: run code that comes with the model.

    Raises:
        ModelError: it is not there, or cannot be what is asked for.
        MissingExtraError: `package:NAME` is not installed.
    """
    source = locate(reference.removeprefix(STATIC_PREFIX))
    folder = _transformer_folder(Path(source))
    if is_model2vec(Path(source)) or folder is None:
        return
    place = str(folder) if folder.is_dir() else source
    try:
        config: Any = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise unloadable(reference, error) from None
    if reference.startswith(STATIC_PREFIX):
        return
    positions = getattr(config, "max_position_embeddings", None)
    if max_seq_length is not None and isinstance(positions, int) and 0 < positions < max_seq_length:
        raise ModelError(
            f"{reference}: max_seq_length {max_seq_length} is more than the {positions} tokens the model can read"
        )
    if attention == "causal" and not is_decoder(config):
        raise ModelError(f"{reference}: attention: causal needs a decoder; {config.model_type} is none")


def _transformer_folder(folder: Path) -> Path | None:
    """Where a folder keeps its transformer; None where it has none. A hub id stays what it is."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return folder
    try:
        first = json.loads(modules.read_text(encoding="utf-8"))[0]
        place = folder / str(first["path"])
    except (OSError, ValueError, LookupError, TypeError):
        raise ModelError(f"{modules}: cannot be read as a list of modules") from None
    has_config = (place / "config.json").is_file() or (place / "adapter_config.json").is_file()
    return place if has_config and not (place / "adapter_config.json").is_file() else None
