"""What sentence-transformers' own backends (`backend="onnx"`, `backend="openvino"`) read beside a graph.

They run the graph by optimum, take the states of tokens from its output `last_hidden_state`, and compute pooling and
what follows by themselves. So the folder says how, in the form that the versions read which optimum-onnx 0.1.0 and
optimum-intel 2.2.0 can be installed with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sentence_transformers import SentenceTransformer

from multigrain.errors import ExportError
from multigrain.export.graph import EmbeddingGraph
from multigrain.export.job import ExportJob
from multigrain.export.older_form import check_older_form, require_older_form, write_older_form
from multigrain.model.adapters import has_adapters

Backend = Literal["onnx", "openvino"]

# What transformers 5 calls a tokenizer of no class of its own, and what its version 4 does.
_TOKENIZER_CLASSES = {"TokenizersBackend": "PreTrainedTokenizerFast"}


@dataclass(frozen=True, slots=True)
class BackendForm:
    """Whether sentence-transformers opens an exported folder by a backend of its own.

    Attributes:
        backend: its name there.
        refusal: why not, None where it does.
        loader: the class there.
    """

    backend: Backend
    refusal: str | None
    loader: str = "SentenceTransformer"

    @property
    def opens(self) -> bool:
        """Whether it does."""
        return self.refusal is None

    @property
    def facts(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return {"sentence_transformers_backend": self.backend if self.opens else None}

    @property
    def line(self) -> str:
        """The same for people."""
        call = f'{self.loader}(folder, backend="{self.backend}")'
        return f"{call} opens it too" if self.opens else f"{call} does not open it: {self.refusal}"


def backend_form(job: ExportJob, backend: Backend) -> BackendForm:
    """Find out whether a job's model can be computed by a backend of sentence-transformers."""
    return BackendForm(backend, _refusal(job.model))


def _refusal(model: SentenceTransformer) -> str | None:
    try:
        require_older_form(model)
    except ExportError as error:
        return f"it computes the pooling itself; {error}"
    if EmbeddingGraph(model).takes_prompt_length:
        return "it does not tell the graph how many tokens the prompt has, which this model leaves out"
    if has_adapters(model):
        return "it opens no LoRA adapters; merge them into the weights first"
    return None


def write_backend_form(model: SentenceTransformer, folder: Path) -> None:
    """Write modules, their settings and a tokenizer; the transformer's weights are the graph's.

    Args:
        model: one that `backend_form` does not refuse.
        folder: where the graph will lie.

    Raises:
        ExportError: sentence-transformers opens the folder and gets other vectors.
    """
    write_older_form(model, folder)
    name_older_tokenizer(folder)
    check_older_form(model, folder)
    remove_weights(folder)


def name_older_tokenizer(folder: Path) -> None:
    """Call a tokenizer what transformers 4 calls it."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    name = settings.get("tokenizer_class")
    settings["tokenizer_class"] = _TOKENIZER_CLASSES.get(name, name)
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")


def remove_weights(folder: Path) -> None:
    """Remove weights, and a card of a model that torch opens."""
    for weights in folder.glob("model*.safetensors*"):
        weights.unlink()
    (folder / "README.md").unlink(missing_ok=True)
