"""The older form of a sentence-transformers folder, which its versions 2 to 6 read, and servers too.

sentence-transformers itself no longer writes it: pooling as `pooling_mode_*` flags, module types under
`sentence_transformers.models`, the length limit in `sentence_bert_config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling

from multigrain.errors import ExportError
from multigrain.export.graph import require_text_encoder, token_limit
from multigrain.export.parity import QueryDocumentEncoder, check_parity
from multigrain.model.replacing import pooling_name

POOLING_FLAGS: Final = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
}
"""The poolings that the form can say, each with its flag."""

_DENSE_KEYS: Final = ("in_features", "out_features", "bias", "activation_function")
_FOLDER_TOLERANCE: Final = 1e-5
# Readers insist on a limit.
_NO_LIMIT: Final = 512


def require_older_form(model: SentenceTransformer) -> None:
    """Refuse a model that the form cannot describe.

    Raises:
        ExportError: it pools otherwise, or has modules after the pooling that the form does not know.
    """
    pooling = pooling_name(model)
    if pooling not in POOLING_FLAGS:
        raise ExportError(f"it has {pooling} pooling, and only {', '.join(POOLING_FLAGS)} can be written")
    for module in list(model.children())[2:]:
        plain = isinstance(module, Dense) and not module.use_residual
        named = plain and module.module_input_name == module.module_output_name == "sentence_embedding"
        if not isinstance(module, Normalize) and not named:
            raise ExportError(f"{type(module).__name__} after the pooling cannot be written")


def write_older_form(model: SentenceTransformer, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
    """Write a model, its weights too.

    Args:
        model: pooled by mean, cls or last.
        folder: where to.
        settings: more keys of config.json.

    Raises:
        ExportError: as `require_older_form`.
    """
    require_older_form(model)
    model.save_pretrained(str(folder), create_model_card=True)
    modules = []
    for number, module in enumerate(model.children()):
        name = type(module).__name__ if number else "Transformer"
        path = f"{number}_{name}" if number else ""
        kind = f"sentence_transformers.models.{name}"
        modules.append({"idx": number, "name": str(number), "path": path, "type": kind})
        if isinstance(module, Dense):
            written = json.loads((folder / path / "config.json").read_text(encoding="utf-8"))
            _write_json(folder / path / "config.json", {key: written[key] for key in _DENSE_KEYS})
    _write_json(folder / "modules.json", modules)
    pooling = cast("Pooling", model[1])
    flags = {flag: name == pooling_name(model) for name, flag in POOLING_FLAGS.items()}
    width = int(pooling.get_embedding_dimension() or 0)
    _write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": width, **flags, "include_prompt": True},
    )
    config = require_text_encoder(model).model.config
    limit = token_limit(model) or getattr(config, "max_position_embeddings", None) or _NO_LIMIT
    # Lower-casing is the tokenizer's own in tokenizer.json.
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": int(limit), "do_lower_case": False})
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _write_json(folder / "config.json", written | dict(settings or {}))


def check_older_form(model: SentenceTransformer, folder: Path) -> float:
    """Open a written folder again.

    Returns:
        The largest difference between the model's vectors and those of the folder.

    Raises:
        ExportError: the folder gives other vectors.
    """
    again = SentenceTransformer(str(folder), device=str(model.device))
    again.to(next(model.parameters()).dtype)
    return check_parity(model, cast("QueryDocumentEncoder", again), what="the folder", tolerance=_FOLDER_TOLERANCE)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
