"""The evaluation sets that training rows must not be in: by shared word n-grams, and by similarity of the queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from multigrain.audit.check import Problem
from multigrain.config import Config, DecontaminationConfig, EvaluationSetConfig
from multigrain.encoders.protocol import Encoder, Floats
from multigrain.errors import ConfigError, SourceError
from multigrain.evaluation.sets.beir import as_evaluation_error
from multigrain.evaluation.sets.loading import open_sets
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.sts import SimilaritySet
from multigrain.mining.search import top_k
from multigrain.sources.words import word_ngrams
from multigrain.storage.columns import QUERY, SENTENCES, no_column
from multigrain.storage.rows import read_rows
from multigrain.storage.shards import is_table

_ALL = "evaluation"
_ROUNDING = 1e-5  # equal texts come out a little above 1


@dataclass(frozen=True)
class EvaluationTexts:
    """What training must not have seen of one evaluation set.

    Attributes:
        name: what reasons call the set.
        queries: its queries.
        passages: its relevant passages; empty where they are not looked for.
    """

    name: str
    queries: tuple[str, ...]
    passages: tuple[str, ...] = ()


class Contamination:
    """Finds rows that are in evaluation sets.

    Args:
        sets: the sets.
        config: how much overlap is too much.
        vectors: (number of queries of all sets, d) their reference vectors, in order.
    """

    def __init__(self, sets: Sequence[EvaluationTexts], config: DecontaminationConfig, vectors: Floats) -> None:
        self._config = config
        self._vectors = vectors
        self._names = [texts.name for texts in sets for _ in texts.queries]
        self._texts = [query for texts in sets for query in texts.queries]
        self._queries = self._index((texts.name, texts.queries) for texts in sets)
        self._passages = self._index((texts.name, texts.passages) for texts in sets)

    def check(self, queries: Sequence[str], positives: Sequence[str], vectors: Floats) -> list[Problem | None]:
        """For each row what is wrong with it, or None.

        Args:
            queries: the rows' queries.
            positives: their positives.
            vectors: (n, d) the queries' reference vectors.
        """
        problems = [
            self._overlap(query, self._queries, "query") or self._overlap(positive, self._passages, "positive")
            for query, positive in zip(queries, positives, strict=True)
        ]
        if len(self._vectors) and len(vectors):
            similarities, nearest = top_k(vectors, self._vectors, 1)
            for row in np.flatnonzero(similarities[:, 0] > self._config.max_similarity + _ROUNDING):
                near = int(nearest[row, 0])
                detail = f"similarity {similarities[row, 0]:.2f} to {self._names[near]}: {self._texts[near][:80]}"
                problems[row] = problems[row] or Problem("contaminated", detail)
        return problems

    def _index(self, sets: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, str]:
        name_of: dict[str, str] = {}
        for name, texts in sets:
            for text in texts:
                for gram in word_ngrams(text, self._config.ngram):
                    name_of.setdefault(gram, name)
        name_of.pop("", None)
        return name_of

    def _overlap(self, text: str, name_of: dict[str, str], what: str) -> Problem | None:
        if not name_of:
            return None
        grams = word_ngrams(text, self._config.ngram)
        shared = [name_of[gram] for gram in grams if gram in name_of]
        if len(shared) <= self._config.max_overlap * len(grams) and len(shared) < len(grams):
            return None
        return Problem("contaminated", f"its {what} stands in {shared[0]} ({len(shared)} of {len(grams)} n-grams)")


def find_contamination(config: Config, reference: Encoder) -> Contamination | None:
    """What the audit compares rows with; None where no set is named.

    Raises:
        EvaluationError: a set cannot be read.
        ConfigError: a name is neither a set of the config nor a path.
    """
    if not config.audit.checks.decontamination or not config.audit.decontamination.sets:
        return None
    sets = [_texts(named, config) for named in decontamination_sets(config)]
    queries = [query for texts in sets for query in texts.queries]
    vectors = reference.encode_queries(queries) if queries else np.zeros((0, 1), dtype=np.float32)
    return Contamination(sets, config.audit.decontamination, vectors)


def decontamination_sets(config: Config) -> list[EvaluationSetConfig]:
    """The named sets, each once; a path stands for a set of that name.

    Raises:
        ConfigError: a name is neither a set of the config nor a path.
    """
    by_name = {named.name: named for named in config.evaluation.sets}
    sets: dict[str, EvaluationSetConfig] = {}
    for name in config.audit.decontamination.sets:
        if name == _ALL:
            sets |= by_name
        elif name in by_name:
            sets[name] = by_name[name]
        elif name.startswith("package:") or Path(name).expanduser().exists():
            sets[name] = EvaluationSetConfig(name=name, path=name)
        else:
            raise ConfigError(
                f"audit.decontamination.sets: {name!r} is neither the name of one of evaluation.sets "
                f"({', '.join(by_name) or 'there are none'}) nor a file or folder that exists"
            )
    # Whole, whatever sample is evaluated on: a leak outside of the sample is one all the same.
    return [named.model_copy(update={"max_queries": None, "max_documents": None}) for named in sets.values()]


def _texts(config: EvaluationSetConfig, run: Config) -> EvaluationTexts:
    path = None if config.path is None else Path(config.path).expanduser()
    if path is not None and is_table(path) and path.parent.name != "qrels":
        return EvaluationTexts(config.name, tuple(_queries(path)))
    opened = open_sets([config], seed=run.seed)
    loaded = list(opened.retrieval)
    pairs: list[SimilaritySet] = []
    for task, role in opened.tasks:
        from multigrain.evaluation.sets.mteb_tasks import task_sets

        retrieval, similarity = task_sets(task, role)
        loaded += retrieval.values()
        pairs += similarity.values()
    queries = [query for retrieval in loaded for query in retrieval.queries.values()]
    queries += [text for similarity in pairs for pair in similarity.pairs for text in pair]
    with_passages = loaded if run.audit.decontamination.passages else []
    passages = [text for retrieval in with_passages for text in _relevant_passages(retrieval)]
    return EvaluationTexts(config.name, tuple(queries), tuple(passages))


def _relevant_passages(loaded: EvaluationSet) -> Sequence[str]:
    keys = {key for grades in loaded.qrels.values() for key, grade in grades.items() if grade > 0}
    return [loaded.corpus[key] for key in sorted(keys)]


def _queries(path: Path) -> list[str]:
    """The queries of a table, one a row; or the sentences of a file of pairs, two a row."""
    queries: list[str] = []
    with as_evaluation_error():
        for row in read_rows(path):
            pair = [sentence for column in SENTENCES if (sentence := row.first(column))]
            texts = pair or [row.first(QUERY) or row.first("text")]
            if texts == [None]:
                raise SourceError(f"{row.place}: {no_column(QUERY, row.values)}")
            for text in texts:
                if not isinstance(text, str):
                    raise SourceError(f"{row.place}: {str(text)[:60]!r} is {type(text).__name__}, not text")
                queries.append(text)
    return queries
