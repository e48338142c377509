"""Attention received equals what eager attention's maps give, text by text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from sentence_transformers import SentenceTransformer
from tests.model.conftest import TEXTS
from torch import Tensor
from transformers import AutoModel, BertConfig, LlamaConfig

from multigrain.errors import ModelError
from multigrain.model.attention.received import (
    ReduceName,
    Reduction,
    Scores,
    attended_and_received,
    attention_received,
    by_batch,
    by_text,
)
from multigrain.model.encoder import build_encoder
from multigrain.model.pooling import AtaOptions
from multigrain.model.transformer import RECEIVED_FEATURE, ReceivingTransformer, observed

ALL_REDUCTIONS = [(reduce, heads) for reduce in get_args(ReduceName) for heads in ("mean", "max")]


def eager_maps(folder: str, features: dict[str, Any]) -> Tensor:
    """The last layer's attention maps, (batch, heads, tokens, tokens), from eager attention."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    inputs = {key: features[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in features}
    return model(**inputs, output_attentions=True).attentions[-1]


def reduce_maps(maps: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """The definition, written out text by text and key by key."""
    texts = []
    for attention, own in zip(maps, valid, strict=True):
        shared = attention.mean(0) if reduction.heads == "mean" else attention.amax(0)
        visible = (attention.sum(0) > 0) & own[:, None]
        shares = torch.log(1 + own.sum() * shared) if reduction.reduce == "log" else shared
        keys = []
        for key in range(len(own)):
            weight = shares[own, key].sum() if own[key] else shares.new_zeros(())
            if reduction.reduce == "diagonal" and own[key]:
                weight = shared[key, key]
            keys.append(weight / visible[:, key].sum().clamp(min=1) if reduction.reduce == "mean" else weight)
        texts.append(torch.stack(keys))
    return torch.stack(texts)


@pytest.fixture(params=["bert", "llama"])
def architecture(request: pytest.FixtureRequest) -> tuple[type, dict[str, Any]]:
    return {"bert": (BertConfig, {}), "llama": (LlamaConfig, {"num_key_value_heads": 2})}[request.param]


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_equals_eager_column_sums(
    architecture: tuple[type, dict[str, Any]], padding_side: str, tiny_folder: Callable[..., Path]
) -> None:
    config, settings = architecture
    folder = str(tiny_folder(config, padding_side=padding_side, **settings))
    model = SentenceTransformer(folder, device="cpu").eval()
    features = model.preprocess(TEXTS)
    valid = features["attention_mask"].bool()
    assert not valid[1].all()
    assert bool(valid[1, 0]) == (padding_side == "right")
    maps = eager_maps(folder, features)
    for reduce, heads in ALL_REDUCTIONS:
        reduction = Reduction(reduce=reduce, heads=heads)
        with observed(model[0], reduction) as receiving:
            received = receiving(dict(features))[RECEIVED_FEATURE]
        torch.testing.assert_close(received, reduce_maps(maps, valid, reduction), atol=1e-4, rtol=1e-4)


def test_token_states_are_those_of_sdpa(tiny_folder: Callable[..., Path]) -> None:
    model = SentenceTransformer(str(tiny_folder(BertConfig)), device="cpu").eval()
    features = model.preprocess(TEXTS)
    plain = model[0](dict(features))["token_embeddings"]
    with observed(model[0], Reduction()) as receiving:
        states = receiving(dict(features))["token_embeddings"]
    assert torch.equal(plain, states)


def test_minilm_equals_eager(minilm_ata: SentenceTransformer) -> None:
    features = minilm_ata.preprocess(
        ["What is a vector database?", "An embedding model maps texts to vectors; near ones mean alike. " * 5]
    )
    transformer = minilm_ata[0]
    assert isinstance(transformer, ReceivingTransformer)
    received = transformer(dict(features))[RECEIVED_FEATURE]
    maps = eager_maps(transformer.model.config.name_or_path, features)
    expected = reduce_maps(maps, features["attention_mask"].bool(), transformer.reduction)
    torch.testing.assert_close(received, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("reduce", "heads"), ALL_REDUCTIONS)
def test_gradients_through_the_weights_equal_eager_autograd(
    reduce: str, heads: str, architecture: tuple[type, dict[str, Any]], tiny_folder: Callable[..., Path]
) -> None:
    config, settings = architecture
    folder = str(tiny_folder(config, padding_side="left", **settings))
    options = AtaOptions(reduce=reduce, heads=heads, grad="through")
    model = build_encoder(folder, pooling="ata", ata=options, device="cpu").eval()
    features = model.preprocess(TEXTS)
    received = model[1].token_weights(model[0](dict(features)))
    torch.manual_seed(0)
    probe = torch.randn_like(received)
    (received * probe).sum().backward()
    projections = [
        name for name, _ in model[0].model.named_parameters() if name.endswith(("key.weight", "k_proj.weight"))
    ]

    eager = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    maps = eager(
        input_ids=features["input_ids"], attention_mask=features["attention_mask"], output_attentions=True
    ).attentions[-1]
    expected = reduce_maps(maps, features["attention_mask"].bool(), options.reduction)
    ((expected / expected.sum(1, keepdim=True)) * probe).sum().backward()
    for name in projections:
        gradient = model[0].model.get_parameter(name).grad
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, eager.get_parameter(name).grad, atol=1e-4, rtol=1e-3)


