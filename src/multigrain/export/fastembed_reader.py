"""Embed texts with an exported model through fastembed, prompts included: needs fastembed, and nothing else.

    from fastembed_model import load

    model = load(".")
    queries = list(model.query_embed(["how do I rotate the logs?"]))
    passages = list(model.passage_embed(["Rotate logs with logrotate."]))

`model.onnx` holds the encoder, its pooling and what follows, so fastembed pools and normalises nothing. It reads how
long a text may be from `model_max_length` in `tokenizer_config.json`, and no prompts: `export.json` has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType


class PromptedEmbedding(TextEmbedding):
    """A custom model of fastembed that puts the model's own prompts before queries and passages."""

    query_prompt = ""
    document_prompt = ""

    def query_embed(self, query: str | Iterable[str], **kwargs: Any) -> Iterable[Any]:
        """Embed queries, with the model's query prompt."""
        return self.embed(_prompted(self.query_prompt, query), **kwargs)

    def passage_embed(self, texts: str | Iterable[str], **kwargs: Any) -> Iterable[Any]:
        """Embed passages, with the model's document prompt."""
        return self.embed(_prompted(self.document_prompt, texts), **kwargs)


def load(folder: str | Path, name: str | None = None, **options: Any) -> PromptedEmbedding:
    """Open an exported folder.

    Args:
        folder: where the export lies.
        name: what fastembed calls it; the folder's path where it is None.
        options: of fastembed's TextEmbedding, e.g. threads or providers.
    """
    folder = Path(folder).resolve()
    settings = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    name = name or str(folder)
    known = {model["model"].lower() for model in TextEmbedding.list_supported_models()}
    if name.lower() not in known:
        TextEmbedding.add_custom_model(
            model=name,
            pooling=PoolingType.DISABLED,
            normalization=False,
            sources=ModelSource(hf=name),
            dim=settings["dimension"],
            model_file="model.onnx",
        )
    model = PromptedEmbedding(name, specific_model_path=str(folder), **options)
    model.query_prompt, model.document_prompt = settings["query_prompt"], settings["document_prompt"]
    return model


def _prompted(prompt: str, texts: str | Iterable[str]) -> list[str]:
    return [prompt + text for text in ([texts] if isinstance(texts, str) else texts)]
