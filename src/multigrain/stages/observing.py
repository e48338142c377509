"""The similarity curves of a candidate while it is tuned: what they ask, and where they lie until training is done.

They ask validation queries where the run has any, else rows that are tuned on. Nothing is chosen by them, and no
random number is drawn for them: the same weights come out with them and without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter
from sentence_transformers import SentenceTransformer

from multigrain.config import Config
from multigrain.encoders.encoder import encode
from multigrain.encoders.protocol import Floats, Role
from multigrain.encoders.reference import encoding_precision
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, sample
from multigrain.mining.lexical import LexicalIndex
from multigrain.mining.rules import scale_bands
from multigrain.model.encoder import reading_at_most
from multigrain.model.tuning import as_in_use
from multigrain.storage.files import atomic_write
from multigrain.training.curves import CurvePoint, SimilarityCurves, SimilarityMeter, SimilaritySample

_SEARCHED: Final = 5_000  # documents of a set from which the sample's are taken
_HARD: Final = 20  # documents a query that share its words
_POINTS: Final = TypeAdapter(tuple[CurvePoint, ...])


def validation_sample(sets: Sequence[EvaluationSet], rows: int, config: Config) -> SimilaritySample | None:
    """A sample of the first set's queries: their answers, and half as many documents that share their words.

    Args:
        sets: the validation sets; may be none.
        rows: queries at most.
        config: the run's.

    Returns:
        None where there is no set, or where it has too few documents for four levels.
    """
    if not sets:
        return None
    asked = sample(sets[0], max_queries=rows, max_documents=_SEARCHED, seed=config.seed)
    answers = {
        query: [key for key, grade in asked.qrels[query].items() if grade > 0 and key in asked.corpus]
        for query in asked.queries
    }
    queries = [query for query, keys in answers.items() if keys]
    chosen = dict.fromkeys(key for query in queries for key in answers[query][:1])
    keys = list(asked.corpus)
    ranks = LexicalIndex(list(asked.corpus.values()))([asked.queries[query] for query in queries], _HARD)
    hard = [keys[place] for column in ranks.T.tolist() for place in column if place >= 0]
    for key in (*hard, *keys):  # every query's best before any query's second, then whatever comes first
        if len(chosen) >= 1.5 * len(queries):
            break
        chosen.setdefault(key)
    places = {key: place for place, key in enumerate(chosen)}
    relevant = tuple(frozenset(places[key] for key in answers[query] if key in places) for query in queries)
    others = len(places) - max(map(len, relevant), default=0)
    if not queries or others < len(config.audit.bands):
        return None
    return SimilaritySample(
        source=f"validation queries ({sets[0].provenance})",
        held_out=True,
        queries=tuple(asked.queries[query] for query in queries),
        documents=tuple(asked.corpus[key] for key in chosen),
        positives=tuple(places[answers[query][0]] for query in queries),
        relevant=relevant,
        bands=scale_bands(config.audit.bands, others),
    )


@dataclass
class CurveWatch:
    """Asks the sample while a model is tuned; see `training.Watch`.

    What it has seen lies on the disk, so that a training that is resumed goes on with it. Texts are read as far as
    training reads them.

    Args:
        model: the model, before it is tuned.
        asked: the sample; None asks nothing.
        config: the run's.
        tokens: the most that training reads of a text; None for as much as the model does.
        every: steps between two points.
        path: where the points are kept.
    """

    model: SentenceTransformer
    asked: SimilaritySample | None
    config: Config
    tokens: int | None
    every: int
    path: Path
    points: tuple[CurvePoint, ...] = field(default=(), init=False)
    _meter: SimilarityMeter | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.asked is None:
            return
        with self._asking():
            self._meter = SimilarityMeter(self.asked, self._embed)
        # A resumed training begins with the base again, whatever checkpoint it then reads.
        known = self.path.exists()
        self.points = _POINTS.validate_json(self.path.read_bytes()) if known else (self._meter.before(),)

    def is_due(self, step: int, steps: int) -> bool:
        """After every so many steps, and after the last."""
        return step % self.every == 0 or step == steps

    def look(self, step: int) -> bool:
        """Add a point; never ends the training."""
        if self._meter is not None:
            # What an interrupted training saw beyond the checkpoint that it goes on from, it sees again.
            self.points = (*(point for point in self.points if point.step < step), self._point(step))
            atomic_write(self.path, _POINTS.dump_json(self.points).decode())
        return False

    def curves(self, steps: int, *, changed: bool) -> SimilarityCurves | None:
        """The curves of a finished training; None where nothing was asked.

        Args:
            steps: that the saved model has taken.
            changed: whether the model is another one than after the last step.
        """
        if self._meter is None or self.asked is None:
            return None
        asked = self.asked
        return SimilarityCurves(
            sample=asked.source,
            held_out=asked.held_out,
            rows=len(asked.queries),
            documents=len(asked.documents),
            points=self.points,
            kept=self._point(steps) if changed or self.points[-1].step != steps else None,
        )

    def _point(self, step: int) -> CurvePoint:
        assert self._meter is not None  # noqa: S101 - there is one where anything is asked
        with self._asking():
            return self._meter.point(step)

    def _embed(self, texts: Sequence[str], role: Role) -> Floats:
        # Without the checks of an evaluation: vectors that are all alike are something to report here.
        return encode(self.model, texts, role=role, batch_size=self.config.evaluation.batch_size)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        with (
            encoding_precision(self.config, self.model),
            as_in_use(self.model),
            reading_at_most(self.model, self.tokens),
        ):
            yield
