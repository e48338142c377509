"""What only a GPU can measure, prepared for half an hour of one.

    python -m benchmarks.gpu OUT --prepare                 # where there is a network: fetch BoolQ, make the decoder
    python -m benchmarks.gpu OUT                           # every part that has what it needs, the most wanted first
    python -m benchmarks.gpu OUT --dataset RUN --writer MODEL
    python -m benchmarks.gpu OUT --only decoder --budget-seconds 540 --json
    python -m benchmarks.gpu OUT --stand-ins               # a dry run on a CPU, in seconds: its figures say nothing

Parts, in this order; none starts a unit that would, by its units so far, end after ten minutes of one start:

    ata-cost    ATA against mean pooling on a random 12-layer, 768-wide BERT, texts of 512 and of 4,096 tokens, SDPA
                and, where flash_attn is installed, FlashAttention-2, bf16 autocast: a training step, and an encode
    decoder     SmolLM2-135M-Instruct with all its layers, bidirectional and causal; ATA, mean and last token; on BoolQ
                as benchmarks/train_bases.py has it
    schedules   all-MiniLM-L6-v2, 1,600 steps of each schedule, on a data set of --dataset: a folder with
                graded.parquet (or dataset/graded.parquet) as a run leaves it, and a BEIR set to measure by
                (corpus.jsonl, queries.jsonl, qrels/)
    batch       all-MiniLM-L6-v2 on BoolQ: batches of 64, and of 1,024 with gradients cached 64 texts at a time, at the
                same rate and at four times the rate; as many queries are seen by each
    writer      rows a second of the writer --writer (a folder, or a GGUF of the architecture qwen2), queries for
                docstrings as benchmarks/embedded_writer.py asks for them; vLLM where it is installed

A unit is a part's arm with a seed. Each is written to OUT/results.jsonl as soon as it is measured; a second start goes
on with what isn't there, so that many short turns at a GPU add up. A unit that fails is written with its reason, and
done again only with --retry. A part that lacks something says so in a line, and is left for another start.
Seeds are of training: rows and questions are the same for all.

Keys of a line: part, arm, seed, stand_ins, device, torch, took_seconds, peak_memory_mib (on a GPU), and either failed
(the reason) or

    ata-cost           ratio, low, high (ATA / mean, median of pairs and its 95% interval), ata_seconds, mean_seconds,
                       texts (of a step: three columns of so many), tokens, pairs
    decoder, schedules, batch
                       as benchmarks/train_bases.py: model, before, after, difference, low, high (nDCG@10), steps,
                       batch_size, seconds, weights_that_learn; by_query (nDCG@10 of each query after training);
                       schedules also written_share (of negatives that a model wrote)
    writer             rows_a_second (median), rounds (of each), usable (share of rows), load_seconds, runtime

--json prints one object as the last line: results (lines without by_query), left (units not done), and means: of each
arm of a trained part after (its seeds' mean), seeds, and against the part's first arm difference, low, high (95% over
queries and seeds).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from transformers.utils import logging as transformers_logging

from benchmarks import ata_cost, embedded_writer, gpu_stand_ins, train_bases
from benchmarks.gpu_inputs import Place
from benchmarks.labelled import boolq_training_pairs
from benchmarks.units import DATA_SEED, MissingError, Results, Unit, means, reason, told
from benchmarks.whole_batches import open_writer
from multigrain.config import AttentionImplementation
from multigrain.dataset.store import open_examples
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.records import GradedExample, Origin
from multigrain.sources.docstrings import read_docstrings

PART_SECONDS: Final = 600
"""A part starts no unit that would, taking as long as its longest, end after so many seconds of one start."""
SCHEDULES: Final = ("in-batch", "coarse-to-fine", "reverse", "random", "fixed-1", "fixed-2", "fixed-3", "fixed-4")
DECODERS: Final = (
    "smollm2-bidirectional-full",
    "smollm2-bidirectional-ata",
    "smollm2-bidirectional-last",
    "smollm2-causal-full",
    "smollm2-causal-ata",
    "smollm2-causal-mean",
)
"""Variants of `train_bases`; `full` pools the usual way: the mean if bidirectional, the last token if causal."""


def ata_costs(place: Place) -> Iterable[Unit]:
    """Units of ata-cost; FlashAttention-2 is among them where it can be imported."""
    implementations: list[AttentionImplementation] = ["sdpa"]
    if find_spec("flash_attn") is not None and not place.stand_ins:
        implementations.append("flash_attention_2")
    for attention in implementations:
        for tokens, (encoded, trained) in place.sizes.texts.items():
            for what, texts in (("training-step", trained), ("encode", encoded)):
                run = ata_unit(place, attention, what, tokens, texts)
                yield Unit("ata-cost", f"{attention}-{tokens}-{what}", DATA_SEED, run)


def ata_unit(
    place: Place, attention: AttentionImplementation, what: str, tokens: int, texts: int
) -> Callable[[], dict[str, Any]]:
    """A ratio of ATA's time to mean pooling's.

    Args:
        place: what to work with.
        attention: what computes attention.
        what: training-step or encode.
        tokens: of a text.
        texts: of an encode, or of each of a training step's three columns.
    """

    def run() -> dict[str, Any]:
        layers, width = place.sizes.encoder
        how: dict[str, Any] = {"device": place.device, "attention": attention, "bf16": place.device == "cuda"}
        with tempfile.TemporaryDirectory() as folder:
            model = ata_cost.save_twelve_layers(Path(folder), layers=layers, width=width)
            if what == "encode":
                with ata_cost.encoders(model, **how) as encode:
                    sides = [Timed(encode(pooling, tokens, texts)) for pooling in ("ata", "mean")]
            else:
                sides = [
                    Timed(ata_cost.training_step(pooling, texts, reference=model, tokens=tokens, **how))
                    for pooling in ("ata", "mean")
                ]
            name = f"{attention}, {what}, {tokens} tokens: ATA / mean"
            ratio, low, high = ata_cost.ratio(name, sides[0], sides[1], place.sizes.pairs)
        return {
            "ratio": round(ratio, 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "ata_seconds": sides[0].median,
            "mean_seconds": sides[1].median,
            "texts": texts,
            "tokens": tokens,
            "pairs": place.sizes.pairs,
        }

    return run


class Timed:
    """A run that ends when the device has done its work, and remembers how long that took."""

    def __init__(self, run: ata_cost.Run) -> None:
        self.run, self.seconds = run, list[float]()

    def __call__(self) -> None:
        """Run once."""
        started = time.perf_counter()
        self.run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - started)

    @property
    def median(self) -> float:
        """Seconds a run, without the first, in which libraries set themselves up."""
        return round(statistics.median(self.seconds[1:]), 6)


def decoders(place: Place) -> Iterable[Unit]:
    """Units of decoder: a seed of every arm before the next seed."""
    steps, batch = place.sizes.decoder

    def run(arm: str, seed: int) -> dict[str, Any]:
        rows, held_out = place.questions
        return train_bases.run_variant(
            arm,
            place.decoder,
            rows,
            held_out,
            steps=steps,
            batch=batch,
            seed=seed,
            tokens=place.sizes.tokens,
            precision="auto",
            device=place.device,
        )

    return _seeded(place, "decoder", {arm: lambda seed, arm=arm: run(arm, seed) for arm in DECODERS})


def schedules(place: Place) -> Iterable[Unit]:
    """Units of schedules; arms bear the name of the data set, as results of several may stand in one file."""
    path, held_out = place.graded
    steps, batch = place.sizes.schedules

    def run(schedule: str, seed: int) -> dict[str, Any]:
        rows = list(open_examples(path))
        values = {"schedule": schedule, "steps": steps, "batch_size": batch, "learning_rate": 4e-5}
        origins = [each.origin for row in rows for each in row.negatives]
        found = _tuned(place, f"schedule-{schedule}", values, rows, held_out, seed)
        return {**found, "written_share": round(origins.count(Origin.WRITTEN) / len(origins), 4)}

    arms = {f"{held_out.name}/{each}": lambda seed, each=each: run(each, seed) for each in SCHEDULES}
    return _seeded(place, "schedules", arms)


def batches(place: Place) -> Iterable[Unit]:
    """Units of batch: as many queries in few large steps as in many small ones."""
    (small, many), (large, few) = place.sizes.batches
    cached = {"batch_size": large, "steps": few, "mini_batch_size": place.sizes.cached}
    arms: dict[str, dict[str, Any]] = {
        f"{small}": {"batch_size": small, "steps": many, "learning_rate": 3e-5},
        f"{large}": {**cached, "learning_rate": 3e-5},
        f"{large}-rate-x4": {**cached, "learning_rate": 1.2e-4},
    }

    def run(arm: str, seed: int) -> dict[str, Any]:
        rows, held_out = place.questions
        return _tuned(place, f"batch-{arm}", {"schedule": "in-batch", **arms[arm]}, rows, held_out, seed)

    return _seeded(place, "batch", {arm: lambda seed, arm=arm: run(arm, seed) for arm in arms})


def writers(place: Place) -> Iterable[Unit]:
    """The unit of writer."""
    model = Path(place.decoder) if place.stand_ins else place.writer
    if model is None:
        raise MissingError("needs --writer MODEL, a folder or a GGUF file")
    if not model.exists():
        raise MissingError(f"there is no {model}")
    return [Unit("writer", model.name, DATA_SEED, lambda: asyncio.run(write(place, model)))]


async def write(place: Place, model: Path) -> dict[str, Any]:
    """Rows a second of a writer, loading not counted; a round before the first is not counted either.

    Args:
        place: what to work with.
        model: a folder or a GGUF file.
    """
    count, rounds, largest = place.sizes.writing
    started = time.monotonic()
    tokenizer = place.made / f"{model.stem}-tokenizer"
    runtime, llm = await asyncio.to_thread(
        lambda: open_writer(model, device=place.device, folder=tokenizer, largest=largest)
    )
    loading = time.monotonic() - started
    documents = gpu_stand_ins.documents((rounds + 1) * count) if place.stand_ins else read_docstrings()
    speeds, usable = [], []
    for number in range(-1, rounds):
        shown = documents[(number + 1) * count : (number + 2) * count]
        queries, seconds = await embedded_writer.write(
            llm, shown, kind="summary", temperature=0.7, characters=500, seed=number + 1
        )
        if number >= 0:
            speeds.append(round(len(shown) / seconds, 3))
            usable.append(sum(query is not None for query in queries) / len(shown))
    return {
        "rows_a_second": statistics.median(speeds),
        "rounds": speeds,
        "usable": round(statistics.fmean(usable), 3),
        "load_seconds": round(loading, 1),
        "runtime": runtime,
    }


PARTS: Final[dict[str, Callable[[Place], Iterable[Unit]]]] = {
    "ata-cost": ata_costs,
    "decoder": decoders,
    "schedules": schedules,
    "batch": batches,
    "writer": writers,
}


def _seeded(place: Place, part: str, arms: dict[str, Callable[[int], dict[str, Any]]]) -> list[Unit]:
    return [
        Unit(part, arm, seed, lambda run=run, seed=seed: run(seed))  # type: ignore[misc]
        for seed in place.sizes.seeds
        for arm, run in arms.items()
    ]


def _tuned(
    place: Place,
    name: str,
    values: dict[str, Any],
    rows: list[GradedExample],
    held_out: EvaluationSet,
    seed: int,
) -> dict[str, Any]:
    common = {"base_model": place.minilm, "max_seq_length": place.sizes.tokens, "checkpoint_every": 10**6}
    return train_bases.tune(name, {**common, **values}, rows, held_out, seed=seed, device=place.device)


def measure(unit: Unit, place: Place) -> dict[str, Any]:
    """Measure a unit; what goes wrong is in the line that it returns.

    Raises:
        MissingError: the unit's part lacks something.
    """
    started = time.monotonic()
    line: dict[str, Any] = {"part": unit.part, "arm": unit.arm, "seed": unit.seed, "stand_ins": place.stand_ins}
    on_gpu = place.device == "cuda"
    line |= {"device": torch.cuda.get_device_name() if on_gpu else "cpu", "torch": torch.__version__}
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        found = unit.run()
    except MissingError:
        raise
    except Exception as error:
        found = {"failed": reason(error)}
    line["took_seconds"] = round(time.monotonic() - started, 1)
    if on_gpu:
        line["peak_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
    return line | found


def go_on(parts: Sequence[str], place: Place, results: Results, *, seconds: float, retry: bool) -> int:
    """Measure what is not there yet; returns how many units are left, as far as parts could name theirs.

    Args:
        parts: in their order.
        place: what to work with.
        results: what is there, and where to write.
        seconds: of all parts together; what would end later is left.
        retry: do what failed again.
    """
    end, left = time.monotonic() + seconds, 0
    for part in parts:
        last, longest = min(end, time.monotonic() + PART_SECONDS), 0.0
        try:
            place.device  # noqa: B018 - a part without its device says so before it makes anything
            for unit in PARTS[part](place):
                known = results.latest(stand_ins=place.stand_ins).get((unit.part, unit.arm, unit.seed))
                if known is not None and not (retry and "failed" in known):
                    continue
                started = time.monotonic()
                if started + longest >= last:
                    left += 1
                    continue
                line = measure(unit, place)
                results.add(line)
                longest = max(longest, time.monotonic() - started)
                print(told(line), file=sys.stderr, flush=True)
        except MissingError as lack:
            print(f"{part}: skipped: {lack}", file=sys.stderr, flush=True)
        except Exception as error:
            print(f"{part}: skipped: {reason(error)}", file=sys.stderr, flush=True)
    return left


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder; results.jsonl in it is gone on with")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--budget-seconds", type=float, default=1800, help="of all parts together (1800)")
    parser.add_argument("--dataset", type=Path, metavar="FOLDER", help="what schedules trains and measures on")
    parser.add_argument("--writer", type=Path, metavar="MODEL", help="a folder or a GGUF file, for writer")
    parser.add_argument("--cache", type=Path, default=Place.cache, help="where public files are kept")
    parser.add_argument("--prepare", action="store_true", help="fetch and make what needs no GPU, and stop")
    parser.add_argument("--retry", action="store_true", help="do what failed again")
    parser.add_argument("--stand-ins", action="store_true", help="every part on a CPU, in seconds, with tiny models")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    given = parser.parse_args(arguments)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    given.out.mkdir(parents=True, exist_ok=True)
    place = Place(given.out, given.stand_ins, given.dataset, given.writer, given.cache)
    if given.prepare:
        boolq_training_pairs(given.cache)
        print(place.decoder)
        return 0
    results = Results(given.out / "results.jsonl")
    parts = [part for part in PARTS if given.only is None or part in given.only]
    left = go_on(parts, place, results, seconds=given.budget_seconds, retry=given.retry)
    lines = results.latest(stand_ins=given.stand_ins).values()
    if left:
        print(f"{left} units are left; start again to go on", file=sys.stderr)
    if given.json:
        plain = [{key: value for key, value in line.items() if key != "by_query"} for line in lines]
        print(json.dumps({"results": plain, "left": left, "means": means(lines)}, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
