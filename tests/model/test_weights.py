"""Models whose file lacks weights, which transformers makes up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from multigrain.errors import ModelError
from multigrain.model.loading import load_any
from multigrain.storage.packages import resolve_encoder

Weights = dict[str, torch.Tensor]


def changed(folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """A copy of the embedded encoder with other weights in its file."""
    shutil.copytree(resolve_encoder("auto"), folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: {f"module.{name}": weight for name, weight in weights.items()}, "names begin like 'module."),
        (lambda weights: {name: weight for name, weight in weights.items() if ".layer.5." not in name}, "6 of its"),
    ],
)
def test_a_model_with_weights_that_would_be_random_is_refused(
    tmp_path: Path, change: Callable[[Weights], Weights], words: str
) -> None:
    folder = changed(tmp_path / "model", change)
    with pytest.raises(ModelError, match=words):
        load_any(str(folder), device="cpu")


def test_a_head_that_no_vector_depends_on_may_be_missing(tmp_path: Path) -> None:
    def headless(weights: Weights) -> Weights:
        return {f"bert.{name}": weight for name, weight in weights.items() if not name.startswith("pooler.")}

    text = ["how rivers flow"]
    whole, without = load_any("auto", device="cpu"), load_any(str(changed(tmp_path / "m", headless)), device="cpu")
    assert (whole.encode(text) == without.encode(text)).all()


def test_a_folder_that_promises_more_tokens_than_it_has_positions_reads_what_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = changed(tmp_path / "model", lambda weights: weights)
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | {key: 1024}))
    with caplog.at_level("WARNING", logger="multigrain"):
        model = load_any(str(folder), device="cpu")
    assert model.max_seq_length == 512
    assert "no more positions" in caplog.text
    assert model.encode(["how rivers flow " * 400]).shape == (1, 384)
