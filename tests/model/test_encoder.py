"""Building, saving and loading encoders, in this process and in a fresh one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, DebertaV2Config, LlamaConfig

from multigrain.config import TrainingConfig
from multigrain.encoders.encoder import encode
from multigrain.errors import MissingExtraError, ModelError
from multigrain.model.encoder import build_candidate, build_encoder, load, weights_fingerprint
from multigrain.model.pooling import AnchorTokenPooling, AtaOptions
from multigrain.model.replacing import pooling_name
from multigrain.model.transformer import RECEIVED_FEATURE

from .conftest import TEXTS

OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, env=OFFLINE
    )


def test_a_saved_ata_model_gives_the_same_vectors_in_a_fresh_process(minilm_reference: str, tmp_path: Path) -> None:
    model = build_encoder(
        minilm_reference, pooling="ata", max_seq_length=128, device="cpu", ata=AtaOptions(reduce="mean", sink_clip=3.0)
    )
    folder = tmp_path / "model"
    model.save_pretrained(str(folder))
    expected = encode(model, TEXTS)

    program = """
import sys, numpy as np
from multigrain.encoders.encoder import encode
from multigrain.model.encoder import load, pooling_name, weights_fingerprint
from sentence_transformers import SentenceTransformer
import json
folder, texts, out = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
ours = load(folder, device="cpu")
theirs = SentenceTransformer(folder, trust_remote_code=True, device="cpu")
np.savez(out, ours=encode(ours, texts), theirs=encode(theirs, texts))
print(pooling_name(theirs), ours.max_seq_length, weights_fingerprint(ours), weights_fingerprint(theirs))
"""
    done = run_python(program, str(folder), json.dumps(TEXTS), str(tmp_path / "vectors.npz"))
    assert done.returncode == 0, done.stderr
    vectors = np.load(tmp_path / "vectors.npz")
    np.testing.assert_allclose(vectors["ours"], expected, atol=1e-6)
    np.testing.assert_allclose(vectors["theirs"], expected, atol=1e-6)
    fingerprint = weights_fingerprint(model)
    assert done.stdout.split() == ["ata", "128", fingerprint, fingerprint]


def test_sentence_transformers_asks_for_the_flag(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    build_encoder(str(tiny_folder(BertConfig)), pooling="ata", device="cpu").save_pretrained(str(tmp_path / "ata"))
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(str(tmp_path / "ata"), device="cpu")


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_other_poolings_record_sentence_transformers_classes_only(
    pooling: str, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    # From an ATA model: what it installed must be gone again.
    build_encoder(str(tiny_folder(LlamaConfig)), pooling="ata", device="cpu").save_pretrained(str(tmp_path / "ata"))
    model = build_encoder(str(tmp_path / "ata"), pooling=pooling, device="cpu")
    assert pooling_name(model) == pooling
    model.save_pretrained(str(tmp_path / "plain"))
    types = [module["type"] for module in json.loads((tmp_path / "plain" / "modules.json").read_text())]
    assert all(name.startswith("sentence_transformers.") for name in types)
    assert "received" not in json.loads((tmp_path / "plain" / "sentence_bert_config.json").read_text())
    again = SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    np.testing.assert_allclose(encode(again, TEXTS), encode(model, TEXTS), atol=1e-6)


def test_keep_keeps_the_base(minilm_reference: str) -> None:
    model = build_encoder(minilm_reference, pooling="keep", device="cpu")
    assert pooling_name(model) == "mean"
    assert model.max_seq_length == 256
    assert isinstance(model[2], Normalize)


def test_what_follows_the_pooling_stays(minilm_ata: SentenceTransformer) -> None:
    assert [type(module).__name__ for module in minilm_ata] == [
        "ReceivingTransformer",
        "AnchorTokenPooling",
        "Normalize",
    ]
    assert minilm_ata.get_embedding_dimension() == 384


def test_vectors_do_not_depend_on_padding_or_order(minilm_ata: SentenceTransformer) -> None:
    together = encode(minilm_ata, TEXTS)
    alone = np.concatenate([encode(minilm_ata, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_encode_nothing(minilm_ata: SentenceTransformer) -> None:
    assert encode(minilm_ata, []).shape == (0, 384)


def test_bf16_stays_close(minilm_ata: SentenceTransformer) -> None:
    exact, rounded = encode(minilm_ata, TEXTS), encode(minilm_ata, TEXTS, bf16=True)
    assert rounded.dtype == np.float32
    assert (exact * rounded).sum(1).min() > 0.999
    assert not np.array_equal(exact, rounded)


def test_bf16_weights_are_reduced_in_float32(tiny_folder: Callable[..., Path]) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="ata", device="cpu")
    exact = encode(model, TEXTS)
    model.bfloat16()
    features = model[0](model.preprocess(TEXTS))
    assert features["token_embeddings"].dtype == torch.bfloat16
    assert features[RECEIVED_FEATURE].dtype == torch.float32
    assert model[1](features)["sentence_embedding"].dtype == torch.bfloat16
    assert (encode(model, TEXTS) * exact).sum(1).min() > 0.999


def test_threads_do_not_meet(minilm_ata: SentenceTransformer) -> None:
    batches = [[f"{text} {number}" for text in TEXTS] for number in range(8)]
    alone = [encode(minilm_ata, batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: encode(minilm_ata, batch), batches))
    np.testing.assert_allclose(np.array(together), np.array(alone), atol=1e-6)


def test_fingerprint_tells_models_apart(tiny_folder: Callable[..., Path]) -> None:
    folder = str(tiny_folder(BertConfig))
    mean = build_encoder(folder, pooling="mean", device="cpu")
    before = weights_fingerprint(mean)
    encode(mean, TEXTS)
    assert weights_fingerprint(mean) == before
    assert weights_fingerprint(build_encoder(folder, pooling="keep", device="cpu")) == before
    others = {
        "cls": build_encoder(folder, pooling="cls", device="cpu"),
        "ata": build_encoder(folder, pooling="ata", device="cpu"),
        "ata sum": build_encoder(folder, pooling="ata", ata=AtaOptions(reduce="sum"), device="cpu"),
        "ata clipped": build_encoder(folder, pooling="ata", ata=AtaOptions(sink_clip=2.0), device="cpu"),
        "shorter": build_encoder(folder, pooling="mean", max_seq_length=16, device="cpu"),
    }
    changed = build_encoder(folder, pooling="mean", device="cpu")
    next(changed.parameters()).data.view(-1)[7] += 1e-3
    prints = {weights_fingerprint(model) for model in [*others.values(), changed]}
    assert len(prints) == len(others) + 1
    assert before not in prints


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("/nowhere/at/all", "no such model folder"),
        ("./missing", "no such model folder"),
    ],
)
def test_missing_folder_is_one_clear_line(reference: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build_encoder(reference, device="cpu")
    assert "\n" not in str(caught.value)
    assert reference in str(caught.value)


def test_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither modules\.json nor config\.json"):
        load(str(tmp_path), device="cpu")


def test_broken_modules_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ModelError, match=r"modules\.json: cannot be read as JSON"):
        load(str(tmp_path), device="cpu")


def test_missing_package_prints_its_pip_line() -> None:
    with pytest.raises(MissingExtraError, match="pip install --no-deps some-model"):
        build_encoder("package:some-model")


def test_hub_failure_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"^nobody/no-such-model-here: cannot be loaded as an encoder: ") as caught:
        build_encoder("nobody/no-such-model-here", device="cpu")
    assert "\n" not in str(caught.value)


def test_foreign_code_is_not_run_unasked(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    # A folder that names our pooling, and smuggles a class of its own in beside it.
    folder = tmp_path / "ata"
    build_encoder(str(tiny_folder(BertConfig)), pooling="ata", device="cpu").save_pretrained(str(folder))
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "evil.Evil"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "evil.py").write_text("raise SystemExit('foreign code ran')")
    with pytest.raises(ModelError, match="needs code that comes with the model"):
        load(str(folder), device="cpu")


def test_own_classes_are_never_taken_from_the_folder(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "ata"
    build_encoder(str(tiny_folder(BertConfig)), pooling="ata", device="cpu").save_pretrained(str(folder))
    (folder / "multigrain" / "model").mkdir(parents=True)
    for name in ("multigrain.py", "multigrain/model/pooling.py", "multigrain/model/transformer.py", "pooling.py"):
        (folder / name).write_text("raise SystemExit('foreign code ran')")
    model = load(str(folder), device="cpu")
    assert type(model[1]) is AnchorTokenPooling


def test_configs_that_bring_code_are_not_trusted(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "ata"
    build_encoder(str(tiny_folder(BertConfig)), pooling="ata", device="cpu").save_pretrained(str(folder))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling.py").write_text("raise SystemExit('foreign code ran')")
    with pytest.raises(ModelError, match="needs code that comes with the model"):
        load(str(folder), device="cpu")


def test_an_architecture_without_the_interface_is_refused(
    tiny_folder: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match="DebertaV2Model: its attention cannot be read"):
        build_encoder(str(tiny_folder(DebertaV2Config)), pooling="ata", device="cpu")
    assert capfd.readouterr().err.count("WARNING") == 0


def test_more_tokens_than_the_model_reads_are_refused(minilm_reference: str) -> None:
    with pytest.raises(ModelError, match="max_seq_length 513 is more than the 512 tokens"):
        build_encoder(minilm_reference, max_seq_length=513, device="cpu")


def test_a_model_without_pooling_is_refused(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    class_token = SentenceTransformer(str(tiny_folder(BertConfig)), device="cpu")
    SentenceTransformer(modules=[class_token[0]], device="cpu").save_pretrained(str(tmp_path / "bare"))
    with pytest.raises(ModelError, match="no pooling over a transformer's tokens"):
        build_encoder(str(tmp_path / "bare"), pooling="ata", device="cpu")
    assert isinstance(class_token[0], Transformer)
    assert isinstance(class_token[1], Pooling)


def test_a_candidate_has_the_ata_options_of_its_config(tiny_folder: Callable[..., Path]) -> None:
    config = TrainingConfig.model_validate(
        {
            "base_model": str(tiny_folder(BertConfig)),
            "max_seq_length": 32,
            "ata": {"reduce": "sum", "include_prompt": False},
            "candidates": {
                "one": {"pooling": "ata"},
                "two": {"pooling": "ata", "ata": {"sink_clip": 3, "grad": "through"}},
            },
        }
    )
    one, two = (build_candidate(config.resolve(name), device="cpu") for name in ("one", "two"))
    assert (one[0].reduction.reduce, one[0].reduction.grad) == ("sum", "detach")
    assert (one[1].include_prompt, one[1].sink_clip) == (False, None)
    assert (two[0].reduction.reduce, two[0].reduction.grad) == ("log", "through")
    assert (two[1].include_prompt, two[1].sink_clip) == (True, 3.0)
