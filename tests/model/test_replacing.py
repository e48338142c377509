"""Every pooling by name, and what each of them computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from transformers import BertConfig, LlamaConfig, MPNetConfig

from multigrain.config.poolings import POOLINGS as TABLE
from multigrain.encoders.encoder import encode
from multigrain.errors import ModelError
from multigrain.model.attention.received import Reduction
from multigrain.model.encoder import build_encoder, load
from multigrain.model.pooling import AtaOptions
from multigrain.model.replacing import pooling_name
from multigrain.model.transformer import RECEIVED_FEATURE, observed
from multigrain.model.values import ValueTransformer

from .conftest import TEXTS

POOLINGS = list(TABLE.built_in)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_named_saved_and_replaced_again(pooling: str, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = str(tiny_folder(LlamaConfig, num_key_value_heads=2))
    model = build_encoder(folder, pooling=pooling, device="cpu")
    assert pooling_name(model) == pooling
    vectors = encode(model, TEXTS)
    assert vectors.shape == (len(TEXTS), model.get_embedding_dimension())
    model.save_pretrained(str(tmp_path / "saved"))
    loaded = load(str(tmp_path / "saved"), device="cpu")
    assert pooling_name(loaded) == pooling
    np.testing.assert_allclose(encode(loaded, TEXTS), vectors, atol=1e-6)
    # From any pooling to any other, as if it had never been there.
    for other in ("mean", "ata", "values"):
        again = build_encoder(str(tmp_path / "saved"), pooling=other, device="cpu")
        expected = build_encoder(folder, pooling=other, device="cpu")
        np.testing.assert_allclose(encode(again, TEXTS), encode(expected, TEXTS), atol=1e-6)


def test_poolings_differ(tiny_folder: Callable[..., Path]) -> None:
    folder = str(tiny_folder(BertConfig))
    vectors = [encode(build_encoder(folder, pooling=pooling, device="cpu"), TEXTS)[2] for pooling in POOLINGS]
    similarity = np.array(vectors) @ np.array(vectors).T
    assert np.triu(similarity, 1).max() < 0.99999


@pytest.mark.parametrize("config", [BertConfig, LlamaConfig, MPNetConfig])
def test_values_are_the_mean_of_the_value_projections(config: type, tiny_folder: Callable[..., Path]) -> None:
    folder = str(tiny_folder(config))
    model = build_encoder(folder, pooling="values", device="cpu").eval()
    assert isinstance(model[0], ValueTransformer)
    outputs: list[torch.Tensor] = []
    for name, module in model.named_modules():
        if name.endswith((".self.value", ".v_proj", ".attn.v")):
            module.register_forward_hook(lambda _, __, output: outputs.append(output))
    features = model.preprocess(TEXTS)
    with torch.no_grad():
        pooled = model[1](model[0](dict(features)))["sentence_embedding"]
    assert len(outputs) == 3
    mask = features["attention_mask"].unsqueeze(-1)
    expected = (torch.stack(outputs).mean(0) * mask).sum(1) / mask.sum(1)
    torch.testing.assert_close(pooled, expected, atol=1e-6, rtol=1e-5)


def test_values_train(tiny_folder: Callable[..., Path]) -> None:
    model = build_encoder(str(tiny_folder(LlamaConfig)), pooling="values", device="cpu").train()
    model(model.preprocess(TEXTS))["sentence_embedding"][:, 0].sum().backward()
    first = model.transformers_model.layers[0].self_attn
    last = model.transformers_model.layers[-1]
    assert first.v_proj.weight.grad.abs().max() > 0
    # Nothing after the last values reaches the vector.
    assert last.self_attn.q_proj.weight.grad is None or last.self_attn.q_proj.weight.grad.abs().max() == 0


def test_diagonal_keeps_the_other_options(tiny_folder: Callable[..., Path]) -> None:
    options = AtaOptions(heads="max", sink_clip=2.0, include_prompt=False)
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="diagonal", ata=options, device="cpu")
    assert model[0].reduction == Reduction(reduce="diagonal", heads="max")
    assert (model[1].sink_clip, model[1].include_prompt) == (2.0, False)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_prompts_stay_out_of_every_pooling(pooling: str, tiny_folder: Callable[..., Path]) -> None:
    """With the prompt left out, its tokens' own states must not reach the vector."""
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="mean", device="cpu")
    model.set_pooling_include_prompt(False)
    options = AtaOptions(include_prompt=False)
    from multigrain.model.replacing import replace_pooling

    replace_pooling(model, pooling, options)
    features = model.preprocess(TEXTS, prompt="query: ")
    features = model[0](features)
    states = features["token_embeddings"].detach().requires_grad_()
    features["token_embeddings"] = states
    model[1](features)["sentence_embedding"].sum().backward()
    # [CLS] query: | the text
    assert states.grad[:, :2].abs().max() == 0
    assert states.grad[:, 2:].abs().max() > 0


def test_later_weights_of_another_width_are_not_broken(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny_folder(LlamaConfig, num_key_value_heads=2)), device="cpu")
    model[2] = Dense(32, 8)
    model.save_pretrained(str(tmp_path / "dense"))
    assert build_encoder(str(tmp_path / "dense"), pooling="ata", device="cpu").get_embedding_dimension() == 8
    with pytest.raises(ModelError, match="take vectors of width 32, values pooling gives 16"):
        build_encoder(str(tmp_path / "dense"), pooling="values", device="cpu")


def test_a_borrowed_model_is_given_back(tiny_folder: Callable[..., Path]) -> None:
    for config in (BertConfig, MPNetConfig):
        model = SentenceTransformer(str(tiny_folder(config)), device="cpu").eval()
        kinds = [type(module) for module in model.modules()]
        implementation = model.config._attn_implementation
        features = model.preprocess(TEXTS)
        with observed(model[0], Reduction()) as receiving:
            assert receiving(dict(features))[RECEIVED_FEATURE].shape == features["input_ids"].shape
        assert [type(module) for module in model.modules()] == kinds
        assert model.config._attn_implementation == implementation
        assert RECEIVED_FEATURE not in model[0](dict(features))


def test_flattened_inputs_are_switched_off(tiny_folder: Callable[..., Path]) -> None:
    model = SentenceTransformer(str(tiny_folder(BertConfig)), device="cpu")
    model[0].can_flatten_inputs = True  # as FlashAttention-2 would set it
    with observed(model[0], Reduction()) as receiving:
        assert receiving.can_flatten_inputs is False
