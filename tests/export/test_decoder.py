"""A language model as a GGUF file: llama.cpp computes what the model computes, or nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.export.tiny import SHAPE, byte_pairs
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from multigrain.errors import ExportError, ModelError
from multigrain.export.llama_cpp.decoder import write_decoder
from multigrain.llm.local.gguf_file import GgufFile
from multigrain.writer.base import load_writer, save_writer

pytest.importorskip("xllamacpp")

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def made(kind: type = LlamaConfig, *, tied: bool = True, **settings: Any) -> tuple[Any, Any]:
    """A random model, with weights large enough to make some tokens likelier than others."""
    torch.manual_seed(3)
    tokenizer = byte_pairs("qwen2", ends=False)
    tokenizer.chat_template = TEMPLATE
    own = {"vocab_size": len(tokenizer), "num_key_value_heads": 2, "tie_word_embeddings": tied}
    config = kind(**{**SHAPE, **own, **settings})
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data.mul_(4.0 if parameter.ndim > 1 else 1.0)
    return model.eval(), tokenizer


@pytest.mark.parametrize(("kind", "tied"), [(LlamaConfig, True), (Qwen2Config, False)])
def test_llama_cpp_finds_texts_as_likely_as_the_model(tmp_path: Path, kind: type, tied: bool) -> None:
    model, tokenizer = made(kind, tied=tied)

    write_decoder(model, tokenizer, tmp_path / "tiny.gguf", "f32", name="tiny")

    header = GgufFile.find(str(tmp_path / "tiny.gguf")).header
    assert header is not None
    assert header.context_tokens == SHAPE["max_position_embeddings"]
    assert ("output.weight" in {tensor.name for tensor in header.tensors}) is not tied


def test_weights_that_are_not_the_models_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = made()
    other, _ = made()
    for parameter in other.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    from multigrain.export.llama_cpp import decoder

    plain = decoder.write_weights
    monkeypatch.setattr(decoder, "write_weights", lambda writer, _, *rest: plain(writer, other.base_model, *rest))

    with pytest.raises(ExportError, match="weights differ"):
        write_decoder(model, tokenizer, tmp_path / "tiny.gguf", "f32", name="tiny")


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    model, tokenizer = made()
    tokenizer.chat_template = None

    with pytest.raises(ExportError, match="no chat template"):
        write_decoder(model, tokenizer, tmp_path / "tiny.gguf", "f32", name="tiny")


def test_a_base_that_cannot_be_loaded_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="give the original weights"):
        load_writer(str(tmp_path / "nothing"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(ModelError, match="cannot dequantise this GGUF file"):
        load_writer(str(tmp_path / "broken.gguf"))


def test_a_saved_writer_is_the_same_model(tmp_path: Path) -> None:
    model, tokenizer = made()
    save_writer(model, tokenizer, tmp_path / "saved")

    again, words = load_writer(str(tmp_path / "saved"))

    ids = torch.tensor([words("The capital of France")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)
    assert words.chat_template == TEMPLATE
