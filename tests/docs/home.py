"""A folder as readers of the docs have it: documents, a config, a finished run and the files that pages name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.llm.protocol import CompletionRequest, Message
from multigrain.llm.scripted import plausible_answer
from multigrain.model.encoder import build_encoder

_COUNT = 60


def write_home(home: Path, encoder: Path) -> None:
    """Write everything but what a run makes, then make the run.

    Args:
        home: the folder; made here.
        encoder: a small sentence-transformers model that stands for whatever base model a page names.
    """
    texts = [f"w{n} w{n + 60} river engine w{n + 30} w{n + 90} " * 3 for n in range(_COUNT)]
    titles = [f"about w{n} and w{n + 1}" for n in range(_COUNT)]
    (home / "handbook").mkdir(parents=True)
    for number, (title, text) in enumerate(zip(titles, texts, strict=True)):
        (home / "handbook" / f"{number}.md").write_text(f"# {title}\n\n{text}\n", encoding="utf-8")
    write_config(home, encoder, {"provider": "scripted", "prices": {"auto": {"prompt": 1.0, "completion": 2.0}}})
    _write_files(home, titles, texts)
    shutil.copytree(encoder, home / "path" / "to" / "model")
    model: SentenceTransformer = build_encoder(str(encoder), pooling="ata", device="cpu")
    model.save_pretrained(str(home / "path" / "to" / "ata-model"), create_model_card=False)
    done = CliRunner().invoke(app, ["run", str(home / "config.yaml"), "--run", str(home / "runs" / "config")])
    assert done.exit_code == 0, done.output
    for name in ("handbook", "mine"):
        shutil.copytree(home / "runs" / "config", home / "runs" / name)


def write_config(home: Path, encoder: Path, llm: dict[str, Any]) -> None:
    """Write config.yaml: the smallest run of every stage."""
    values = {
        "documents": {"path": str(home / "handbook"), "validation_share": 0.2, "test_share": 0.3},
        "llm": llm,
        "synthesis": {"strategy": "stepwise"},
        "audit": {"round_trip_rank": None, "false_negative_margin": 0.0, "min_level_gap": 0.0, "negatives": "mined"},
        "training": {"base_model": str(encoder), "steps": 2, "batch_size": 4, "max_seq_length": 32},
        "evaluation": {"bootstrap_samples": 200},
    }
    (home / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def answer_batches(home: Path) -> None:
    """What a batch service would do with the files that `multigrain batch write` wrote."""
    rows = []
    for path in sorted((home / "runs" / "config" / "batches").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            request = json.loads(line)
            prompt = Message("user", request["body"]["messages"][-1]["content"])
            answer = {"message": {"content": plausible_answer(CompletionRequest((prompt,)))}, "finish_reason": "stop"}
            body = {"choices": [answer], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
            rows.append({"custom_id": request["custom_id"], "response": {"status_code": 200, "body": body}})
    assert rows
    _lines(home / "results.jsonl", rows)
    (home / "errors.jsonl").touch()


def mark_a_row(home: Path) -> None:
    """The file that the report's explorer downloads, with one row marked bad."""
    first = pq.read_table(home / "runs" / "config" / "dataset" / "graded.parquet").to_pylist()[0]
    _lines(home / "marks.jsonl", [{"id": first["id"], "mark": "bad"}])


def _write_files(home: Path, titles: list[str], texts: list[str]) -> None:
    documents = [{"id": f"d{n}", "text": text} for n, text in enumerate(texts)]
    _lines(home / "documents.jsonl", documents)
    pq.write_table(pa.Table.from_pylist(documents), home / "corpus.parquet")
    _lines(home / "pairs.jsonl", [{"query": a, "positive": b} for a, b in zip(titles, texts, strict=True)])
    triples = zip(titles, texts, reversed(texts), strict=True)
    _lines(home / "their.jsonl", [{"anchor": a, "positive": b, "negative": c} for a, b, c in triples])
    (home / "asked.txt").write_text("\n".join(titles[:3]), encoding="utf-8")
    for folder in (home / "data" / "mine", home / "my-beir-folder"):
        (folder / "qrels").mkdir(parents=True)
        _lines(folder / "corpus.jsonl", [{"_id": document["id"], "text": document["text"]} for document in documents])
        _lines(folder / "queries.jsonl", [{"_id": f"q{n}", "text": titles[n]} for n in range(20)])
        judged = "".join(f"q{n}\td{n}\t1\n" for n in range(20))
        (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", encoding="utf-8")
    pairs = "".join(f"{texts[n]}\t{texts[(n * 7) % _COUNT]}\t{n % 5}\n" for n in range(20))
    (home / "data" / "pairs.tsv").write_text(f"sentence1\tsentence2\tscore\n{pairs}", encoding="utf-8")
    matrix = {"config": "config.yaml", "vary": {"schedule": ["coarse-to-fine", "in-batch"]}}
    (home / "matrix.yaml").write_text(yaml.safe_dump(matrix), encoding="utf-8")


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
