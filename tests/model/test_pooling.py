"""The pooling module on its own: what is pooled, with which weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, LlamaConfig

from multigrain.errors import ModelError
from multigrain.model.encoder import build_encoder
from multigrain.model.pooling import AnchorTokenPooling, AtaOptions
from multigrain.model.transformer import RECEIVED_FEATURE, ReceivingTransformer

from .conftest import TEXTS


def features_of(received: list[list[float]], mask: list[list[int]], **more: object) -> dict[str, object]:
    states = torch.arange(len(mask) * len(mask[0]) * 2, dtype=torch.float32).view(len(mask), len(mask[0]), 2)
    return {
        "token_embeddings": states,
        "attention_mask": torch.tensor(mask),
        RECEIVED_FEATURE: torch.tensor(received),
        **more,
    }


def test_weighted_mean_of_the_tokens() -> None:
    features = features_of([[1.0, 3.0, 9.0]], [[1, 1, 0]])
    pooled = AnchorTokenPooling(2)(features)
    assert pooled["sentence_embedding"].tolist() == [[1.5, 2.5]]


def test_what_was_received_is_used_up() -> None:
    pooling = AnchorTokenPooling(2)
    features = pooling(features_of([[1.0, 3.0, 9.0]], [[1, 1, 0]]))
    assert RECEIVED_FEATURE not in features
    with pytest.raises(ModelError, match="got no attention from the transformer"):
        pooling(features)


@pytest.mark.parametrize("prompt_length", [2, torch.tensor([2]), torch.tensor([2, 2])])
@pytest.mark.parametrize(
    ("mask", "expected"),
    [([1, 1, 1, 1, 0], [0, 0, 0.5, 0.5, 0]), ([0, 1, 1, 1, 1], [0, 0, 0, 0.5, 0.5])],
)
def test_prompt_left_out(prompt_length: object, mask: list[int], expected: list[float]) -> None:
    features = features_of([[5.0, 4.0, 4.0, 4.0, 4.0]] * 2, [mask] * 2, prompt_length=prompt_length)
    weights = AnchorTokenPooling(2, include_prompt=False).token_weights(features)
    torch.testing.assert_close(weights, torch.tensor([expected] * 2))
    with_prompt = AnchorTokenPooling(2).token_weights(features)
    assert (with_prompt > 0).sum(1).tolist() == [4, 4]


def test_a_text_that_is_all_prompt_is_still_pooled() -> None:
    features = features_of([[1.0, 1.0]], [[1, 1]], prompt_length=2)
    assert AnchorTokenPooling(2, include_prompt=False).token_weights(features).tolist() == [[0.5, 0.5]]


def test_sink_clip_cuts_the_largest_weight() -> None:
    features = features_of([[97.0, 1.0, 1.0, 1.0, 7.0]], [[1, 1, 1, 1, 0]])
    weights = AnchorTokenPooling(2, sink_clip=2.0).token_weights(features)
    torch.testing.assert_close(weights, torch.tensor([[50 / 53, 1 / 53, 1 / 53, 1 / 53, 0]]))
    with pytest.raises(ModelError, match="sink_clip must be at least 1"):
        AnchorTokenPooling(2, sink_clip=0.5)


def test_prompt_is_left_out_end_to_end(tiny_folder: Callable[..., Path]) -> None:
    model = build_encoder(
        str(tiny_folder(BertConfig)), pooling="ata", ata=AtaOptions(include_prompt=False), device="cpu"
    )
    features = model.preprocess(TEXTS, prompt="query: ")
    weights = model[1].token_weights(model[0](features))
    # [CLS] query: | the text
    assert weights[:, :2].abs().max() == 0
    assert (weights[:, 2] > 0).all()


def test_without_a_receiving_transformer_it_says_so(tiny_folder: Callable[..., Path]) -> None:
    model = SentenceTransformer(str(tiny_folder(BertConfig)), device="cpu")
    model[1] = AnchorTokenPooling(32)
    with pytest.raises(ModelError, match=r"build_encoder\(\.\.\., pooling='ata'\)"):
        model.encode(TEXTS)


# sentence-transformers calls the method by the name that transformers is about to drop.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("grad", ["detach", "through"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(grad: str, reentrant: bool, tiny_folder: Callable[..., Path]) -> None:
    folder = str(tiny_folder(LlamaConfig))
    gradients = []
    for checkpointing in (False, True):
        model = build_encoder(folder, pooling="ata", ata=AtaOptions(grad=grad), device="cpu").train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.transformers_model.enable_input_require_grads()
        if checkpointing and reentrant and grad == "through":
            with pytest.raises(ModelError, match="reentrant gradient checkpointing"):
                model(model.preprocess(TEXTS))
            return
        model(model.preprocess(TEXTS))["sentence_embedding"][:, 0].sum().backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys()
    assert any(value.abs().max() > 0 for value in plain.values())
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-4)


def test_one_call_a_forward(tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="ata", device="cpu")
    transformer = model[0]
    assert isinstance(transformer, ReceivingTransformer)
    layers = [layer.attention.self for layer in transformer.model.encoder.layer]
    calls: list[int] = []
    for number, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, number=number: calls.append(number))
    reduced_at: list[int] = []
    monkeypatch.setattr(
        "multigrain.model.attention.sdpa.attended_and_received",
        lambda scores, value, valid, reduction: (
            reduced_at.append(len(calls)),
            torch.ones(scores.query.shape[0::2]),
        ),
    )
    model.encode(TEXTS, batch_size=2)
    # Two batches of three layers: reduced once in each, while the last layer runs.
    assert calls == [0, 1, 2, 0, 1, 2]
    assert reduced_at == [2, 5]
