"""Any number of models on any sets, side by side: folders, hub ids, pooling variants, BM25."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast, get_args

from mteb.abstasks.abstask import AbsTask
from sentence_transformers import SentenceTransformer

from multigrain.config import EvaluationSetConfig, PoolingName
from multigrain.errors import EvaluationError
from multigrain.evaluation.embedding_cache import CachedEncoder
from multigrain.evaluation.encoders import SentenceTransformerEncoder, model_fingerprint
from multigrain.evaluation.lexical import BM25Retriever
from multigrain.evaluation.loading import load_evaluation_set
from multigrain.evaluation.mteb_tasks import TaskScore, evaluate_task, find_tasks
from multigrain.evaluation.results import QueryRow, query_rows
from multigrain.evaluation.retrieval import evaluate_retrieval, evaluate_retriever
from multigrain.evaluation.sets import EvaluationSet, Role
from multigrain.evaluation.sts import Floats, SimilaritySet, evaluate_sts, read_sts
from multigrain.model.encoder import build_encoder
from multigrain.progress import Progress, SilentProgress

__all__ = [
    "BM25",
    "Contender",
    "Encoding",
    "OpenedSets",
    "SideBySide",
    "open_sets",
    "parse_contender",
    "parse_set",
    "score_contenders",
]

BM25: Final = "bm25"

_NAMED: Final = re.compile(r"(?P<name>[\w.-]+)=(?P<rest>.+)", re.DOTALL)
_POOLINGS: Final = get_args(PoolingName)
_SIMILARITY_SUFFIXES: Final = (".tsv", ".csv", ".jsonl", ".parquet")
_MTEB: Final = "mteb:"


@dataclass(frozen=True, slots=True)
class Contender:
    """A model that takes part.

    Attributes:
        name: what tables call it.
        reference: `bm25`, a folder, a hub id, `package:NAME` or `auto`.
        pooling: keep (its own), or the pooling that replaces it.
    """

    name: str
    reference: str
    pooling: PoolingName = "keep"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How models are loaded and texts encoded.

    Attributes:
        batch_size: texts encoded at once.
        cache: a folder that keeps embeddings between commands; None keeps them for this one only.
        device: where models run; None lets sentence-transformers choose.
        trust_remote_code: run code that comes with models.
    """

    batch_size: int = 64
    cache: Path | None = None
    device: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class OpenedSets:
    """What models are scored on.

    Attributes:
        retrieval: sets with a corpus.
        similarity: sentence-similarity sets.
        tasks: MTEB tasks, each with what it is for.
    """

    retrieval: tuple[EvaluationSet, ...] = ()
    similarity: tuple[SimilaritySet, ...] = ()
    tasks: tuple[tuple[AbsTask, Role], ...] = ()


@dataclass(slots=True)
class SideBySide:
    """What came out.

    Attributes:
        rows: every query of every retrieval set, for every model.
        sets: the retrieval sets by name, those of MTEB's retrieval tasks among them.
        similarities: similarity set to model to its similarity of each pair.
        tasks: MTEB task to model to its result; tasks that score by query are in `rows` too.
    """

    rows: list[QueryRow] = field(default_factory=list)
    sets: dict[str, EvaluationSet] = field(default_factory=dict)
    similarities: dict[str, dict[str, Floats]] = field(default_factory=dict)
    tasks: dict[str, dict[str, TaskScore]] = field(default_factory=dict)


def parse_contender(text: str) -> Contender:
    """Understand `[NAME=]REFERENCE[@POOLING]`, e.g. `tuned=runs/mine/model`, `auto@cls` or `bm25`.

    Raises:
        EvaluationError: an unknown pooling, or one for BM25.
    """
    named = _NAMED.fullmatch(text)
    name, rest = (named["name"], named["rest"]) if named else (None, text)
    reference, at, pooling = rest.rpartition("@")
    if not at or "/" in pooling:  # an @ inside a path belongs to the path
        reference, pooling = rest, "keep"
    if pooling not in _POOLINGS:
        raise EvaluationError(f"model {text!r}: unknown pooling {pooling!r}; known: {', '.join(_POOLINGS)}")
    if reference == BM25 and pooling != "keep":
        raise EvaluationError(f"model {text!r}: BM25 pools nothing; leave @{pooling} out")
    return Contender(name or rest.rstrip("/"), reference, cast("PoolingName", pooling))


