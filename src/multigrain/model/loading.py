"""Load sentence-transformers models, turning what goes wrong into one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from multigrain.errors import ModelError
from multigrain.sources.packages import resolve_encoder

__all__ = ["load_any"]

# Classes of this package that a saved model may name. They are imported from here, never from the model's folder.
_OWN_MODULES = frozenset(
    {
        "multigrain.model.pooling.AnchorTokenPooling",
        "multigrain.model.transformer.ReceivingTransformer",
        "multigrain.model.values.ValueTransformer",
    }
)
_CONFIG_FILES = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


def load_any(reference: str, *, device: str | None = None, trust_remote_code: bool = False) -> SentenceTransformer:
    """Load an encoder: a folder (this package's own included), a hub id, `package:NAME` or `auto`.

    Args:
        reference: what to load.
        device: where to put it; None lets sentence-transformers choose.
        trust_remote_code: run code that comes with the model.

    Raises:
        ModelError: no such folder, nothing usable in it, the hub does not deliver, or the model needs its own code.
        MissingExtraError: `package:NAME` is not installed.
    """
    source = resolve_encoder(reference)
    folder = Path(source).expanduser()
    if folder.is_dir():
        _check_folder(folder, reference)
        source = str(folder)
    elif folder.exists() or _looks_like_a_path(source):
        raise ModelError(
            f"{reference}: no such model folder; give a folder, a hub id such as OWNER/NAME, or package:NAME"
        )
    # sentence-transformers asks for the flag for any class from outside its package. For this package's own classes
    # the answer is yes, as long as nothing in the folder brings code of its own.
    trusted = trust_remote_code or (folder.is_dir() and _names_only_own_code(folder))
    try:
        return SentenceTransformer(source, device=device, trust_remote_code=trusted)
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError) as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{reference}: needs code that comes with the model; set trust_remote_code if you trust its author"
            ) from error
        raise ModelError(f"{reference}: cannot be loaded as an encoder: {_one_line(error)}") from error


def _looks_like_a_path(source: str) -> bool:
    return source.startswith(("/", "./", "../", "~")) or source.count("/") > 1


def _check_folder(folder: Path, reference: str) -> None:
    if not (folder / "modules.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(f"{reference}: not a model folder: it holds neither modules.json nor config.json")


def _names_only_own_code(folder: Path) -> bool:
    """Whether a folder's modules are this package's or sentence-transformers', and its configs name no code."""
    types = [str(module.get("type", "")) for module in _read_json(folder / "modules.json", [])]
    foreign = [name for name in types if not name.startswith("sentence_transformers.") and name not in _OWN_MODULES]
    return bool(_OWN_MODULES.intersection(types)) and not foreign and not any(_auto_maps(folder))


def _auto_maps(folder: Path) -> Iterator[str]:
    for name in _CONFIG_FILES:
        for path in folder.rglob(name):
            if "auto_map" in _read_json(path, {}):
                yield str(path)


def _read_json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
