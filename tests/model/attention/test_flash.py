"""FlashAttention-2 needs a GPU: here a stand-in for its kernel checks all that is around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.model.test_architectures import ARCHITECTURES, batch, eager_maps
from torch import Tensor

from multigrain.errors import ModelError
from multigrain.model.attention import flash
from multigrain.model.attention.flash import FLASH_IMPLEMENTATION, FLASH_NAME
from multigrain.model.attention.received import Reduction, Scores, attention_received, by_batch
from multigrain.model.encoder import build_encoder
from multigrain.model.transformer import RECEIVED_FEATURE, ReceivingTransformer

from .test_received import reduce_maps


class Kernel:
    """What FlashAttention computes, by the plain formula; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        padding: Tensor | None,
        *,
        query_length: int,
        is_causal: bool,
        softmax_scale: float | None,
        sliding_window: int | None,
        attn_implementation: str,
        **rest: Any,
    ) -> Tensor:
        self.calls += 1
        assert attn_implementation == FLASH_IMPLEMENTATION
        assert padding is None or padding.shape == (query.shape[0], query_length)
        groups = query.shape[2] // key.shape[2]
        key, value = (states.repeat_interleave(groups, 2).transpose(1, 2) for states in (key, value))
        scale = query.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
        logits = query.transpose(1, 2) @ key.transpose(2, 3) * scale
        for row in range(query_length):
            for column in range(query_length):
                far = sliding_window is not None and abs(row - column) > sliding_window - 1
                if far or (is_causal and column > row):
                    logits[:, :, row, column] = -1e30
        if padding is not None:
            logits = logits.masked_fill(~padding[:, None, None].bool(), -1e30)
        return (logits.softmax(-1) @ value).transpose(1, 2)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    stand_in = Kernel()
    monkeypatch.setattr(flash, "_flash_attention_forward", stand_in)
    return stand_in


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize(
    ("name", "bidirectional"),
    [
        ("bert", False),
        ("modernbert-local", False),
        ("modernbert-global", False),
        ("llama", False),
        ("llama", True),
        ("mistral", False),
        ("qwen3", True),
    ],
)
def test_equals_eager(
    name: str, bidirectional: bool, padding_side: str, kernel: Kernel, tiny_folder: Callable[..., Path]
) -> None:
    architecture = ARCHITECTURES[name]
    settings = {**architecture.settings, **((architecture.bidirectional or {}) if bidirectional else {})}
    folder = str(tiny_folder(getattr(transformers, architecture.config), padding_side=padding_side, **settings))
    model = build_encoder(folder, pooling="mean", device="cpu").eval()
    # What `model_kwargs={"attn_implementation": "flash_attention_2"}` leaves behind where the kernel is installed.
    model[0].model.config._attn_implementation = FLASH_IMPLEMENTATION
    reading = ReceivingTransformer.adopt(model[0], Reduction())
    assert reading.model.config._attn_implementation == FLASH_NAME
    assert kernel.calls == 0  # a model may still be on the CPU, or in float32, when it is made ready
    layers = reading.model.config.num_hidden_layers
    for lengths in ([13, 2, 7], [11], [9, 9]):
        features = batch(lengths, padding_side, reading.model.config.pad_token_id)
        before = kernel.calls
        with torch.no_grad():
            received = reading(dict(features))[RECEIVED_FEATURE]
        assert kernel.calls == before + layers
        expected = reduce_maps(eager_maps(folder, features), features["attention_mask"].bool(), Reduction())
        torch.testing.assert_close(received, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 3, 50])
@pytest.mark.parametrize("padded", [False, True])
def test_what_is_seen_reduces_alike_on_both_paths(causal: bool, window: int | None, padded: bool) -> None:
    # A GPU reduces all texts at once, where padding has to be in the mask.

    torch.manual_seed(0)
    query, key = torch.randn(2, 4, 9, 8), torch.randn(2, 2, 9, 8)
    valid = torch.tensor([[True] * 9, [True] * 5 + [False] * 4]) if padded else None
    mask = flash.visible(valid, 9, causal, window, query.device)
    assert (mask is None) == (not padded and window != 3)
    scores = Scores(query, key, 8**-0.5, mask=mask, causal=mask is None and causal)
    expected = attention_received(scores, valid, Reduction())
    torch.testing.assert_close(by_batch(_square(scores), valid, Reduction()), expected, atol=1e-5, rtol=1e-5)


def _square(scores: Scores) -> Scores:

    return scores if scores.mask is None else replace(scores, mask=scores.mask.expand(-1, -1, 9, 9))


def test_bent_scores_are_refused(kernel: Kernel) -> None:
    states = torch.randn(1, 2, 3, 4)
    with pytest.raises(ModelError, match="soft cap"):
        flash._observed_flash(torch.nn.Module(), states, states, states, None, softcap=30.0)
    assert kernel.calls == 0


def test_capped_scores_are_refused_when_a_model_is_made_ready(tiny_folder: Callable[..., Path]) -> None:
    model = build_encoder(str(tiny_folder(transformers.LlamaConfig)), pooling="mean", device="cpu")
    model[0].model.config._attn_implementation = FLASH_IMPLEMENTATION
    model[0].model.config.attn_logit_softcapping = 50.0
    with pytest.raises(ModelError, match="caps its scores"):
        ReceivingTransformer.adopt(model[0], Reduction())


def test_going_back_gives_flash_attention_again(kernel: Kernel, tiny_folder: Callable[..., Path]) -> None:
    model = build_encoder(str(tiny_folder(transformers.BertConfig)), pooling="mean", device="cpu")
    model[0].model.config._attn_implementation = FLASH_IMPLEMENTATION
    reading = ReceivingTransformer.adopt(model[0], Reduction())
    implementations: list[str] = []
    reading.model.set_attn_implementation = implementations.append
    reading.release()
    assert implementations == [FLASH_IMPLEMENTATION]
