"""A folder for fastembed's custom models, and for Qdrant, LanceDB and others that embed with it."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from multigrain.display.install import install_line
from multigrain.errors import ExportError, MissingExtraError
from multigrain.export.graph import EmbeddingGraph, token_limit
from multigrain.export.job import Exported, ExportJob
from multigrain.export.parity import check_parity
from multigrain.export.targets.onnx import ONNX_FILE, note_facts, write_onnx_folder

READER_FILE: Final = "fastembed_model.py"


def export(job: ExportJob, folder: Path) -> Exported:
    """Write model.onnx, tokenizer.json, tokenizer_config.json, export.json and fastembed_model.py, read by fastembed.

    Raises:
        ExportError: as for ONNX; or the model leaves prompts out of its vectors, or has no limit of tokens.
        MissingExtraError: fastembed, or the extra `onnx`, is not installed.
    """
    if find_spec("fastembed") is None:
        raise MissingExtraError("fastembed", "exporting to fastembed", install_line("fastembed"))
    if token_limit(job.model) is None:
        raise ExportError("fastembed insists on a limit of tokens, and the model has none: set max_seq_length")
    if EmbeddingGraph(job.model).takes_prompt_length:
        raise ExportError("fastembed cannot say how long the prompt is, which this model leaves out; --to onnx can")
    model, _ = write_onnx_folder(job, folder)
    settings = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    tokenizer: Any = model.tokenizer
    config = {
        "model_max_length": settings["max_tokens"],
        "pad_token": tokenizer.pad_token,
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    (folder / "embedder.py").unlink()  # fastembed_model.py instead
    from multigrain.export import fastembed_reader

    shutil.copyfile(fastembed_reader.__file__, folder / READER_FILE)
    reader = FastembedReader(fastembed_reader.load(folder))
    difference = check_parity(model, reader, what=f"{job.source} in fastembed")
    facts: dict[str, Any] = {"max_difference": difference, "files": [ONNX_FILE, READER_FILE]}
    note_facts(folder, facts)
    return Exported(
        facts=facts,
        lines=(
            f"fastembed gives the model's vectors within {difference:.1e}",
            f"open it with load() of {READER_FILE}: query_embed and passage_embed put prompts before texts",
        ),
    )


class FastembedReader:
    """fastembed's model behind `encode_query` and `encode_document`.

    Args:
        model: what `load` of fastembed_reader returned.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def encode_query(self, texts: list[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed queries."""
        return np.array(list(self._model.query_embed(texts, batch_size=batch_size)), dtype=np.float32)

    def encode_document(self, texts: list[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed documents."""
        return np.array(list(self._model.passage_embed(texts, batch_size=batch_size)), dtype=np.float32)
