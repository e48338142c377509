"""Padding is cut while a model is tuned on a CPU: less is computed, and the same comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from tests.model.conftest import WORDS, tiny_folder
from torch import Tensor, nn
from transformers import BertConfig, LlamaConfig, PreTrainedConfig

from multigrain.config.poolings import PoolingName
from multigrain.model.encoder import build_encoder
from multigrain.training.padding import padding_cut

__all__ = ["tiny_folder"]

KINDS: list[tuple[type[PreTrainedConfig], PoolingName, str]] = [
    (BertConfig, "keep", "right"),
    (BertConfig, "ata", "right"),
    (BertConfig, "keep", "left"),
    (LlamaConfig, "last", "right"),
    (LlamaConfig, "last", "left"),
    (LlamaConfig, "ata", "left"),
]


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0].__name__}-{kind[1]}-{kind[2]}")
def model(
    request: pytest.FixtureRequest,
    tiny_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> SentenceTransformer:
    monkeypatch.setattr("multigrain.training.padding.TOKENS", 150)  # two or three of the longest texts
    config_class, pooling, side = request.param
    folder = tiny_folder(config_class, padding_side=side)
    return build_encoder(str(folder), pooling=pooling, max_seq_length=64, device="cpu").eval()


def texts_of(lengths: list[int]) -> list[str]:
    """Texts of so many words."""
    return [
        " ".join(WORDS[(place + step) % len(WORDS)] for step in range(words)) for place, words in enumerate(lengths)
    ]


def learnt(model: SentenceTransformer, texts: list[str], *, cut: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Vectors, and the gradients of something that depends on each of them."""
    model.zero_grad()
    with padding_cut(model, enabled=cut):
        vectors: Tensor = model(model.preprocess(texts))["sentence_embedding"]
    weights = torch.linspace(-1, 1, vectors.numel()).reshape(vectors.shape)
    (weights * vectors).sum().backward()  # type: ignore[no-untyped-call]
    return vectors.detach(), {
        name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
    }


def rotates(model: SentenceTransformer) -> bool:
    """Whether a model tells positions by rotation alone, so that padding on the left moves nothing."""
    return "Llama" in type(model[0].model).__name__


def positions_computed(model: SentenceTransformer, run: Callable[[], object]) -> list[tuple[int, int]]:
    """The shapes of all batches that the transformer's model is called with."""
    shapes: list[tuple[int, int]] = []

    def note(_: nn.Module, tokens: tuple[Tensor]) -> None:
        rows, width = tokens[0].shape
        shapes.append((rows, width))

    transformer = model[0]
    assert isinstance(transformer, Transformer)
    handle = transformer.model.get_input_embeddings().register_forward_pre_hook(note)
    try:
        run()
    finally:
        handle.remove()
    return shapes


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(0, 70), min_size=1, max_size=24))
def test_vectors_and_gradients_are_those_of_the_whole_batch(model: SentenceTransformer, lengths: list[int]) -> None:
    texts = texts_of(lengths)
    whole, expected = learnt(model, texts, cut=False)
    parts, found = learnt(model, texts, cut=True)
    torch.testing.assert_close(parts, whole, atol=2e-5, rtol=1e-4)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-4, name


def test_less_is_computed_and_every_text_once(model: SentenceTransformer) -> None:
    texts = texts_of([60, 3, 58, 5, 50, 9, *[4] * 20])
    (whole,) = positions_computed(model, lambda: learnt(model, texts, cut=False))
    parts = positions_computed(model, lambda: learnt(model, texts, cut=True))
    if model.tokenizer.padding_side == "left" and not rotates(model):
        assert parts == [whole]
        return
    assert len(parts) > 1
    assert sum(rows for rows, _ in parts) == whole[0] == len(texts)
    assert sum(rows * width for rows, width in parts) < 0.5 * whole[0] * whole[1]


def test_texts_of_about_one_length_are_computed_together(model: SentenceTransformer) -> None:
    texts = texts_of([60, 58, 59, 60, 57])
    together = positions_computed(model, lambda: learnt(model, texts, cut=True))
    assert together == positions_computed(model, lambda: learnt(model, texts, cut=False))
    assert len(together) == 1


def test_a_copy_made_meanwhile_computes_with_its_own_weights(model: SentenceTransformer) -> None:
    texts = texts_of([50, 20, 9])
    with padding_cut(model, enabled=True), torch.no_grad():
        twin = copy.deepcopy(model)
        for weight in twin.parameters():
            weight.zero_()
        own: Tensor = model(model.preprocess(texts))["sentence_embedding"]
        zeros: Tensor = twin(twin.preprocess(texts))["sentence_embedding"]
    assert own.abs().sum() > 0
    assert zeros.abs().sum() == 0


def test_afterwards_and_on_a_gpu_nothing_is_changed(model: SentenceTransformer) -> None:
    transformer = model[0]
    assert isinstance(transformer, Transformer)
    with padding_cut(model, enabled=False):
        assert "forward" not in vars(transformer)
    with pytest.raises(RuntimeError), padding_cut(model, enabled=True):
        raise RuntimeError
    assert "forward" not in vars(transformer)
