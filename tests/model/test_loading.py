from __future__ import annotations

from pathlib import Path

import pytest

from multigrain.config import TrainingConfig
from multigrain.config.poolings import POOLINGS
from multigrain.errors import ConfigError, ModelError
from multigrain.model.encoder import build_encoder, load


def test_a_model_whose_pooling_is_not_installed_is_refused_in_a_line(small_bert: Path, tmp_path: Path) -> None:
    model = build_encoder(str(small_bert), pooling="ata", device="cpu")
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    listing = tmp_path / "saved" / "modules.json"
    listing.write_text(listing.read_text().replace("multigrain.model.pooling.Anchor", "nobody.knows.Anchor"))
    with pytest.raises(ModelError, match="trust_remote_code"):
        load(str(tmp_path / "saved"), device="cpu")
    with pytest.raises(ConfigError, match="no pooling has this name"):
        build_encoder(str(small_bert), pooling="largest", device="cpu")


def test_every_built_in_pooling_is_named_where_people_look() -> None:
    described = TrainingConfig.model_fields["pooling"].description or ""
    for name in POOLINGS.built_in:
        assert name in described
