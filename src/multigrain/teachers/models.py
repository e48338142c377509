"""The teachers: an embedder, a cross-encoder, a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from sentence_transformers import CrossEncoder, SentenceTransformer

from multigrain.audit.judges import LanguageModelJudge
from multigrain.encoders.batches import about_tokens, token_batches
from multigrain.encoders.cross_encoder import pair_logits
from multigrain.encoders.encoder import encode, model_fingerprint
from multigrain.encoders.protocol import Encoder, Floats, Role, RoleEncoder
from multigrain.model.precision import mixed_precision
from multigrain.records import ScoreScale

_ROWS: Final = 4_096  # pairs whose dot products are taken at once


class TokenBatchEncoder(RoleEncoder):
    """A loaded model that embeds as many texts at once as hold so many tokens; it compares by cosine.

    Args:
        model: the model, with its own prompts.
        batch_tokens: tokens a forward pass, padding among them.
        bf16: compute in bf16 autocast.
    """

    def __init__(self, model: SentenceTransformer, *, batch_tokens: int, bf16: bool = False) -> None:
        self._model, self._batch_tokens, self._bf16 = model, batch_tokens, bf16
        self.fingerprint = model_fingerprint(model)

    def _encode(self, texts: Sequence[str], role: Role) -> Floats:
        vectors = encode(self._model, [], role=role)
        limit = self._model.max_seq_length
        lengths = [about_tokens(len(text), at_most=limit) for text in texts]
        for batch in token_batches(lengths, self._batch_tokens):
            chosen = [texts[place] for place in batch]
            embedded = encode(self._model, chosen, role=role, batch_size=len(chosen), bf16=self._bf16)
            if len(vectors) != len(texts):
                vectors = np.zeros((len(texts), embedded.shape[1]), dtype=np.float32)
            vectors[batch] = embedded
        return vectors


@dataclass(frozen=True)
class EmbedderTeacher:
    """An embedder: the cosine of query and passage.

    Attributes:
        encoder: gives vectors of length 1; one with a cache embeds each text once.
        fingerprint: names all that decides the scores.
    """

    scale: ClassVar[ScoreScale] = ScoreScale.COSINE
    encoder: Encoder
    fingerprint: str

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """A cosine a pair."""
        if not pairs:
            return []
        queries = {query: place for place, query in enumerate(dict.fromkeys(query for query, _ in pairs))}
        passages = {text: place for place, text in enumerate(dict.fromkeys(text for _, text in pairs))}
        asked = self.encoder.encode_queries(list(queries))
        read = self.encoder.encode_documents(list(passages))
        cosines: list[float] = []
        for start in range(0, len(pairs), _ROWS):
            chunk = pairs[start : start + _ROWS]
            left = asked[[queries[query] for query, _ in chunk]]
            right = read[[passages[text] for _, text in chunk]]
            cosines += np.einsum("pd,pd->p", left, right).tolist()
        return cosines


@dataclass(frozen=True)
class CrossEncoderTeacher:
    """A cross-encoder: the log-odds that the passage answers. A sigmoid of them would tell good answers apart no more.

    Attributes:
        model: gives one score a pair.
        batch_tokens: tokens a forward pass, padding among them.
        fingerprint: names all that decides the scores.
        bf16: compute in bf16 autocast, which moves log-odds by a few hundredths.
    """

    scale: ClassVar[ScoreScale] = ScoreScale.LOGIT
    model: CrossEncoder
    batch_tokens: int
    fingerprint: str
    bf16: bool = False

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Log-odds a pair."""
        with mixed_precision(self.model.device, bf16=self.bf16):
            logits: list[float] = pair_logits(self.model, pairs, batch_tokens=self.batch_tokens).tolist()
        return logits


@dataclass(frozen=True)
class JudgeTeacher:
    """The run's language model: its grade from 0 to 5. What the audit has had judged is in the journal already.

    Attributes:
        judge: asks, and keeps the answers.
        fingerprint: names all that decides the scores.
        probabilities: whether the score is the mean over the grades' probabilities, where they are told.
    """

    scale: ClassVar[ScoreScale] = ScoreScale.GRADE
    judge: LanguageModelJudge
    fingerprint: str
    probabilities: bool = False

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float | None]:
        """A grade a pair; None where none came back."""
        grades = self.judge.grades(pairs)
        self.judge.forget()  # they are kept on disk, pair by pair
        return [None if grade is None else grade.expected if self.probabilities else grade.score for grade in grades]