def test_detached_weights_carry_no_gradient(tiny_folder: Callable[..., Path]) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="ata", device="cpu").train()
    features = model[0](model.preprocess(TEXTS))
    assert features["token_embeddings"].requires_grad
    assert not features[RECEIVED_FEATURE].requires_grad


def test_one_text_at_a_time_equals_the_whole_batch() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(3, 4, 11, 8), torch.randn(3, 2, 11, 8)
    bias = torch.randn(1, 4, 11, 11)
    valid = torch.ones(3, 11, dtype=torch.bool)
    valid[1, 6:] = False
    valid[2, :3] = False
    causal = torch.ones(11, 11, dtype=torch.bool).tril()
    visible = valid[:, None, None, :] & causal
    additive = torch.zeros(3, 1, 11, 11).masked_fill(~visible, torch.finfo(torch.float32).min)
    infinite = torch.zeros(3, 1, 11, 11).masked_fill(~visible, -torch.inf)
    for mask in (visible, additive, infinite):
        scores = Scores(query, key, 8**-0.5, mask=mask, bias=bias)
        for reduce, heads in ALL_REDUCTIONS:
            reduction = Reduction(reduce=reduce, heads=heads)
            one, whole = by_text(scores, valid, reduction), by_batch(scores, valid, reduction)
            torch.testing.assert_close(one, whole)
            assert one[~valid].abs().max() == 0
            assert whole[~valid].abs().max() == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_gives_what_the_cpu_gives(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, 8, 129, 32, dtype=dtype)
    key = torch.randn(3, 2, 129, 32, dtype=dtype)
    valid = torch.ones(3, 129, dtype=torch.bool)
    valid[1, 40:] = False
    valid[2, :13] = False
    mask = valid[:, None, None, :].expand(-1, 1, 129, -1)
    for reduce, heads in ALL_REDUCTIONS:
        reduction = Reduction(reduce=reduce, heads=heads)
        expected = attention_received(Scores(query, key, 32**-0.5, mask=mask), valid, reduction)
        scores = Scores(query.cuda(), key.cuda(), 32**-0.5, mask=mask.cuda())
        received = attention_received(scores, valid.cuda(), reduction)
        torch.testing.assert_close(received.cpu(), expected, atol=1e-4, rtol=1e-4)


def test_a_mask_over_keys_alone_is_spread_over_queries() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 4, 11, 8), torch.randn(2, 2, 11, 8)
    valid = torch.ones(2, 11, dtype=torch.bool)
    valid[0, :3] = False
    keys = valid[:, None, None, :]
    for reduce, heads in ALL_REDUCTIONS:
        reduction = Reduction(reduce=reduce, heads=heads)
        spread = attention_received(Scores(query, key, 1.0, mask=keys), valid, reduction)
        whole = attention_received(Scores(query, key, 1.0, mask=keys.expand(-1, -1, 11, -1)), valid, reduction)
        assert torch.equal(spread, whole)
        assert (spread[valid] > 0).all()


