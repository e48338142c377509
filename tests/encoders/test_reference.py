"""The base model as tuned ones are compared with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from multigrain.config.file import parse_config
from multigrain.encoders.reference import base_model, reference_encoder


@pytest.mark.parametrize(
    ("training", "expected"),
    [({}, torch.float32), ({"lora": {"r": 4}}, torch.bfloat16)],
)
def test_a_base_in_half_precision_is_as_wide_as_what_is_tuned_from_it(
    training: dict[str, Any],
    expected: torch.dtype,
    small_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("multigrain.model.loading.supports_native_bf16", lambda _: True)
    SentenceTransformer(str(small_bert), device="cpu").bfloat16().save(str(tmp_path / "half"))

    base = base_model(
        parse_config({"training": {"base_model": str(tmp_path / "half"), "max_seq_length": 32, **training}})
    )

    assert base.dtype == expected


def test_what_was_measured_in_another_precision_is_measured_again(small_bert: Path) -> None:
    training = {"base_model": str(small_bert), "max_seq_length": 32}
    float32, bf16 = (
        reference_encoder(parse_config({"training": {**training, "precision": precision}}))
        for precision in ("float32", "bf16")
    )
    assert float32.fingerprint != bf16.fingerprint
