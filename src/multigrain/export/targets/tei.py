"""A folder that Hugging Face's text-embeddings-inference serves."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from sentence_transformers import SentenceTransformer

from multigrain.export.job import Exported, ExportJob
from multigrain.export.servers import DECODERS, Server, export_for, weights_dtype

_IMAGE: Final = "ghcr.io/huggingface/text-embeddings-inference"


def _command(job: ExportJob, model: SentenceTransformer) -> str:
    dtype = weights_dtype(model)
    # Its CPU image computes in float32 only, its CUDA image not in bfloat16.
    image, options = (f"{_IMAGE}:cpu-1.9", "") if dtype == "float32" else (f"{_IMAGE}:cuda-1.9", "--gpus all ")
    served = "float16" if dtype == "bfloat16" else dtype
    place = shlex.quote(f"{job.destination.absolute()}:/model")
    return f"docker run {options}-p 8080:80 -v {place} {image} --model-id /model --dtype {served} --auto-truncate"


_TEI: Final = Server(
    "text-embeddings-inference",
    frozenset({"BertModel", "CamembertModel", "DistilBertModel", "MPNetModel", "ModernBertModel", "NomicBertModel"})
    | frozenset({"RobertaModel", "XLMRobertaModel"})
    | DECODERS,
    frozenset({"Gemma3TextModel"}),
    _command,
)


def export(job: ExportJob, folder: Path) -> Exported:
    """Write a folder for Hugging Face's text-embeddings-inference.

    Raises:
        ExportError: the model needs something that it cannot compute.
    """
    return export_for(_TEI, job, folder)
