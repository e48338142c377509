"""What validation queries choose while a candidate is tuned: its step, its learning rate, and the share to merge.

They search a pool of the documents: the right ones, and those that the base model finds nearest in a sample five times
as large. So a look costs what the pool costs, whatever the corpus holds. The model selection itself
(`stages.evaluation`) searches all documents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Final, Literal

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer

from multigrain.config import Config, TrainingConfig
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.protocol import Encoder, Floats
from multigrain.encoders.query_side import KnownDocuments, QuerySideEncoder
from multigrain.encoders.reference import encoding_precision
from multigrain.evaluation.retrieval import DenseRetriever, mean_ndcg_at_10
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, sample
from multigrain.model.tuning import as_in_use
from multigrain.storage.files import atomic_write

_PATIENCE: Final = 2
_QUERY_SHARE: Final = 5  # documents of the pool for each query
_RANKED: Final = 5  # documents that the base ranks, for each that stays in the pool


def validation_pools(
    sets: Sequence[EvaluationSet], encoder: Encoder, settings: TrainingConfig, *, seed: int
) -> tuple[EvaluationSet, ...]:
    """The validation sets as they are searched while a candidate is tuned.

    Args:
        sets: whole.
        encoder: the base model.
        settings: the candidate's.
        seed: of the sample where a set has more documents than the base is to rank.
    """
    return tuple(_pool(chosen, encoder, settings.validation_documents, seed) for chosen in sets)


def _pool(whole: EvaluationSet, encoder: Encoder, limit: int, seed: int) -> EvaluationSet:
    queries, documents = max(2, limit // _QUERY_SHARE), _RANKED * limit
    asked = sample(whole, max_queries=queries, max_documents=documents, seed=seed)
    if len(asked.corpus) <= limit:
        return asked
    keys, texts = list(asked.corpus), list(asked.corpus.values())
    depth = min(len(keys), limit)
    ranks = DenseRetriever(encoder).rank(list(asked.queries.values()), texts, depth)
    kept = {document for grades in asked.qrels.values() for document in grades}
    for rank in range(depth):  # every query's nearest before any query's second
        for place in ranks[:, rank].tolist():
            if len(kept) >= limit:
                break
            kept.add(keys[place])
    return replace(asked, corpus={key: text for key, text in asked.corpus.items() if key in kept})


@dataclass
class Looks:
    """Asks validation queries while a model is tuned, and keeps the weights that answered best; see `training.Watch`.

    What it has seen lies on the disk, so that a training that is resumed goes on with it.

    Args:
        model: the model that is tuned.
        score: asks the validation queries; gives nDCG@10, 0 to 1.
        every: steps between two looks.
        folder: where scores and the best weights are kept.
    """

    model: SentenceTransformer | CrossEncoder
    score: Callable[[], float]
    every: int
    folder: Path
    scores: dict[int, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self._scores_path.exists():
            kept = json.loads(self._scores_path.read_text(encoding="utf-8"))
            self.scores = {int(step): float(score) for step, score in kept.items()}

    def is_due(self, step: int, steps: int) -> bool:
        """After every so many steps, and after the last."""
        return step % self.every == 0 or step == steps

    def look(self, step: int) -> bool:
        """Score the model as it is; True where it gained nothing two times."""
        # What an interrupted training saw beyond the checkpoint that it goes on from, it will see again.
        self.scores = {seen: score for seen, score in self.scores.items() if seen < step}
        best = max(self.scores.values(), default=-1.0)
        with as_in_use(self.model):
            score = self.score()
        self.scores[step] = score
        if score > best:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = self._weights_path.with_suffix(".part")
            save_file(_trained(self.model), str(partial))
            partial.replace(self._weights_path)
        atomic_write(self._scores_path, json.dumps(self.scores))
        return step - self.best > (_PATIENCE - 1) * self.every

    @property
    def best(self) -> int:
        """The step with the highest score; of equal ones the earliest."""
        return max(self.scores, key=lambda step: (self.scores[step], -step))

    def keep(self, which: Literal["best", "last"]) -> int:
        """Leave the model with the weights to keep, and say after which step they were.

        Args:
            which: best puts the best weights back; last leaves those that are there.
        """
        if which == "last":
            return max(self.scores)
        self._restore()
        return self.best

    @torch.no_grad()
    def _restore(self) -> None:
        kept = load_file(str(self._weights_path))
        for name, weight in self.model.named_parameters():
            if name in kept:
                weight.copy_(kept[name])

    @property
    def _scores_path(self) -> Path:
        return self.folder / "validation.json"

    @property
    def _weights_path(self) -> Path:
        return self.folder / "best.safetensors"


def known_documents(model: SentenceTransformer, sets: Sequence[EvaluationSet], config: Config) -> KnownDocuments:
    """The vectors of all documents of the sets, as every candidate has them whose queries alone are tuned.

    Args:
        model: one whose documents are not tuned.
        sets: validation sets, small enough for memory.
        config: the run's.
    """
    encoder = SentenceTransformerEncoder(model, batch_size=config.evaluation.batch_size)
    vectors: dict[str, Floats] = {}
    with encoding_precision(config, model):
        for chosen in sets:
            # In the order in which they are searched: a text's last bit is that of its batch.
            texts = [chosen.corpus[key] for key in sorted(chosen.corpus, reverse=True)]
            vectors = dict(zip(texts, encoder.encode_documents(texts), strict=True)) | vectors
    return KnownDocuments(vectors)


def validation_score(
    model: SentenceTransformer,
    sets: Sequence[EvaluationSet],
    config: Config,
    documents: KnownDocuments | None = None,
) -> float:
    """nDCG@10 of a model on validation queries, 0 to 1; of several sets the mean over sets.

    Args:
        model: the model.
        sets: what it is asked.
        config: the run's.
        documents: the vectors of all documents of the sets; None embeds them with the model.
    """
    encoder: Encoder = SentenceTransformerEncoder(model, batch_size=config.evaluation.batch_size)
    if documents is not None:
        encoder = QuerySideEncoder(encoder, documents)
    with encoding_precision(config, model):
        return fmean(mean_ndcg_at_10(encoder, chosen) for chosen in sets)


def scores_in_words(scores: Mapping[str, float]) -> str:
    """Scores by what they belong to: "0.25: 0.712, 1: 0.704"."""
    return ", ".join(f"{name}: {score:.3f}" for name, score in scores.items())


def _trained(model: SentenceTransformer | CrossEncoder) -> dict[str, torch.Tensor]:
    return {
        name: weight.detach().cpu().contiguous().clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
