"""A folder that carries its code, opened by processes that have no multigrain."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tests.model.conftest import TEXTS
from transformers import BertConfig, MPNetConfig

from multigrain.errors import ExportError
from multigrain.export.bundle import bundle_source
from multigrain.export.job import ExportJob
from multigrain.export.targets import folder as folder_module
from multigrain.export.targets.folder import CODE_FILE
from multigrain.export.targets.folder import export as export_folder
from multigrain.model.encoder import build_encoder
from multigrain.model.pooling import AtaOptions

CLASSES = ["multigrain.model.pooling.AnchorTokenPooling", "multigrain.model.transformer.ReceivingTransformer"]


def job(model: SentenceTransformer, folder: Path) -> ExportJob:
    return ExportJob(model=model.eval(), source="tiny", destination=folder)


def opened_elsewhere(folder: Path, out: Path) -> np.ndarray:
    """Vectors from a process on whose path there is no multigrain, and the trainer's own round trip."""
    program = """
import sys, json
from pathlib import Path
sys.path = [place for place in sys.path if not (Path(place) / "multigrain").is_dir()]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__ + str(finder).lower()]
try:
    import multigrain
except ImportError:
    pass
else:
    sys.exit("multigrain is here")
import numpy as np
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], trust_remote_code=True, device="cpu")
np.save(sys.argv[2], model.encode(json.loads(sys.argv[3])))
model.save_pretrained(sys.argv[1] + "-again")
assert type(model[1]).__module__.startswith("transformers_modules."), type(model[1])
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(out.parent / "modules"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(folder), str(out), json.dumps(TEXTS)]
    # From a folder where nothing of ours lies; site hooks of an editable install are kept out by name.
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=out.parent)
    assert done.returncode == 0, done.stderr
    return np.load(out)


@pytest.mark.parametrize("config", [pytest.param(BertConfig, marks=pytest.mark.slow), MPNetConfig])
def test_the_same_vectors_without_multigrain(config: type, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    shape = {"pad_token_id": 1, "max_position_embeddings": 70} if config is MPNetConfig else {}
    model = build_encoder(
        str(tiny_folder(config, **shape)), pooling="ata", device="cpu", ata=AtaOptions(reduce="sum", sink_clip=2.0)
    )
    written = tmp_path / "made"
    done = export_folder(job(model, written), written)
    assert done.facts["max_difference"] < 1e-5
    moved = tmp_path / "elsewhere" / "model"
    shutil.copytree(written, moved)
    shutil.rmtree(written)
    expected = model.encode(TEXTS)
    np.testing.assert_allclose(opened_elsewhere(moved, tmp_path / "vectors.npy"), expected, atol=1e-6)
    # What a stranger saves again carries the code on.
    assert (Path(f"{moved}-again") / CODE_FILE).read_text() == (moved / CODE_FILE).read_text()
    # The flag is asked for: code in a folder never runs unasked.
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(str(moved), device="cpu")


@pytest.mark.slow
def test_a_plain_model_needs_no_code_and_no_flag(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="cls", device="cpu")
    done = export_folder(job(model, tmp_path / "made"), tmp_path / "made")
    assert done.facts["code"] is None
    assert not (tmp_path / "made" / CODE_FILE).exists()
    again = SentenceTransformer(str(tmp_path / "made"), device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), model.encode(TEXTS), atol=1e-6)


@pytest.mark.slow
def test_other_vectors_are_refused(
    tiny_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="ata", device="cpu")
    source = bundle_source(CLASSES)
    broken = source.replace("pooled = weights.unsqueeze(1) @", "pooled = weights.sqrt().unsqueeze(1) @")
    assert broken != source
    monkeypatch.setattr(folder_module, "bundle_source", lambda classes: broken)
    with pytest.raises(ExportError, match="the folder does not give the model's vectors"):
        export_folder(job(model, tmp_path / "made"), tmp_path / "made")
    monkeypatch.setattr(folder_module, "bundle_source", lambda classes: "import nothing_of_that_name\n")
    with pytest.raises(ExportError, match="a process without multigrain cannot open it"):
        export_folder(job(model, tmp_path / "again"), tmp_path / "again")


def test_the_code_is_in_step_with_our_sources(tmp_path: Path) -> None:
    import inspect

    from multigrain.model import pooling, transformer
    from multigrain.model.attention import received

    source = bundle_source(CLASSES)
    assert source == bundle_source(CLASSES)
    for part in (
        received.attention_received,
        received._received_from,
        pooling.AnchorTokenPooling,
        pooling.pooled_span,
        transformer.ReceivingTransformer,
    ):
        assert inspect.getsource(part) in source
    # Nothing of ours is imported, nothing is left over, nothing is missing.
    assert not [line for line in source.splitlines() if line.startswith(("from multigrain", "import multigrain"))]
    assert "AtaOptions" not in source
    assert len(source.splitlines()) < 1000
    (tmp_path / CODE_FILE).write_text(source)
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", str(tmp_path / CODE_FILE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
