"""A throw-away pooling, added as CONTRIBUTING.md says, and one of another package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.installed import install

from .conftest import Checkout

MODULE = '''"""The largest state of every dimension."""

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
'''
ASK = """
from pathlib import Path

import numpy as np

from multigrain.config import TrainingConfig
from multigrain.config.file import parse_config
from multigrain.config.template import chosen_settings, full_template
from multigrain.encoders.encoder import encode
from multigrain.encoders.models import Encoding, load_model, parse_model
from multigrain.errors import ConfigError
from multigrain.model.encoder import describe_encoder
from multigrain.model.encoder import build_candidate, build_encoder, load
from multigrain.model.replacing import pooling_name
from multigrain.model.encoder import save_candidate
from multigrain.records import GradedExample, Level, Negative, Origin
from multigrain.training.train import train_candidate

config = TrainingConfig(
    base_model=BASE, pooling="largest", max_seq_length=32, steps=2, batch_size=4, precision="float32"
)
rows = [
    GradedExample(f"r{row}", f"d{row}", f"w{row}", f"w{row} river", tuple(
        Negative(f"w{row + 40 * level} engine", level, Origin.WRITTEN, 0.1 * level) for level in Level
    ), 0.9)
    for row in range(16)
]
model = build_candidate(config, device="cpu")
before = encode(model, ["river engine"])
train_candidate(model, rows, config, name="tuned", seed=3, checkpoints=Path("checkpoints"))
after = encode(model, ["river engine"])
save_candidate(model, Path("saved"), config)
loaded = load("saved", device="cpu")
try:
    parse_config({"training": {"candidates": {"a": {"pooling": "largets"}}}})
except ConfigError as error:
    refused = str(error)
print(json.dumps({
    "from": packages_of("pooling").get("largest"),
    "trained": not np.array_equal(before, after),
    "the same when loaded": bool(np.allclose(encode(loaded, ["river engine"]), after, atol=1e-6)),
    "names": [pooling_name(loaded), pooling_name(load_model(parse_model(f"{BASE}@largest"), Encoding(device="cpu")))],
    "replaced": pooling_name(build_encoder("saved", pooling="ata", device="cpu")),
    "described": describe_encoder(loaded, "saved"),
    "refused": refused,
    "init": "largest" in full_template(chosen_settings(documents="d", provider="local")),
}))
"""


def _check(answers: dict[str, Any], package: str) -> None:
    assert answers["from"] == package
    assert answers["trained"]
    assert answers["the same when loaded"]
    assert answers["names"] == ["largest", "largest"]
    assert answers["replaced"] == "ata"
    assert "largest pooling" in answers["described"]
    assert "no pooling has this name; did you mean 'largest'?" in answers["refused"]


def test_a_pooling_is_added_in_two_files(checkout: Checkout, small_bert: Path) -> None:
    checkout.write("model/largest.py", MODULE)
    entry = '    "largest": ("multigrain.model.largest:LARGEST", "the largest state of every dimension"),\n'
    checkout.insert("config/poolings.py", '    "diagonal": (', entry)
    assert len(checkout.touched) == 2
    assert checkout.follows("pooling")

    answers = checkout.evaluate(f"BASE = {str(small_bert)!r}\n{ASK}")

    _check(answers, "multigrain")
    assert answers["init"]
    assert "largest" in checkout.multigrain("anchors", "--help") + checkout.multigrain("evaluate", "--help")


def test_another_package_brings_a_pooling(checkout: Checkout, small_bert: Path) -> None:
    parts = {"multigrain.poolings": {"largest": "own_pooling:LARGEST"}}
    install(checkout.folder, "own-pooling", parts, {"own_pooling": MODULE})

    answers = checkout.evaluate(f"BASE = {str(small_bert)!r}\n{ASK}")

    assert not checkout.touched
    _check(answers, "own-pooling")
    assert not answers["init"]
