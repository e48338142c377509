"""The evaluation sets that training rows must not be in, as the audit compares with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multigrain.audit.contamination import Contamination, EvaluationTexts
from multigrain.config import Config, EvaluationSetConfig
from multigrain.encoders.reference import ReferenceModel
from multigrain.errors import ConfigError, SourceError
from multigrain.evaluation.sets.beir import as_evaluation_error
from multigrain.evaluation.sets.loading import open_sets
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.sts import SimilaritySet
from multigrain.mining.distributed import SpreadReference
from multigrain.storage.columns import QUERY, SENTENCES, no_column
from multigrain.storage.rows import read_rows
from multigrain.storage.shards import is_table

__all__ = ["decontamination_sets", "find_contamination"]

_ALL = "evaluation"


def find_contamination(config: Config, reference: ReferenceModel | SpreadReference) -> Contamination | None:
    """What the audit compares rows with; None where no set is named.

    Raises:
        EvaluationError: a set cannot be read.
        ConfigError: a name is neither a set of the config nor a path.
    """
    if not config.audit.checks.decontamination or not config.audit.decontamination.sets:
        return None
    sets = [_texts(each, config) for each in decontamination_sets(config)]
    queries = [query for each in sets for query in each.queries]
    vectors = reference.embed_queries(queries) if queries else np.zeros((0, 1), dtype=np.float32)
    return Contamination(sets, config.audit.decontamination, vectors)


def decontamination_sets(config: Config) -> list[EvaluationSetConfig]:
    """The named sets, each once; a path stands for a set of that name.

    Raises:
        ConfigError: a name is neither a set of the config nor a path.
    """
    known = {each.name: each for each in config.evaluation.sets}
    found: dict[str, EvaluationSetConfig] = {}
    for name in config.audit.decontamination.sets:
        if name == _ALL:
            found |= known
        elif name in known:
            found[name] = known[name]
        elif name.startswith("package:") or Path(name).expanduser().exists():
            found[name] = EvaluationSetConfig(name=name, path=name)
        else:
            raise ConfigError(
                f"audit.decontamination.sets: {name!r} is neither the name of one of evaluation.sets "
                f"({', '.join(known) or 'there are none'}) nor a file or folder that exists"
            )
    # Whole, whatever sample is evaluated on: a leak outside of the sample is one all the same.
    return [each.model_copy(update={"max_queries": None, "max_documents": None}) for each in found.values()]


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
    queries = [query for each in loaded for query in each.queries.values()]
    queries += [text for each in pairs for pair in each.pairs for text in pair]
    wanted = loaded if run.audit.decontamination.passages else []
    passages = [text for each in wanted for text in _relevant_passages(each)]
    return EvaluationTexts(config.name, tuple(queries), tuple(passages))


def _relevant_passages(loaded: EvaluationSet) -> Sequence[str]:
    wanted = {key for grades in loaded.relevant.values() for key, grade in grades.items() if grade > 0}
    return [loaded.corpus[key] for key in sorted(wanted)]


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
