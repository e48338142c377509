"""Static models: two libraries open them, and what they lose and how fast they are is measured."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tests.export.tiny import byte_pairs, tiny_model
from transformers import BertConfig

from multigrain.display.install import install_line
from multigrain.errors import ExportError, MissingExtraError
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.export.job import ExportJob
from multigrain.export.registry import export_model
from multigrain.export.targets import static as module

TEXTS = ["The committee adjourned.", "how do I rotate the logs?", "a"]


@pytest.fixture
def small(tmp_path: Path) -> SentenceTransformer:
    return tiny_model(tmp_path, BertConfig, byte_pairs(begins=True), "mean")


def test_both_libraries_open_it(small: SentenceTransformer, small_set: EvaluationSet, tmp_path: Path) -> None:
    from model2vec import StaticModel

    before = small.encode(TEXTS)
    job = ExportJob(model=small, source="tiny", destination=tmp_path / "out", sets=(small_set,))
    facts = export_model(job, "static").facts
    np.testing.assert_array_equal(small.encode(TEXTS), before)  # the model itself is left alone
    static = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    vectors = static.encode(TEXTS)
    assert vectors.shape == (3, facts["dimension"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(StaticModel.from_pretrained(tmp_path / "out").encode(TEXTS), vectors, atol=1e-5)
    # No word knows its neighbours.
    both = static.encode(["logs rotate", "rotate logs"])
    assert abs(float(both[0] @ both[1])) > 0.8
    (cost,) = facts["costs"]
    assert cost["queries"] == 12
    assert cost["low"] <= cost["loss"] <= cost["high"]
    assert facts["texts_a_second"]["static"] > facts["texts_a_second"]["model"]
    assert facts["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert str(Path.home()) not in (tmp_path / "out" / "config.json").read_text()
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.slow
def test_minilm_keeps_its_meaning(minilm_reference: str, small_set: EvaluationSet, tmp_path: Path) -> None:
    from multigrain.model.encoder import load

    model = load(minilm_reference, device="cpu")
    job = ExportJob(model=model, source="minilm", destination=tmp_path / "out", sets=(small_set,))
    facts = export_model(job, "static").facts
    (cost,) = facts["costs"]
    assert cost["after"] > 0.9
    assert facts["texts_a_second"]["static"] > 20 * facts["texts_a_second"]["model"]


def test_other_vectors_and_a_missing_package_are_refused(
    small: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ExportJob(model=small, source="tiny", destination=tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_TOLERANCE", -1.0)
        with pytest.raises(ExportError, match=r"model2vec and sentence-transformers are .* apart"):
            export_model(job, "static")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("static"))):
        export_model(job, "static")
    assert not (tmp_path / "out").exists()
