"""A pooling that is added as CONTRIBUTING says: it is named, trained, saved, loaded and described like the others."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tests.training.test_train import _config, _examples

from multigrain.config import TrainingConfig
from multigrain.config.poolings import POOLINGS
from multigrain.encoders.encoder import encode
from multigrain.encoders.models import Encoding, load_model, parse_model
from multigrain.errors import ConfigError, ModelError
from multigrain.model.encoder import build_candidate, build_encoder, describe_encoder, load, save_candidate
from multigrain.model.replacing import pooling_name
from multigrain.report.card import _folder
from multigrain.training.train import train_candidate

LARGEST = """
from multigrain.model.pooling import PoolingKind, TokenPooling, pooled_span

class LargestPooling(TokenPooling):
    config_keys = ["embedding_dimension", "include_prompt"]

    def __init__(self, embedding_dimension, include_prompt=True):
        super().__init__()
        self.embedding_dimension, self.include_prompt = embedding_dimension, include_prompt

    def forward(self, features, **kwargs):
        span = pooled_span(features, include_prompt=self.include_prompt).unsqueeze(-1)
        states = features["token_embeddings"].masked_fill(~span, float("-inf"))
        features["sentence_embedding"] = states.amax(1)
        return features

    def get_embedding_dimension(self):
        return self.embedding_dimension

def build(transformer, options, include_prompt):
    return transformer, LargestPooling(int(transformer.get_embedding_dimension()), include_prompt)

LARGEST = PoolingKind(build, lambda transformer, pooling: isinstance(pooling, LargestPooling), (LargestPooling,))
"""


@pytest.fixture(params=["a line of the table", "an entry point"])
def largest(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a new pooling, of this package or of another one."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "multigrain_largest.py").write_text(LARGEST)
    monkeypatch.syspath_prepend(site)
    if request.param == "an entry point":
        info = site / "multigrain_largest-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: multigrain-largest\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[multigrain.poolings]\nlargest = multigrain_largest:LARGEST\n")
    else:
        monkeypatch.setitem(POOLINGS.built_in, "largest", "multigrain_largest:LARGEST")  # type: ignore[arg-type]
    yield "largest"
    sys.modules.pop("multigrain_largest", None)


def test_it_is_trained_saved_loaded_and_named_everywhere(largest: str, small_bert: Path, tmp_path: Path) -> None:
    config = _config(base_model=str(small_bert), pooling=largest, max_seq_length=32, steps=2)
    model = build_candidate(config, device="cpu")
    before = encode(model, ["river engine"])
    train_candidate(model, _examples(), config, name="tuned", seed=3, checkpoints=tmp_path / "checkpoints")
    assert not np.array_equal(encode(model, ["river engine"]), before)
    save_candidate(model, tmp_path / "saved", config)

    loaded = load(str(tmp_path / "saved"), device="cpu")

    np.testing.assert_allclose(encode(loaded, ["river"]), encode(model, ["river"]), atol=1e-6)
    assert pooling_name(loaded) == largest
    assert "largest pooling" in describe_encoder(loaded, str(tmp_path / "saved"))
    assert (_folder(tmp_path / "saved").pooling, _folder(tmp_path / "saved").dimension) == ("largest", 32)
    named = load_model(parse_model(f"{small_bert}@{largest}"), Encoding(device="cpu"))
    assert pooling_name(named) == largest
    assert pooling_name(build_encoder(str(tmp_path / "saved"), pooling="ata", device="cpu")) == "ata"


def test_a_misspelt_pooling_is_told_its_name(largest: str) -> None:
    with pytest.raises(ValidationError, match=r"no pooling has this name; did you mean 'largest'\?"):
        TrainingConfig.model_validate({"candidates": {"a": {"pooling": "largets"}}})


def test_a_model_whose_pooling_is_not_installed_is_refused_in_a_line(
    small_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_encoder(str(small_bert), pooling="ata", device="cpu")
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    listing = tmp_path / "saved" / "modules.json"
    listing.write_text(listing.read_text().replace("multigrain.model.pooling.Anchor", "nobody.knows.Anchor"))
    with pytest.raises(ModelError, match="trust_remote_code"):
        load(str(tmp_path / "saved"), device="cpu")
    with pytest.raises(ConfigError, match="no pooling has this name"):
        build_encoder(str(small_bert), pooling="largest", device="cpu")


def test_every_built_in_is_named_where_people_look() -> None:
    described = TrainingConfig.model_fields["pooling"].description or ""
    for name in POOLINGS.built_in:
        assert name in described
