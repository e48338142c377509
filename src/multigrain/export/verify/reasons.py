"""What a server can do to a model's vectors, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

ReasonKind: TypeAlias = Literal[
    "another-model",
    "dimensions",
    "layers",
    "pooling",
    "attention",
    "special-tokens",
    "prompt",
    "truncation",
    "tokenisation",
    "precision",
    "normalisation",
    "order",
    "batch",
]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a server's vectors are not the folder's.

    Attributes:
        kind: one of the kinds.
        finding: what the server does, in a few words.
    """

    kind: ReasonKind
    finding: str

    @property
    def advice(self) -> str:
        """What to do about it."""
        return _ADVICE[self.kind]

    def __str__(self) -> str:
        return f"{self.kind}: {self.finding}"


_ADVICE: Final[Mapping[ReasonKind, str]] = {
    "another-model": "see which file or folder the server loaded, and whether it is that of the last tuning",
    "dimensions": "ask for all dimensions (leave `dimensions` out of requests), or cut the folder's vectors alike",
    "layers": "serve a form that has the layers in it: `multigrain export --to onnx`, `--to openvino`, `--to folder`",
    "pooling": "start the server with the folder's pooling (llama.cpp and text-embeddings-inference: --pooling; vLLM: "
    "--pooler-config), or export another form (`--to onnx`, `--distil`)",
    "attention": "the server must attend as the model was trained: export it again, for a newer version of the server",
    "special-tokens": "the server must add the folder's special tokens: export it again, and serve its own tokenizer",
    "prompt": "put each role's prompt before its texts in one place alone: in the client or in the server (--prompts)",
    "truncation": "give the server the folder's length (vLLM: --max-model-len; llama.cpp: -c and -ub; "
    "text-embeddings-inference: max_seq_length in sentence_bert_config.json), or cut texts before you send them",
    "tokenisation": "the server takes these texts apart in another way: export the model in another form",
    "precision": "accept it with a larger --tolerance if it loses little nDCG@10, or serve the model in float32",
    "normalisation": "let the server normalise, or divide each vector by its length before you store it",
    "order": "send one text a request until the server is fixed: vectors are assigned to the wrong texts",
    "batch": "send one text a request until the server is fixed: padding changes vectors",
}
