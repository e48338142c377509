"""Tiny random models with tokenizers of the kinds that real ones have: byte pairs, and pieces over bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModel, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from multigrain.export.llama_cpp.check import SCRIPTS
from multigrain.export.parity import PARITY_TEXTS

__all__ = ["byte_pairs", "sentence_pieces", "tiny_model"]

_SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
_CORPUS = [*PARITY_TEXTS, *SCRIPTS.values(), Path(__file__).read_text(encoding="utf-8")] * 3

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}


def _wrap(backend: Tokenizer, *, begins: bool, ends: bool) -> PreTrainedTokenizerFast:
    template = f"{'<s> ' if begins else ''}$A{' </s>' if ends else ''}"
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 2), ("</s>", 3)])
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    if begins and ends:
        names |= {"cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names, model_max_length=512)


def byte_pairs(splitter: str = "gpt-2", *, begins: bool = False, ends: bool = True) -> PreTrainedTokenizerFast:
    """Byte pairs merged on the texts of the checks, after one of the splitters that llama.cpp has."""
    backend = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    patterns = {"qwen2": PRETOKENIZE_REGEX, "llama-bpe": PRETOKENIZE_REGEX.replace(r"|\p{N}|", r"|\p{N}{1,3}|")}
    if splitter in patterns:
        split = pre_tokenizers.Split(Regex(patterns[splitter]), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, raw])
    elif splitter == "smollm":
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    else:
        backend.pre_tokenizer = whole
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=_SPECIAL, initial_alphabet=whole.alphabet(), show_progress=False
    )
    backend.train_from_iterator(_CORPUS, trainer)
    return _wrap(backend, begins=begins, ends=ends)


def sentence_pieces(*, prefix: bool = True) -> PreTrainedTokenizerFast:
    """Pieces as Llama 2 and Mistral have them, or without the leading space, as Gemma has them."""
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps: list[Any] = [normalizers.Prepend("▁")] if prefix else []
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=[*_SPECIAL, *bytes_], show_progress=False)
    backend.train_from_iterator(_CORPUS, trainer)
    # The trainer found bytes as words in texts; they are pieces like others.
    whole = Tokenizer(backend.model)
    whole.add_special_tokens(_SPECIAL)
    whole.normalizer = backend.normalizer
    return _wrap(whole, begins=True, ends=not prefix)


def tiny_model(
    folder: Path,
    config_class: type[PreTrainedConfig],
    tokenizer: PreTrainedTokenizerFast,
    pooling: str,
    **settings: Any,
) -> SentenceTransformer:
    """A random model of an architecture, normalised, that reads 128 tokens."""
    torch.manual_seed(3)
    config = config_class(**{**SHAPE, "vocab_size": len(tokenizer), **settings})
    model = AutoModel.from_config(config)
    for name, parameter in model.named_parameters():
        # Random models attend almost evenly, and norms of ones hide what is done with them.
        parameter.data.mul_(4.0 if parameter.ndim > 1 else 1.0)
        if "norm" in name.lower():
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder / "weights")
    tokenizer.save_pretrained(folder / "weights")
    modules = [Transformer(str(folder / "weights")), Pooling(config.hidden_size, pooling_mode=pooling), Normalize()]
    made = SentenceTransformer(modules=modules, device="cpu").eval()
    made.max_seq_length = 128
    return made
