"""The folder that transformers.js opens: its files, and its vectors in real Node and in a real page."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tests.export.many_texts import many_texts
from tests.export.tiny import byte_pairs, tiny_model
from tests.loopback import Loopback
from tests.report.conftest import browser
from transformers import BertConfig, Qwen3Config

from multigrain.encoders.encoder import encode
from multigrain.errors import ExportError
from multigrain.export.javascript.node import PACKAGE, NodeEmbedder, transformers_js
from multigrain.export.job import ExportJob
from multigrain.export.targets import transformers_js as module
from multigrain.model.encoder import build_encoder

__all__ = ["browser"]
VERSION = "4.3.1"


@pytest.fixture(scope="session")
def npm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with transformers.js, as npm installs it; its script would fetch a GPU library."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no Node on PATH (apt-get install nodejs npm)")
    home = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", f"{PACKAGE}@{VERSION}"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False, timeout=280)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {PACKAGE}@{VERSION}: {done.stderr.strip()[-200:]}")
    return home


def written(model: SentenceTransformer, folder: Path, **options: Any) -> Any:
    folder.mkdir()
    return module.export(ExportJob(model=model.eval(), source="it", destination=folder, **options), folder)


@pytest.mark.slow
def test_the_files_that_it_reads(
    tiny_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "transformers_js", lambda home: None)
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="ata", max_seq_length=32, device="cpu")
    model.prompts = {"query": "query: ", "document": ""}
    done = written(model, tmp_path / "out", int8=True)
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "embedder.mjs", "export.json"} <= names
    assert {name for name in names if name.endswith(".onnx")} == {"onnx/model.onnx", "onnx/model_quantized.onnx"}
    assert done.facts["files"] == ["onnx/model.onnx", "onnx/model_quantized.onnx"]
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["model_max_length"] == 32
    reader = (tmp_path / "out" / "embedder.mjs").read_text()
    settings = json.loads(reader.partition("SETTINGS = ")[2].partition(";")[0])
    assert (settings["query_prompt"], settings["max_tokens"], settings["end_tokens"]) == ("query: ", 32, 1)
    assert any("npm install @huggingface/transformers" in line for line in done.lines)
    assert "embedder.py" not in " ".join(done.lines)


def test_where_there_is_no_package_it_is_not_run(tmp_path: Path) -> None:
    assert transformers_js(tmp_path) is None


def test_a_tokenizer_that_cuts_at_the_beginning_is_refused(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="mean", device="cpu")
    model.tokenizer.truncation_side = "left"
    with pytest.raises(ExportError, match="cuts texts at their beginning"):
        written(model, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_models_vectors_in_node(
    minilm_ata: SentenceTransformer, npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(npm)
    minilm_ata.prompts = {"query": "query: ", "document": ""}
    done = written(minilm_ata, tmp_path / "out", int8=True)
    assert (done.facts["transformers_js"], done.facts["max_difference"] < 1e-5) == (VERSION, True)
    texts = many_texts()
    expected = encode(minilm_ata, texts, role="query", normalise=False)
    assert len(texts) >= 200
    for size in (1, 32):
        found = NodeEmbedder(tmp_path / "out", npm).encode_query(texts, batch_size=size)
        assert np.abs(found - expected).max() < 1e-4
    quantised = NodeEmbedder(tmp_path / "out", npm, dtype="q8").encode_query(texts[:20])
    assert 1e-4 < np.abs(quantised - expected[:20]).max() < 0.2
    assert (quantised * expected[:20]).sum(1).min() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["right", "left"])
def test_a_decoders_vectors_in_node(padding: str, npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(npm)
    shape = {"head_dim": 16, "num_key_value_heads": 2}
    model = tiny_model(tmp_path / "tiny", Qwen3Config, byte_pairs("qwen2"), "lasttoken", **shape)
    model.tokenizer.padding_side = padding
    done = written(model, tmp_path / "out")
    assert done.facts["transformers_js"] == VERSION
    assert done.facts["max_difference"] < 1e-4


@pytest.mark.slow
def test_a_prompt_that_is_not_pooled_is_left_out_in_node(
    tiny_folder: Callable[..., Path], npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(npm)
    model = build_encoder(str(tiny_folder(BertConfig)), pooling="mean", device="cpu")
    model[1].include_prompt = False
    model.prompts = {"query": "the quick ", "document": ""}
    done = written(model, tmp_path / "out")
    assert done.facts["max_difference"] < 1e-5


PAGE = """<!doctype html><script type="module">
import * as transformers from "/npm/@huggingface/transformers/dist/transformers.min.js";
import { Embedder } from "/models/out/embedder.mjs";
transformers.env.allowRemoteModels = false;
transformers.env.allowLocalModels = true;
transformers.env.localModelPath = "/models/";
transformers.env.backends.onnx.wasm.wasmPaths = "/npm/onnxruntime-web/dist/";
transformers.env.backends.onnx.wasm.numThreads = 1;
try {
  const embedder = await Embedder.open(transformers, "out");
  window.embed = async (texts, size) => (await embedder.encodeQuery(texts, size)).map((row) => Array.from(row));
} catch (error) { window.problem = String(error); }
window.ready = true;
</script>"""


@pytest.fixture
def site(npm: Path, tmp_path: Path) -> Iterator[str]:
    """The page, the package and the export behind a loopback address."""
    (tmp_path / "site" / "models").mkdir(parents=True)
    (tmp_path / "site" / "npm").symlink_to(npm / "node_modules")
    (tmp_path / "site" / "index.html").write_text(PAGE)

    class Quiet(SimpleHTTPRequestHandler):
        extensions_map = SimpleHTTPRequestHandler.extensions_map | {
            ".mjs": "text/javascript",
            ".wasm": "application/wasm",
        }

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with Loopback(functools.partial(Quiet, directory=str(tmp_path / "site")), "/") as server:
        yield server.url


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(900)
def test_the_models_vectors_in_a_page(
    minilm_ata: SentenceTransformer, browser: Any, site: str, npm: Path, tmp_path: Path
) -> None:
    minilm_ata.prompts = {"query": "query: ", "document": ""}
    written(minilm_ata, tmp_path / "out")
    (tmp_path / "site" / "models" / "out").symlink_to(tmp_path / "out")
    texts = many_texts()
    expected = encode(minilm_ata, texts, role="query", normalise=False)
    page = browser.new_page()
    outside: list[str] = []
    page.on(
        "request",
        lambda request: outside.append(request.url) if not request.url.startswith((site, "blob:", "data:")) else None,
    )
    page.goto(site)
    page.wait_for_function("window.ready", timeout=300_000)
    assert page.evaluate("window.problem ?? null") is None
    for size, some in ((32, slice(None)), (1, slice(0, 40))):
        found = np.array(page.evaluate("([texts, size]) => window.embed(texts, size)", [texts[some], size]))
        assert np.abs(found - expected[some]).max() < 1e-4
    assert outside == []
    page.close()