def test_blocks_do_not_change_the_result() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 4, 37, 8, dtype=torch.float64), torch.randn(2, 2, 37, 8, dtype=torch.float64)
    valid = torch.ones(2, 37, dtype=torch.bool)
    valid[1, 20:] = False
    for reduce, heads in ALL_REDUCTIONS:
        for causal in (False, True):
            reduction = Reduction(reduce=reduce, heads=heads)
            scores = Scores(query, key, 8**-0.5, causal=causal)
            whole = attention_received(scores, valid, reduction)
            blocks = attention_received(scores, valid, reduction, block=4 * 37 * 5)
            torch.testing.assert_close(whole, blocks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("hiding", ["nothing", "causal", "window", "holes"])
def test_output_from_the_same_blocks_is_that_of_sdpa(hiding: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    batch, heads, groups, length, size = 3, 4, 2, 37, 8
    query = torch.randn(batch, length, heads, size, dtype=dtype).transpose(1, 2)
    key, value = torch.randn(2, batch, length, groups, size, dtype=dtype).transpose(2, 3)
    valid, mask, bias = None, None, None
    if hiding == "holes":
        valid = torch.rand(batch, length) > 0.3
        valid[1] = True
        valid[2, :20] = False
        mask = valid[:, None, None, :]
        bias = torch.randn(1, heads, length, length, dtype=dtype)
    elif hiding == "window":
        near = (torch.arange(length)[:, None] - torch.arange(length)).abs() < 5
        mask = near[None, None]
    added = mask if bias is None else bias.masked_fill(~mask, -torch.inf)
    repeated = [tensor.repeat_interleave(heads // groups, dim=1) for tensor in (key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, *repeated, attn_mask=added, is_causal=hiding == "causal"
    )
    scores = Scores(query, key, size**-0.5, mask=mask, causal=hiding == "causal", bias=bias)
    own = torch.ones(batch, length, dtype=torch.bool) if valid is None else valid
    near = {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.02}
    for block in (heads * length * 16, batch * heads * length**2):  # three blocks a text; all texts in one
        for reduce, heads_by in ALL_REDUCTIONS:
            reduction = Reduction(reduce=reduce, heads=heads_by)
            output, received = attended_and_received(scores, value, valid, reduction, block=block)
            assert torch.equal(received, attention_received(scores, valid, reduction, block=block))
            assert (output.dtype, output.shape) == (dtype, expected.shape)
            torch.testing.assert_close(output.transpose(1, 2)[own], expected.transpose(1, 2)[own], **near)
            assert output.isfinite().all()


def test_a_layer_in_training_keeps_its_dropout(tiny_folder: Callable[..., Path]) -> None:
    folder = str(tiny_folder(BertConfig, attention_probs_dropout_prob=0.9, hidden_dropout_prob=0.0))
    model = build_encoder(folder, pooling="ata", device="cpu").train()
    features = model.preprocess(TEXTS)
    with torch.no_grad():  # as gradient caching runs it first
        torch.manual_seed(0)
        first = model[0](dict(features))["token_embeddings"]
    torch.manual_seed(0)
    second = model[0](dict(features))["token_embeddings"]
    assert torch.equal(first, second)


def test_padding_between_tokens_is_left_out() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    valid = torch.tensor([[True, False, True, True, False, False, True, True, False]])
    own = valid[0].nonzero().squeeze(1)
    received = attention_received(Scores(query, key, 1.0), valid, Reduction())
    alone = attention_received(Scores(query[:, :, own], key[:, :, own], 1.0), None, Reduction())
    torch.testing.assert_close(received[:, own], alone)
    assert received[~valid].abs().max() == 0


def test_unknown_choice_is_refused() -> None:
    with pytest.raises(ModelError, match="reduce 'median' is unknown; choose one of sum, log, mean, diagonal"):
        Reduction(reduce="median")
