"""Models that score pairs, told from those that embed, by their configs alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from transformers import AutoConfig

from multigrain.errors import ModelError

_SCORING_HEAD: Final = "ForSequenceClassification"
_KIND: Final = "CrossEncoder"  # as sentence-transformers names it in its own config
_TWO_LABELS: Final = (0, 1)  # what a config means that lists none


def is_cross_encoder(reference: str) -> bool:
    """Whether a model was saved with a head that scores pairs, however many scores it gives.

    Args:
        reference: a folder or a hub id; of a hub id, what lies in the cache or can be fetched.
    """
    return _has_scoring_head(_config(reference))


def is_reranker(reference: str) -> bool:
    """Whether a model was saved with a head that gives one score a pair, or by sentence-transformers as a reranker.

    Args:
        reference: as of `is_cross_encoder`.
    """
    kept = _read_json(Path(reference).expanduser() / "config_sentence_transformers.json")
    config = _config(reference)
    return kept.get("model_type") == _KIND or (
        _has_scoring_head(config) and len(config.get("id2label") or _TWO_LABELS) == 1
    )


def require_embedder(reference: str) -> None:
    """See that a model is no reranker, of which sentence-transformers would take the transformer alone.

    Args:
        reference: as of `is_cross_encoder`.

    Raises:
        ModelError: it is one.
    """
    if is_reranker(reference):
        raise ModelError(
            f"{reference}: is a reranker, which scores pairs and embeds nothing; `multigrain evaluate` takes it with "
            "--rerank, and base_model of a candidate with kind: reranker tunes it further"
        )


def _has_scoring_head(config: dict[str, Any]) -> bool:
    return any(str(name).endswith(_SCORING_HEAD) for name in config.get("architectures") or ())


def _config(reference: str) -> dict[str, Any]:
    """The config of a model's transformer; nothing where it cannot be read, of which loading it says why."""
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return _read_json(folder / "config.json")
    if ":" in reference or reference.count("/") != 1:
        return {}
    try:
        values: dict[str, Any] = AutoConfig.from_pretrained(reference).to_dict()
    except (OSError, ValueError):
        return {}
    return values


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
