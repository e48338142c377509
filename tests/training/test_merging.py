from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from multigrain.errors import ModelError
from multigrain.training.merging import AUTOMATIC_SHARES, WeightMerge, merge_shares

from .graded import encoder


@pytest.fixture
def model(small_bert: Path) -> SentenceTransformer:
    return encoder(small_bert)


def _tune(model: SentenceTransformer) -> None:
    """Move every trained weight, as training would."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=draw), alpha=0.1)


def _weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_shares_are_those_asked_for() -> None:
    assert merge_shares(0.5) == (0.5,)
    assert merge_shares([0.5, 1.0, 0.5]) == (0.5, 1.0)
    assert merge_shares("auto") == AUTOMATIC_SHARES


@pytest.mark.parametrize("order", [(0.25, 1.0, 0.0, 0.25), (1.0, 0.25)])
def test_any_share_can_follow_any_other(model: SentenceTransformer, order: tuple[float, ...]) -> None:
    base = _weights(model)
    merge = WeightMerge(model)
    _tune(model)
    tuned = _weights(model)

    for share in order:
        merge.apply(model, share)
        for name, weight in _weights(model).items():
            torch.testing.assert_close(weight, base[name] + share * (tuned[name] - base[name]), rtol=1e-5, atol=1e-6)
    merge.apply(model, 1.0)
    assert all(torch.equal(weight, tuned[name]) for name, weight in _weights(model).items())


def test_the_merged_model_is_saved_as_ordinary_safetensors(model: SentenceTransformer, tmp_path: Path) -> None:
    merge = WeightMerge(model)
    _tune(model)
    merge.apply(model, 0.5)
    model.save_pretrained(str(tmp_path / "m"), create_model_card=False)
    again = SentenceTransformer(str(tmp_path / "m"), device="cpu")

    assert load_file(tmp_path / "m" / "model.safetensors")
    torch.testing.assert_close(
        torch.from_numpy(again.encode(["river w1"])), torch.from_numpy(model.encode(["river w1"]))
    )


def _with_lora(model: SentenceTransformer, **settings: object) -> None:
    peft = pytest.importorskip("peft")
    model.add_adapter(peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"], **settings))


def test_a_lora_adapter_is_averaged_exactly(small_bert: Path) -> None:
    base = encoder(small_bert, dropout=False).eval()
    model = encoder(small_bert, dropout=False)
    _with_lora(model)
    merge = WeightMerge(model)
    assert all("lora" in name for name in merge.base)
    _tune(model)
    merge.apply(model, 0.3)
    layer = model[0].model.encoder.layer[0].attention.self.query
    plain = base[0].model.encoder.layer[0].attention.self.query.weight
    change = merge.tuned
    assert change is not None
    down, up = (
        next(value for name, value in change.items() if f"layer.0.attention.self.query.lora_{part}" in name)
        for part in "AB"
    )

    merged = layer.base_layer.weight + layer.get_delta_weight("default")
    torch.testing.assert_close(merged, plain + 0.3 * 2 * up @ down)


def test_adapters_that_cannot_be_averaged_are_refused(small_bert: Path) -> None:
    dora = encoder(small_bert)
    _with_lora(dora, use_dora=True)
    with pytest.raises(ModelError, match="DoRA"):
        WeightMerge(dora)
    trained = encoder(small_bert)
    _with_lora(trained)
    _tune(trained)
    with pytest.raises(ModelError, match="was trained before"):
        WeightMerge(trained)


def test_a_model_without_trained_weights_has_nothing_to_merge(model: SentenceTransformer) -> None:
    model.requires_grad_(False)

    with pytest.raises(ModelError, match="nothing to merge"):
        WeightMerge(model)


def test_a_model_that_lost_its_weights_is_refused(model: SentenceTransformer, small_bert: Path) -> None:
    merge = WeightMerge(model)
    other = encoder(small_bert)
    _with_lora(other)

    with pytest.raises(ModelError, match="has no weight"):
        merge.apply(other, 0.5)
