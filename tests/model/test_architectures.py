"""Attention received equals eager attention's maps on every architecture, however the texts are padded.

Tiny random models; what is compared with is transformers' own `output_attentions` under eager attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig
from sentence_transformers import SentenceTransformer
from tests.model.attention.test_received import reduce_maps
from torch import Tensor
from transformers import AutoModel

from multigrain.encoders.encoder import encode
from multigrain.model.attention.received import Reduction
from multigrain.model.attention.sdpa import LayerTrace, ReceivedAttention
from multigrain.model.encoder import build_encoder, load
from multigrain.model.pooling import AtaOptions
from multigrain.model.precision import mixed_precision
from multigrain.model.transformer import RECEIVED_FEATURE, ReceivingTransformer


@dataclass(frozen=True)
class Architecture:
    """A config class and what makes its tiny model interesting."""

    config: str
    settings: dict[str, Any] = field(default_factory=dict)
    calls: int = 1
    bidirectional: dict[str, Any] | None = None


GROUPED = {"num_key_value_heads": 2}
ROPE = {"head_dim": 8, **GROUPED}
ARCHITECTURES = {
    "bert": Architecture("BertConfig"),
    "roberta": Architecture("RobertaConfig", {"pad_token_id": 1, "max_position_embeddings": 70}),
    "xlm-roberta": Architecture("XLMRobertaConfig", {"pad_token_id": 1, "max_position_embeddings": 70}),
    "distilbert": Architecture("DistilBertConfig", {"dim": 32, "n_heads": 4, "n_layers": 3, "hidden_dim": 48}),
    "electra": Architecture("ElectraConfig", {"embedding_size": 32}),
    # All layers are one module, called three times.
    "albert": Architecture("AlbertConfig", {"embedding_size": 32}, calls=3),
    "mpnet": Architecture("MPNetConfig", {"pad_token_id": 1, "max_position_embeddings": 70}),
    # Layers 0 and 3 attend globally, 1 and 2 to four tokens on either side; with 3 layers the last one is local.
    "modernbert-local": Architecture("ModernBertConfig", {"local_attention": 8}),
    "modernbert-global": Architecture("ModernBertConfig", {"local_attention": 8, "num_hidden_layers": 4}),
    "llama": Architecture("LlamaConfig", GROUPED, bidirectional={"is_causal": False}),
    "mistral": Architecture("MistralConfig", {"sliding_window": 5, **GROUPED}, bidirectional={"is_causal": False}),
    "qwen2": Architecture("Qwen2Config", GROUPED, bidirectional={"is_causal": False}),
    "qwen3": Architecture("Qwen3Config", ROPE, bidirectional={"is_causal": False}),
    "gemma3": Architecture(
        "Gemma3TextConfig",
        {"sliding_window": 6, "layer_types": ["full_attention", "sliding_attention", "full_attention"], **ROPE},
        bidirectional={"use_bidirectional_attention": True},
    ),
    "gemma3-sliding": Architecture(
        "Gemma3TextConfig",
        {"sliding_window": 6, "layer_types": ["full_attention", "full_attention", "sliding_attention"], **ROPE},
        bidirectional={"use_bidirectional_attention": True},
    ),
}
CASES = [(name, False) for name in ARCHITECTURES] + [
    (name, True) for name, architecture in ARCHITECTURES.items() if architecture.bidirectional
]
Build = Callable[..., tuple[SentenceTransformer, str]]

# Random token numbers: odd lengths, a single text, one text of two tokens.
LENGTHS = {"mixed": [13, 2, 7], "alone": [11], "even": [9, 9]}


@pytest.fixture
def build(tiny_folder: Callable[..., Path]) -> Build:
    def make(
        name: str, *, bidirectional: bool = False, padding_side: str = "right", ata: AtaOptions | None = None
    ) -> tuple[SentenceTransformer, str]:
        architecture = ARCHITECTURES[name]
        settings = {**architecture.settings, **((architecture.bidirectional or {}) if bidirectional else {})}
        folder = tiny_folder(getattr(transformers, architecture.config), padding_side=padding_side, **settings)
        return build_encoder(str(folder), pooling="ata", device="cpu", ata=ata).eval(), str(folder)

    return make


def batch(lengths: list[int], padding_side: str, pad: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    longest = max(lengths)
    ids = torch.full((len(lengths), longest), pad)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        place = slice(longest - length, longest) if padding_side == "left" else slice(0, length)
        ids[row, place] = torch.randint(5, 25, (length,))
        mask[row, place] = 1
    return {"input_ids": ids, "attention_mask": mask}


def eager_maps(folder: str, features: dict[str, Tensor]) -> Tensor:
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(**features, output_attentions=True).attentions[-1]


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize(("name", "bidirectional"), CASES)
def test_equals_eager(name: str, bidirectional: bool, padding_side: str, build: Build) -> None:
    model, folder = build(name, bidirectional=bidirectional, padding_side=padding_side)
    pad = model[0].model.config.pad_token_id
    for lengths in LENGTHS.values():
        features = batch(lengths, padding_side, pad)
        valid = features["attention_mask"].bool()
        maps = eager_maps(folder, features)
        if ARCHITECTURES[name].bidirectional is not None and lengths == [11]:
            # The premise: what is called causal hides later keys, what is called bidirectional does not.
            assert (maps.triu(1).abs().max() > 0) == bidirectional
        for reduce in ("sum", "log", "mean"):
            reduction = Reduction(reduce=reduce)
            model[0].reduction = reduction
            with torch.no_grad():
                received = model[0](dict(features))[RECEIVED_FEATURE]
            torch.testing.assert_close(received, reduce_maps(maps, valid, reduction), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "bidirectional"), CASES)
def test_the_last_layer_is_read_once_a_forward(
    name: str, bidirectional: bool, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = build(name, bidirectional=bidirectional)
    transformer = model[0]
    trace, reduced = LayerTrace(), []
    observe, reduce = ReceivedAttention.observe, ReceivedAttention._reduce

    def observe_and_note(self: ReceivedAttention, layer: torch.nn.Module, scores: Any, value: Tensor) -> Tensor | None:
        trace.observe(layer, scores, value)
        return observe(self, layer, scores, value)

    def reduce_and_note(self: ReceivedAttention, scores: Any, value: Tensor) -> tuple[Tensor | None, Tensor]:
        reduced.append(len(trace.layers))
        return reduce(self, scores, value)

    monkeypatch.setattr(ReceivedAttention, "observe", observe_and_note)
    monkeypatch.setattr(ReceivedAttention, "_reduce", reduce_and_note)
    transformer(batch([5, 3], "right", transformer.model.config.pad_token_id))
    layers = transformer.model.config.num_hidden_layers
    assert len(trace.layers) == layers
    assert reduced == [layers]
    # Its output is what the model returns: nothing after it attends.
    names = [path for path, module in transformer.model.named_modules() if module is trace.layers[-1]]
    deepest = "0" if ARCHITECTURES[name].calls > 1 else str(transformer.model.config.num_hidden_layers - 1)
    assert f".{deepest}." in f".{names[0]}."


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_states_are_sdpas_or_within_rounding(name: str, build: Build) -> None:
    model, folder = build(name)
    features = batch([13, 2, 7], "right", model[0].model.config.pad_token_id)
    plain = SentenceTransformer(folder, device="cpu").eval()
    with torch.no_grad():
        expected = plain[0](dict(features))["token_embeddings"]
        states = model[0](dict(features))["token_embeddings"]
    valid = features["attention_mask"].bool()
    torch.testing.assert_close(states[valid], expected[valid], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mpnet", "albert", "gemma3-sliding"])
def test_saved_and_loaded(name: str, build: Build, tmp_path: Path) -> None:
    model, _ = build(name, ata=AtaOptions(reduce="sum"))
    texts = ["the quick brown fox", "dog !"]
    model.save_pretrained(str(tmp_path / "saved"))
    loaded = load(str(tmp_path / "saved"), device="cpu")
    assert torch.equal(torch.from_numpy(encode(loaded, texts)), torch.from_numpy(encode(model, texts)))
    mean = build_encoder(str(tmp_path / "saved"), pooling="mean", device="cpu")
    assert "multigrain" not in mean.transformers_model.config._attn_implementation
    assert all("multigrain" not in type(module).__module__ for module in mean.modules())


@pytest.mark.parametrize("name", ["bert", "modernbert-global", "llama", "gemma3"])
def test_bf16_is_within_its_rounding(name: str, build: Build) -> None:
    """Weights are reduced in float32, from queries and keys that bf16 rounds to 3 digits."""
    model, _ = build(name)
    features = batch([13, 2, 7], "right", 0)
    with torch.no_grad():
        exact = model[1].token_weights(model[0](dict(features)))
        with mixed_precision("cpu", bf16=True):
            rounded = model[1].token_weights(model[0](dict(features)))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0.1)


@pytest.mark.parametrize("name", ["bert", "qwen3"])
@pytest.mark.parametrize("grad", ["detach", "through"])
def test_lora(name: str, grad: str, build: Build, tmp_path: Path) -> None:
    model, folder = build(name, ata=AtaOptions(grad=grad))
    assert isinstance(model[0], ReceivingTransformer)
    targets = ["query", "value"] if name == "bert" else ["q_proj", "v_proj"]
    torch.manual_seed(0)
    model.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    features = batch([13, 2, 7], "right", 0)
    with torch.no_grad():
        received = model[0](dict(features))[RECEIVED_FEATURE]
    plain = build_encoder(folder, pooling="ata", device="cpu").eval()
    assert not torch.allclose(received, plain[0](dict(features))[RECEIVED_FEATURE], atol=1e-3)
    model.train()
    model(dict(features))["sentence_embedding"][:, 0].sum().backward()
    trained = {weight_name for weight_name, weight in model.named_parameters() if weight.grad is not None}
    assert trained
    assert all("lora_" in weight_name for weight_name in trained)
    # The adapter's eager twin agrees.
    model.transformers_model.set_attn_implementation("eager")
    model.eval()
    with torch.no_grad():
        maps = model.transformers_model(**features, output_attentions=True).attentions[-1]
    expected = reduce_maps(maps, features["attention_mask"].bool(), Reduction())
    torch.testing.assert_close(received, expected, atol=1e-4, rtol=1e-4)
