"""A folder that vLLM serves."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from sentence_transformers import SentenceTransformer

from multigrain.export.graph import token_limit
from multigrain.export.job import Exported, ExportJob
from multigrain.export.servers import DECODERS, Server, export_for, weights_dtype


def _command(job: ExportJob, model: SentenceTransformer) -> str:
    words = ["vllm", "serve", str(job.destination), "--runner", "pooling", "--dtype", weights_dtype(model)]
    limit = token_limit(model)
    words += [] if limit is None else ["--max-model-len", str(limit)]
    return shlex.join([*words, "--served-model-name", job.destination.name])


_VLLM: Final = Server(
    "vLLM",
    frozenset({"BertModel", "RobertaModel", "XLMRobertaModel", "ModernBertModel", "NomicBertModel"}) | DECODERS,
    DECODERS,
    _command,
)


def export(job: ExportJob, folder: Path) -> Exported:
    """Write a folder for vLLM.

    Raises:
        ExportError: the model needs something that vLLM cannot compute.
    """
    return export_for(_VLLM, job, folder)
