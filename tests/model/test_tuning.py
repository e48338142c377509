"""What holds while a model is tuned, and only then: another dropout, and attention in the type that is faster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import BertConfig, LlamaConfig, PreTrainedConfig

from multigrain.config import LoraConfig
from multigrain.model.adapters import add_adapters
from multigrain.model.attention.sdpa import ATTENTION_NAME
from multigrain.model.encoder import build_encoder
from multigrain.model.tuning import dropout_set_to, quick_attention

CONFIGS: list[tuple[type[PreTrainedConfig], dict[str, float]]] = [
    (BertConfig, {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}),
    (LlamaConfig, {"attention_dropout": 0.3}),
]


@pytest.fixture(params=CONFIGS, ids=lambda config: config[0].__name__)
def dropping(request: pytest.FixtureRequest, tiny_folder: Callable[..., Path]) -> SentenceTransformer:
    config_class, settings = request.param
    model = build_encoder(str(tiny_folder(config_class, **settings)), max_seq_length=32, device="cpu")
    return model.train()


def _vectors(model: SentenceTransformer) -> Tensor:
    features = model.preprocess(["river engine", "engine"])
    vectors: Tensor = model(dict(features))["sentence_embedding"]
    return vectors


def test_without_dropout_training_computes_what_inference_does_and_then_drops_again(
    dropping: SentenceTransformer,
) -> None:
    with dropout_set_to(dropping, 0.0):
        learning = _vectors(dropping)
    assert not torch.allclose(_vectors(dropping), _vectors(dropping), atol=1e-4)
    torch.testing.assert_close(learning, _vectors(dropping.eval()))


def test_none_leaves_the_models_own_dropout(dropping: SentenceTransformer) -> None:
    with dropout_set_to(dropping, None):
        assert not torch.allclose(_vectors(dropping), _vectors(dropping), atol=1e-4)


def test_dropout_comes_back_after_an_error(dropping: SentenceTransformer) -> None:
    with pytest.raises(RuntimeError), dropout_set_to(dropping, 0.0):
        raise RuntimeError
    assert not torch.allclose(_vectors(dropping), _vectors(dropping), atol=1e-4)


def test_adapters_keep_their_own_dropout(dropping: SentenceTransformer) -> None:
    pytest.importorskip("peft")
    add_adapters(dropping, LoraConfig(r=2, alpha=4, dropout=0.4))
    drops = {name: module for name, module in dropping.named_modules() if isinstance(module, nn.Dropout)}
    with dropout_set_to(dropping, 0.0):
        of_adapters = {module.p for name, module in drops.items() if "lora_" in name}
        set_to = {module.p for name, module in drops.items() if "lora_" not in name}
    assert of_adapters == {0.4}
    assert set_to <= {0.0}


def test_quick_attention_learns_what_sdpa_does(dropping: SentenceTransformer) -> None:
    def gradients(*, quick: bool) -> dict[str, Tensor]:
        dropping.zero_grad()
        with (
            dropout_set_to(dropping, 0.0),
            quick_attention(dropping, enabled=quick),
            torch.autocast("cpu", dtype=torch.bfloat16),
        ):
            vectors = _vectors(dropping)
        (vectors[0] @ vectors[1] + vectors.square().sum()).backward()
        return {name: module.grad.clone() for name, module in dropping.named_parameters() if module.grad is not None}

    expected, by_quick = gradients(quick=False), gradients(quick=True)
    assert expected.keys() == by_quick.keys()
    for name, gradient in expected.items():
        # bfloat16 keeps eight bits: the two differ by its rounding.
        assert (by_quick[name] - gradient).norm() <= 0.05 * gradient.norm() + 1e-4, name


def test_quick_attention_ends_with_training(dropping: SentenceTransformer) -> None:
    (whole,) = (module for module in dropping.modules() if hasattr(module, "set_attn_implementation"))
    names = [whole.config._attn_implementation]
    with quick_attention(dropping, enabled=True):
        names.append(whole.config._attn_implementation)
    with quick_attention(dropping, enabled=False):
        names.append(whole.config._attn_implementation)
    assert names == ["sdpa", ATTENTION_NAME, "sdpa"]
    assert whole.config._attn_implementation == "sdpa"
