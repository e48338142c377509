"""A causal language model as a GGUF file that llama.cpp writes texts with, by the package `gguf`."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch

from multigrain.display.install import install_line
from multigrain.errors import ExportError, MissingExtraError
from multigrain.export.llama_cpp.architectures import architecture_of, write_common
from multigrain.export.llama_cpp.file import TYPES, quantised, write_name, write_weights
from multigrain.export.llama_cpp.gelu import terms_of
from multigrain.export.llama_cpp.vocabulary import write_vocabulary
from multigrain.export.parity import PARITY_TEXTS
from multigrain.llm.local.gguf_file import GgufFile
from multigrain.llm.local.llama_cpp import LlamaCppLLM
from multigrain.llm.protocol import CompletionRequest, Message

_PROMPTS: Final = (*PARITY_TEXTS[:4], PARITY_TEXTS[7])
_CONTEXT: Final = 512
_TOKENS: Final = 5
_TOLERANCE: Final = {"f32": 0.05, "f16": 0.05, "bf16": 0.2, "q8_0": 0.3}
_COARSE: Final = 2.0
"""Nats by which the likeliest first tokens of an answer may differ between llama.cpp and the model."""


def write_decoder(model: Any, tokenizer: Any, path: Path, dtype: str, *, name: str) -> None:
    """Write a model with its chat template, and see that llama.cpp computes what it computes.

    Args:
        model: a causal language model of transformers, on the CPU.
        tokenizer: its fast tokenizer, with a chat template.
        path: the file.
        dtype: one of `TYPES`.
        name: what the file says it is.

    Raises:
        ExportError: llama.cpp has no such architecture or tokenizer, there is no chat template, or what llama.cpp
            computes differs.
        MissingExtraError: `gguf` or `xllamacpp` is not installed.
    """
    for package in ("gguf", "xllamacpp"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "writing a language model as GGUF", install_line("writer"))
    if dtype not in TYPES:
        raise ExportError(f"GGUF: {dtype!r} is no type of weights; give {', '.join(TYPES)}")
    if not tokenizer.chat_template:
        raise ExportError(f"GGUF: {name} has no chat template, so nothing could be asked of it: use an instruct model")
    import gguf

    body = model.base_model
    architecture = architecture_of(body)
    terms = terms_of(body.config, architecture, dtype)
    writer = gguf.GGUFWriter(path, architecture.name)
    try:
        write_name(writer, name, dtype)
        positions = body.config.max_position_embeddings
        write_common(writer, body.config, positions - 1, len(terms))  # which adds a position for decoders
        architecture.write(writer, body)
        write_vocabulary(writer, tokenizer, body.get_input_embeddings().weight.shape[0])
        writer.add_chat_template(tokenizer.chat_template)
        write_weights(writer, body, architecture, dtype, positions, terms)
        if not model.config.tie_word_embeddings:
            head = model.get_output_embeddings().weight.detach().to("cpu", torch.float32)
            data, kind = quantised(head.contiguous().numpy(), dtype)
            writer.add_tensor("output.weight", data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    _check(model, tokenizer, path, dtype)


def _check(model: Any, tokenizer: Any, path: Path, dtype: str) -> None:
    """Compare what answers begin with, and how likely: chat template, tokens and weights, all at once."""
    llm = LlamaCppLLM(GgufFile.find(str(path)), concurrency=1, threads=1, context_tokens=_CONTEXT)

    async def found() -> list[list[float]]:
        try:
            return [await llm.first_token(CompletionRequest((Message("user", text),)), _TOKENS) for text in _PROMPTS]
        finally:
            await llm.aclose()

    limit = _TOLERANCE.get(dtype, _COARSE)
    compared = [(text, theirs) for text, theirs in zip(_PROMPTS, asyncio.run(found()), strict=True) if theirs]
    if not compared:
        raise ExportError(f"GGUF ({dtype}): llama.cpp answers nothing that could be compared with the model")
    for text, theirs in compared:
        own = _first_token(model, tokenizer, text)
        difference = max(abs(one - other) for one, other in zip(own, theirs, strict=True))
        if not difference <= limit:
            raise ExportError(
                f"GGUF ({dtype}): asked {text[:40]!r}, llama.cpp finds a first token {difference:.2f} nats likelier "
                f"or less likely than the model, more than {limit:g}: chat template, tokenizer or weights differ"
            )


def _first_token(model: Any, tokenizer: Any, text: str) -> list[float]:
    """As `LlamaCppLLM.first_token`."""
    chat = [{"role": "user", "content": text}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, -1].float()
    return [float(value) for value in logits.log_softmax(-1).topk(_TOKENS).values]
