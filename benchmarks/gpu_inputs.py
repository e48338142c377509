"""What the parts of benchmarks/gpu.py work with: sizes, device, models and sets, each made once."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import torch

from benchmarks import gpu_stand_ins, train_bases
from benchmarks.labelled import boolq_training_pairs, question_set
from benchmarks.units import DATA_SEED, MissingError, reason
from multigrain.evaluation.sets.beir import read_beir
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, sample
from multigrain.model.encoder import build_encoder
from multigrain.records import GradedExample


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        seeds: of training.
        encoder: layers and width of the random BERT.
        texts: tokens of a text, to texts of an encode and of a training step's column.
        pairs: of runs, for a ratio.
        tokens: of a text that is read in training.
        rows: of BoolQ to train on.
        queries, documents: held out.
        decoder: steps and rows a step.
        schedules: steps and rows a step.
        batches: rows a step, to steps; and the texts of a cached pass.
        writing: documents of a round, rounds, and requests answered together.
    """

    seeds: tuple[int, ...] = (13, 14, 15)
    encoder: tuple[int, int] = (12, 768)
    texts: dict[int, tuple[int, int]] = field(default_factory=lambda: {512: (64, 32), 4096: (8, 4)})
    pairs: int = 15
    tokens: int = 96
    rows: int = 3200
    queries: int = 500
    documents: int = 1500
    decoder: tuple[int, int] = (100, 32)
    schedules: tuple[int, int] = (1600, 32)
    batches: tuple[tuple[int, int], tuple[int, int]] = ((64, 800), (1024, 50))
    cached: int = 64
    writing: tuple[int, int, int] = (512, 3, 512)


TINY: Final = Sizes(
    seeds=(13,),
    encoder=(2, 64),
    texts={16: (2, 2), 32: (2, 2)},
    pairs=2,
    tokens=32,
    rows=40,
    queries=10,
    documents=20,
    decoder=(2, 4),
    schedules=(4, 4),
    batches=((4, 4), (16, 1)),
    cached=4,
    writing=(3, 2, 2),
)


@dataclass
class Place:
    """What the parts work with.

    Attributes:
        out: the folder of results and of what is made once.
        stand_ins: whether tiny random models and made-up texts stand in for all that is real.
        dataset, writer: as the command names them.
        cache: where public files are kept.
    """

    out: Path
    stand_ins: bool = False
    dataset: Path | None = None
    writer: Path | None = None
    cache: Path = Path("benchmarks/data/.cache")

    @cached_property
    def sizes(self) -> Sizes:
        """Of the real thing, or of its stand-ins."""
        return TINY if self.stand_ins else Sizes()

    @cached_property
    def device(self) -> str:
        """Where to compute, cuda or cpu.

        Raises:
            MissingError: there is no GPU, and nothing stands in for what would take hours without one.
        """
        if not self.stand_ins and not torch.cuda.is_available():
            raise MissingError("needs a CUDA GPU; --stand-ins tries it on a CPU")
        return "cpu" if self.stand_ins else "cuda"

    @cached_property
    def made(self) -> Path:
        """Models and sets that are made once."""
        return self.out / ("stand-ins" if self.stand_ins else "models")

    @cached_property
    def minilm(self) -> str:
        """The encoder that is tuned, and that grades rows."""
        return str(gpu_stand_ins.encoder(self.made)) if self.stand_ins else train_bases.MINILM

    @cached_property
    def decoder(self) -> str:
        """The folder of the decoder that is tuned."""
        if self.stand_ins:
            return str(gpu_stand_ins.decoder(self.made))
        folder = self.made / "smollm2"
        if not folder.exists():
            self.made.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.made) as half:
                train_bases.smollm2(Path(half) / "model", layers=0).rename(folder)
        return str(folder)

    @cached_property
    def questions(self) -> tuple[list[GradedExample], EvaluationSet]:
        """Graded rows to train on, and what is held out.

        Raises:
            MissingError: BoolQ is neither in the cache nor to be fetched.
        """
        sizes = self.sizes
        try:
            pairs = gpu_stand_ins.pairs(2 * sizes.rows) if self.stand_ins else boolq_training_pairs(self.cache)
            whole = gpu_stand_ins.held_out(pairs) if self.stand_ins else question_set("boolq", self.cache)
        except Exception as error:
            raise MissingError(f"BoolQ cannot be read from {self.cache}: {reason(error)}") from None
        pairs = random.Random(DATA_SEED).sample(pairs, min(sizes.rows, len(pairs)))
        held_out = sample(whole, max_queries=sizes.queries, max_documents=sizes.documents, seed=DATA_SEED)
        model = build_encoder(self.minilm, max_seq_length=sizes.tokens, device=self.device)
        return train_bases.graded_rows(pairs, model, seed=DATA_SEED), held_out

    @cached_property
    def graded(self) -> tuple[Path, EvaluationSet]:
        """The file of a data set's rows, and what is held out beside it.

        Raises:
            MissingError: no data set, or one of the two isn't there.
        """
        folder = gpu_stand_ins.dataset(self.made, *self.questions) if self.stand_ins else self.dataset
        if folder is None:
            raise MissingError("needs --dataset FOLDER with graded.parquet and a BEIR set")
        places = (folder / "graded.parquet", folder / "dataset/graded.parquet")
        path = next((each for each in places if each.exists()), None)
        if path is None:
            raise MissingError(f"{folder} holds no graded.parquet")
        try:
            return path, read_beir(folder, name=folder.name, role="test")
        except Exception as error:
            raise MissingError(f"{folder} holds no BEIR set to measure by: {reason(error)}") from None
