"""Tiny random models and made-up texts that stand in for the real ones in a dry run of benchmarks/gpu.py."""

from __future__ import annotations

import json
import random
from pathlib import Path

from multigrain.dataset.store import write_examples
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.records import Document, GradedExample

__all__ = ["dataset", "decoder", "documents", "encoder", "held_out", "pairs"]


def encoder(folder: Path) -> Path:
    """A sentence-transformers folder within this one, made anew."""
    return _model("demo", folder)


def decoder(folder: Path) -> Path:
    """A decoder's folder within this one, made anew."""
    return _model("paper-mistral-7b", folder)


def _model(name: str, folder: Path) -> Path:
    from tests.stand_ins import make_stand_in

    return make_stand_in(name, folder / name)


def pairs(count: int) -> list[tuple[str, str]]:
    """So many questions and passages of words that the stand-ins know; a question is its passage's first words."""
    draw = random.Random(2)
    passages = [" ".join(f"w{draw.randrange(200)}" for _ in range(12)) for _ in range(count)]
    return [(" ".join(passage.split()[:4]), passage) for passage in passages]


def documents(count: int) -> list[Document]:
    """So many passages to write queries for."""
    return [Document(id=str(number), text=passage) for number, (_, passage) in enumerate(pairs(count))]


def held_out(texts: list[tuple[str, str]]) -> EvaluationSet:
    """A set in which each question is to find its passage."""
    return EvaluationSet(
        name="stand-in",
        role="test",
        provenance="made up",
        corpus={f"d{number}": passage for number, (_, passage) in enumerate(texts)},
        queries={f"q{number}": question for number, (question, _) in enumerate(texts)},
        qrels={f"q{number}": {f"d{number}": 1} for number in range(len(texts))},
    )


def dataset(folder: Path, rows: list[GradedExample], questions: EvaluationSet) -> Path:
    """A folder within this one with graded rows and a BEIR set, as `--dataset` takes it."""
    made = folder / "stand-in"
    (made / "qrels").mkdir(parents=True, exist_ok=True)
    write_examples(made / "graded.parquet", rows)
    for name, texts in (("corpus", questions.corpus), ("queries", questions.queries)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (made / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    judged = [f"{query}\t{each}\t{grade}" for query, of in questions.qrels.items() for each, grade in of.items()]
    (made / "qrels/test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]), encoding="utf-8")
    return made
