"""Train a query adapter for a base behind an endpoint, on a store's vectors, and measure seconds and memory.

    python benchmarks/adapter_speed.py [--rows 1000] [--documents 100000] [--dimensions 384] [--json]

A stand-in for an endpoint gives vectors by rule: a document's are random and of length 1, a query's are those of its
document, turned by the identity and a matrix of rank 8, with noise. The store's export is a .npy file. A fresh
process then does what `multigrain train` does: it takes the store's vectors in, asks for the queries', trains three
ranks at two learning rates, and lets validation queries choose rank, step and strength. `seconds` and `megabytes`
(the most that the process held) are of that process, imports among them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from multigrain.config.file import load_config, parse_config
from multigrain.dataset.store import write_examples
from multigrain.records import LEVELS, Document, GradedExample, Negative, Origin, Split
from multigrain.sources.store import write_document_table
from multigrain.stages.base import RunContext
from multigrain.stages.fingerprints import dataset_fingerprint, documents_fingerprint, synthesis_fingerprint
from multigrain.storage.rundir import RunDirectory

_TURN: Final = 20.0
_RANK: Final = 8
_NOISE: Final = 2.0
_VALIDATION: Final = 500
_NEAREST: Final = 400


def vectors_of(documents: int, dimensions: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of documents, and of a query on each of the first ones: (n, dimensions), of length 1."""
    draw = np.random.default_rng(0)
    table = draw.standard_normal((documents, dimensions), dtype=np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    up, down = (np.linalg.qr(draw.standard_normal((dimensions, _RANK)))[0] for _ in range(2))
    turn = np.eye(dimensions) + _TURN * up @ down.T
    noise = _NOISE * draw.standard_normal((queries, dimensions)) / dimensions**0.5
    asked = (table[:queries] @ turn.T + noise).astype(np.float32)
    return table, asked / np.linalg.norm(asked, axis=1, keepdims=True)


def serve(table: np.ndarray, asked: np.ndarray) -> ThreadingHTTPServer:
    """The stand-in for an endpoint, on a thread of this process."""

    def vector(text: str) -> list[float]:
        kind, _, number = text.partition(" ")
        if kind in ("query", "document"):
            return [float(value) for value in (asked if kind == "query" else table)[int(number)]]
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
        return [float(value) for value in np.random.default_rng(seed).standard_normal(table.shape[1])]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            data = [{"index": place, "embedding": vector(text)} for place, text in enumerate(body["input"])]
            raw = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def prepare(folder: Path, address: str, options: argparse.Namespace, table: np.ndarray, asked: np.ndarray) -> None:
    """A run that is ready to be trained: documents, graded rows, and a store's export."""
    np.save(folder / "vectors.npy", table)
    (folder / "corpus.jsonl").write_text('{"id": "0", "text": "stands for the documents"}\n')
    config = parse_config(
        {
            "documents": {"path": str(folder / "corpus.jsonl")},
            "evaluation": {"queries": "titles"},
            "training": {
                "base_model": f"openai:stand-in@{address}",
                "side": "query",
                "query_adapter": {},
                "document_vectors": {"path": str(folder / "vectors.npy")},
            },
        }
    )
    context = RunContext(config, RunDirectory(folder / "run"))
    with context.run.hold():
        write_document_table(
            context.run.documents_path,
            (
                Document(
                    id=f"d{number}",
                    text=f"document {number}",
                    title=f"query {number}" if options.rows <= number < options.rows + _VALIDATION else None,
                    group=number,
                    split=Split.VALIDATION if options.rows <= number < options.rows + _VALIDATION else Split.TRAIN,
                )
                for number in range(options.documents)
            ),
        )
        context.run.finish("documents", documents_fingerprint(config), {"documents": options.documents}, 0.0)
        context.run.finish("synthesis", synthesis_fingerprint(context), {}, 0.0)
        context.run.heldout_queries_path.write_text("")
        write_examples(context.run.dataset_path, _rows(table, asked[: options.rows]))
        context.run.finish("dataset", dataset_fingerprint(context), {}, 0.0)
        context.save_config()


def _rows(table: np.ndarray, asked: np.ndarray) -> list[GradedExample]:
    """Graded rows: negatives from the ranks that the audit's bands name, the nearest the hardest."""
    rows = []
    for number, similarities in enumerate(asked @ table.T):
        nearest = np.argpartition(-similarities, _NEAREST)[:_NEAREST]
        ranked = [int(place) for place in nearest[np.argsort(-similarities[nearest])] if place != number]
        places = {1: ranked[390], 2: ranked[100], 3: ranked[20], 4: ranked[2]}
        negatives = tuple(
            Negative(f"document {places[int(level)]}", level, Origin.MINED, float(similarities[places[int(level)]]))
            for level in LEVELS
        )
        row = GradedExample(
            id=f"r{number}",
            document_id=f"d{number}",
            query=f"query {number}",
            positive=f"document {number}",
            negatives=negatives,  # type: ignore[arg-type]
            positive_similarity=float(similarities[number]),
        )
        rows.append(row)
    return rows


def train(folder: Path) -> dict[str, Any]:
    """What `multigrain train` does, in this process."""
    from multigrain.stages.table import STAGES

    context = RunContext(load_config(folder), RunDirectory(folder))
    STAGES["training"].run(context)
    counts = context.run.require("models/tuned", "multigrain train").counts
    keys = ("rank", "learning_rate", "merged", "ranks_by_validation", "merged_by_validation")
    return {key: counts[key] for key in keys if key in counts}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Prepare, train in a fresh process, and read its clock and its memory."""
    table, asked = vectors_of(options.documents, options.dimensions, options.rows + _VALIDATION)
    server = serve(table, asked)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, f"http://127.0.0.1:{server.server_address[1]}/v1", options, table, asked)
        environment = {**os.environ, "OPENAI_API_KEY": "none", "PYTHONPATH": os.pathsep.join(sys.path)}
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, __file__, "--train", str(folder / "run")],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        seconds = time.monotonic() - started
    server.shutdown()
    return {
        "rows": options.rows,
        "documents": options.documents,
        "dimensions": options.dimensions,
        "seconds": round(seconds, 1),
        **json.loads(done.stdout.splitlines()[-1]),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        chosen = train(options.train)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        megabytes = round(usage.ru_maxrss / 1024, 1)
        cpu = round(usage.ru_utime + usage.ru_stime, 1)
        print(json.dumps({"megabytes": megabytes, "cpu_seconds": cpu, **chosen}))
        return
    measured = measure(options)
    size = f"{options.rows:,} rows x {options.documents:,} documents"
    words = f"{measured['seconds']} s, {measured['megabytes']} MB for {size}"
    print(json.dumps(measured) if options.json else words)


if __name__ == "__main__":
    main()
