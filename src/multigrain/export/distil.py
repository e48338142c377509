"""Distil a model to mean pooling: the same encoder learns, with mean pooling, the vectors it gives with its own.

For servers that cannot compute ATA pooling. The texts are the run's documents and queries, without labels.
"""

from __future__ import annotations

import copy
import random
import tempfile
from dataclasses import dataclass

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MSELoss
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from multigrain.display.progress import Task
from multigrain.encoders.encoder import SentenceTransformerEncoder, encode
from multigrain.encoders.protocol import Floats, unit_length
from multigrain.errors import ExportError
from multigrain.export.cost import Cost, measure_costs
from multigrain.export.job import DistilSettings, ExportJob
from multigrain.model.pooling import AtaOptions
from multigrain.model.prompts import document_prompt, query_prompt
from multigrain.model.replacing import replace_pooling


@dataclass(frozen=True)
class Distilled:
    """A mean-pooled model and what it lost.

    Attributes:
        model: the student.
        costs: its loss in nDCG@10 on each of the job's sets.
        similarity: mean cosine between its vectors and the teacher's, on texts of the training.
    """

    model: SentenceTransformer
    costs: tuple[Cost, ...]
    similarity: float


def distil_to_mean(job: ExportJob, settings: DistilSettings) -> Distilled:
    """Train a student and measure it.

    Raises:
        ExportError: too few texts.
    """
    student = copy.deepcopy(job.model)
    replace_pooling(student, "mean", AtaOptions())
    with job.progress.task("Distilling to mean pooling", settings.steps, unit="steps") as task:
        similarity = train_student(job.model, student, settings, task)
    teacher, learner = SentenceTransformerEncoder(job.model), SentenceTransformerEncoder(student)
    return Distilled(student, measure_costs(job, teacher, learner, "the distilled model"), similarity)


def train_student(
    teacher: SentenceTransformer, student: SentenceTransformer, settings: DistilSettings, task: Task | None = None
) -> float:
    """Teach a student the teacher's vectors, in place.

    Args:
        teacher: gives the vectors.
        student: a model of the same dimension that learns them.
        settings: texts, steps, learning rate.
        task: is advanced a step at a time.

    Returns:
        Mean cosine between the two models' vectors, over texts of the training, afterwards.

    Raises:
        ExportError: fewer texts than one batch.
    """
    texts = _texts(teacher, settings)
    if len(texts) < settings.batch_size:
        raise ExportError(
            f"distilling needs at least {settings.batch_size} texts, got {len(texts)}; give the run directory, or "
            "documents with --texts"
        )
    # As many as the steps can see, each epoch in a new order.
    random.Random(settings.seed).shuffle(texts)
    total = settings.steps * settings.batch_size
    rows = [texts[number % len(texts)] for number in range(total)]
    distinct = texts[: min(len(texts), total)]
    vectors = dict(zip(distinct, _vectors(teacher, distinct), strict=True))
    data = Dataset.from_dict({"text": rows, "label": [vectors[row] for row in rows]})
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch,
            max_steps=settings.steps,
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=settings.steps // 10,
            use_cpu=student.device.type == "cpu",
            seed=settings.seed,
            save_strategy="no",
            dataloader_pin_memory=student.device.type == "cuda",
            disable_tqdm=True,
            report_to="none",
        )
        student.model_card_data.widget = [{"text": rows[0]}]
        trainer = SentenceTransformerTrainer(
            model=student, args=arguments, train_dataset=data, loss=MSELoss(student), callbacks=[_Advance(task)]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.train()
    student.eval()
    sample = distinct[: 4 * settings.batch_size]
    return float((unit_length(_vectors(student, sample)) * unit_length(_vectors(teacher, sample))).sum(1).mean())


def _texts(model: SentenceTransformer, settings: DistilSettings) -> list[str]:
    """The texts as the transformer reads them, prompts included, each once."""
    prompted = [query_prompt(model) + text for text in settings.queries]
    return list(dict.fromkeys(prompted + [document_prompt(model) + text for text in settings.documents]))


def _vectors(model: SentenceTransformer, texts: list[str]) -> Floats:
    with torch.inference_mode():
        return encode(model, texts, prompt="", normalise=False)


class _Advance(TrainerCallback):
    """Moves a progress bar."""

    def __init__(self, task: Task | None) -> None:
        self._task = task

    def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        """Called by the trainer after every step."""
        if self._task is not None:
            self._task.advance()
