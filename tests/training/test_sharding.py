"""Two processes (torchrun, gloo) that each hold half of the model train the model that one trains, and resume."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.stand_ins import make_stand_in

from multigrain.config.file import parse_config
from multigrain.errors import ConfigError
from multigrain.model.adapters import merge_adapters
from multigrain.model.encoder import build_candidate, load
from multigrain.stages import run_stages
from multigrain.training.processes import check_sharding
from multigrain.training.train import train_candidate
from multigrain.training.trainers import fsdp_arguments, twin_to_shard

from .graded import config_of, encoder, examples, largest_difference
from .sharded import SETTINGS, settings_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bases(small_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """BERT without dropout, and what stands in for the base of the fsdp recipe."""
    folder = tmp_path_factory.mktemp("bases")
    shutil.copytree(small_bert, folder / "bert")
    path = folder / "bert" / "config.json"
    values = json.loads(path.read_text()) | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path.write_text(json.dumps(values))
    return folder / "bert", make_stand_in("fsdp", folder)


@pytest.fixture(scope="module")
def sharded(bases: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left: one launch for all tests, since much of its time is imports."""
    out = tmp_path_factory.mktemp("sharded")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "tests.training.sharded", *map(str, bases), str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_sharded_training_that_was_stopped_gives_the_model_of_one_process(
    name: str, sharded: Path, bases: tuple[Path, Path], tmp_path: Path
) -> None:
    found = json.loads((sharded / "found.json").read_text())[name]
    assert found["resumed_with"] == 5
    assert 0.45 < found["held"] < 0.55

    config = settings_of(name, bases[name == "recipe"], fsdp=False)
    alone = build_candidate(config, seed=7, device="cpu")
    train_candidate(alone, examples(), config, name=name, seed=7, checkpoints=tmp_path / "alone")
    if config.lora is not None:
        merge_adapters(alone)
    saved = load(str(sharded / name), device="cpu")
    assert largest_difference(alone, saved) <= 1e-5
    base = build_candidate(config.model_copy(update={"lora": None}), device="cpu")
    assert largest_difference(base, saved) > 1e-3


def test_blocks_are_those_that_transformers_names(small_bert: Path) -> None:
    model = encoder(small_bert)
    found = fsdp_arguments(config_of(fsdp=True, fsdp_config={"reshard_after_forward": False}), model)

    assert found["fsdp_config"]["transformer_layer_cls_to_wrap"] == ["BertEmbeddings", "BertLayer"]
    assert (found["fsdp_config"]["version"], found["fsdp_config"]["reshard_after_forward"]) == (2, False)
    assert fsdp_arguments(config_of(), model) == {}


def test_the_twin_has_the_weights_of_the_model_and_none_of_its_parameters(small_bert: Path) -> None:
    model = encoder(small_bert, pooling="ata")
    twin = twin_to_shard(model)

    one, other = dict(model.named_parameters()), dict(twin.named_parameters())
    assert one.keys() == other.keys()
    assert all(one[name] is not other[name] for name in one)
    assert all(one[name].data_ptr() == other[name].data_ptr() for name in one)
    assert torch.equal(
        model.encode("river w1", convert_to_tensor=True), twin.encode("river w1", convert_to_tensor=True)
    )


def test_one_process_is_told_to_start_several_before_anything_is_done(corpus_file: Path, tmp_path: Path) -> None:
    config = parse_config({"documents": {"path": str(corpus_file)}, "training": {"fsdp": True}})

    with pytest.raises(ConfigError, match="torchrun --nproc-per-node 2"):
        run_stages(config, tmp_path / "run", ["documents", "synthesis", "audit", "training"])
    assert not (tmp_path / "run").exists()


def test_sharding_that_the_launcher_alone_asks_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")

    with pytest.raises(ConfigError, match=r"set training\.fsdp: true"):
        check_sharding(config_of())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora": {}, "quantize": "4bit"}, "fsdp shards no 4-bit weights"),
        ({"loss": "guided"}, "leave the guide of loss: guided on the CPU"),
        ({"fsdp_config": {"version": 1}}, "version"),
    ],
)
def test_what_cannot_be_sharded_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"training": {"fsdp": True, **settings}})