def parse_set(
    text: str, role: Role, max_queries: int | None = None, max_documents: int | None = None
) -> EvaluationSetConfig:
    """Understand `[NAME=]PATH`; a set without a name is called after its folder or file.

    Args:
        text: the option's value.
        role: what the set is for.
        max_queries: take a sample of this many queries.
        max_documents: take a sample of this many documents.
    """
    named = _NAMED.fullmatch(text)
    path = named["rest"] if named else text
    inside = Path(path.removeprefix("package:").removeprefix(_MTEB))
    own_name = f"{inside.parent.name}-{inside.stem}" if path.startswith("package:") else inside.stem
    return EvaluationSetConfig(
        name=named["name"] if named else own_name,
        path=path,
        role="forgetting" if role == "forgetting" else "test",
        max_queries=max_queries,
        max_documents=max_documents,
    )


def open_sets(configs: Sequence[EvaluationSetConfig], *, seed: int) -> OpenedSets:
    """Read sets by what their paths name.

    `mteb:TASK` is an MTEB task or benchmark, a .tsv, .csv, .jsonl or .parquet file a similarity set (unless it lies
    in a `qrels` folder), and anything else a BEIR folder or a data package.

    Args:
        configs: where the sets lie.
        seed: of samples.

    Raises:
        EvaluationError: a set cannot be read or scored, an unknown task, or two sets of one name.
        SourceError: a file cannot be read.
        MissingExtraError: a data package is not installed.
    """
    retrieval: list[EvaluationSet] = []
    similarity: list[SimilaritySet] = []
    tasks: list[tuple[AbsTask, Role]] = []
    for config in configs:
        if config.path.startswith(_MTEB):
            tasks += [(task, config.role) for task in find_tasks([config.path.removeprefix(_MTEB)])]
        elif _is_similarity_file(config.path):
            similarity.append(read_sts(Path(config.path).expanduser(), name=config.name, role=config.role))
        else:
            retrieval.append(load_evaluation_set(config, seed=seed))
    names = [each.name for each in retrieval] + [each.name for each in similarity]
    names += [str(task.metadata.name) for task, _ in tasks]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise EvaluationError(f"two sets are called {repeated!r}; name them: --set NAME=PATH")
    return OpenedSets(tuple(retrieval), tuple(similarity), tuple(tasks))


def score_contenders(
    contenders: Sequence[Contender], sets: OpenedSets, encoding: Encoding, *, progress: Progress | None = None
) -> SideBySide:
    """Score every model on every set, one model in memory at a time.

    BM25 has no vectors: it takes part in retrieval sets only.

    Raises:
        EvaluationError: two models have one name, a model gives unusable vectors, or a task's data is out of reach.
        ModelError: a model cannot be loaded, or needs remote code.
        MissingExtraError: a model's package is not installed.
    """
    names = [each.name for each in contenders]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise EvaluationError(f"two models are called {repeated!r}; name them: NAME=REFERENCE")
    found = SideBySide(sets={each.name: each for each in sets.retrieval})
    told: Progress = progress or SilentProgress()
    for contender in contenders:
        if contender.reference == BM25:
            for each in sets.retrieval:
                found.rows += query_rows(each, contender.name, evaluate_retriever(BM25Retriever(), each))
            continue
        model = build_encoder(
            contender.reference,
            pooling=contender.pooling,
            device=encoding.device,
            trust_remote_code=encoding.trust_remote_code,
        )
        _score_model(contender.name, model, sets, encoding, found, told)
    return found


def _score_model(
    name: str, model: SentenceTransformer, sets: OpenedSets, encoding: Encoding, found: SideBySide, progress: Progress
) -> None:
    total = len(sets.retrieval) + len(sets.similarity) + len(sets.tasks)
    encoder = CachedEncoder(
        SentenceTransformerEncoder(model, batch_size=encoding.batch_size), model_fingerprint(model), encoding.cache
    )
    with progress.task(f"Evaluating {name}", total) as task:
        for retrieval_set in sets.retrieval:
            scores = evaluate_retrieval(encoder, retrieval_set)
            found.rows += query_rows(retrieval_set, name, scores)
            task.advance(note=f"{retrieval_set.name} {scores.ndcg_at_10:.3f}")
        for similarity_set in sets.similarity:
            found.similarities.setdefault(similarity_set.name, {})[name] = evaluate_sts(encoder, similarity_set)
            task.advance(note=similarity_set.name)
        for mteb_task, role in sets.tasks:
            result = evaluate_task(model, mteb_task, role=role, batch_size=encoding.batch_size)
            found.tasks.setdefault(result.task, {})[name] = result
            for made, scores in result.retrieval:
                found.sets[made.name] = made
                found.rows += query_rows(made, name, scores)
            task.advance(note=f"{result.task} {result.score:.3f}")
    encoder.close()


def _is_similarity_file(path: str) -> bool:
    inside = Path(path)
    return not path.startswith("package:") and inside.suffix in _SIMILARITY_SUFFIXES and inside.parent.name != "qrels"
