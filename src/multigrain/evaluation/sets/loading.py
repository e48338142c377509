"""From a set's section in the config to a set that can be scored."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from multigrain.config import EvaluationSetConfig
from multigrain.errors import EvaluationError
from multigrain.evaluation.sets.beir import read_beir, read_judged
from multigrain.evaluation.sets.packaged import read_packaged
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, Role, sample
from multigrain.evaluation.sets.sts import SimilaritySet, read_sts
from multigrain.sources.beir import BeirFiles

if TYPE_CHECKING:  # MTEB takes seconds to import, which few sets need
    from mteb.abstasks.abstask import AbsTask

MTEB: Final = "mteb:"


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

    def __len__(self) -> int:
        """How many sets there are."""
        return len(self.retrieval) + len(self.similarity) + len(self.tasks)


def load_evaluation_set(config: EvaluationSetConfig, *, seed: int) -> EvaluationSet:
    """Read and sample a configured retrieval set.

    Args:
        config: where it lies and how much of it to take.
        seed: of the sample.

    Raises:
        EvaluationError: the set cannot be read or scored; one line says why.
        MissingExtraError: it comes in a package that is not installed.
    """
    name, role, cluster_by, slice_by = config.name, config.role, config.cluster_by, config.slice_by
    if config.path is None:
        paths = (Path(str(file)).expanduser() for file in (config.documents, config.queries, config.qrels))
        whole = read_judged(BeirFiles(*paths), name=name, role=role, cluster_by=cluster_by, slice_by=slice_by)
    elif config.path.startswith("package:"):
        whole = read_packaged(config.path, name=name, role=role)
    else:
        folder = Path(config.path).expanduser()
        whole = read_beir(folder, name=name, role=role, cluster_by=cluster_by, slice_by=slice_by)
    chosen = sample(whole, max_queries=config.max_queries, max_documents=config.max_documents, seed=seed)
    if len(chosen.queries) > 1 and len(set(chosen.asked_by.values())) == 1:
        (value,) = set(chosen.asked_by.values())
        raise EvaluationError(
            f"evaluation set {name!r}: all {len(chosen.queries):,} queries have {value!r} in the column "
            f"{cluster_by!r}, and one cluster says nothing of others; name a column with different values, or leave "
            "cluster_by out"
        )
    return chosen


def open_sets(configs: Sequence[EvaluationSetConfig], *, seed: int) -> OpenedSets:
    """Read sets by what their paths name.

    `mteb:TASK` is an MTEB task or benchmark, a .tsv, .csv, .jsonl or .parquet file a similarity set (unless it lies
    in a `qrels` folder), and anything else a BEIR folder or a data package.

    Args:
        configs: where the sets lie.
        seed: of samples.

    Raises:
        EvaluationError: a set cannot be read or scored, an unknown task, or two sets of one name.
        MissingExtraError: a data package is not installed.
    """
    retrieval: list[EvaluationSet] = []
    similarity: list[SimilaritySet] = []
    tasks: list[tuple[AbsTask, Role]] = []
    for config in configs:
        if config.path is not None and config.kind == "task":
            from multigrain.evaluation.sets.mteb_tasks import find_tasks

            tasks += [(task, config.role) for task in find_tasks([config.path.removeprefix(MTEB)])]
        elif config.path is not None and config.kind == "similarity":
            similarity.append(_similarity_set(config, config.path, seed))
        else:
            retrieval.append(load_evaluation_set(config, seed=seed))
    names = [opened.name for opened in retrieval] + [opened.name for opened in similarity]
    names += [str(task.metadata.name) for task, _ in tasks]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise EvaluationError(f"two sets are called {repeated!r}; give each a name of its own (--set NAME=PATH)")
    return OpenedSets(tuple(retrieval), tuple(similarity), tuple(tasks))


def _similarity_set(config: EvaluationSetConfig, path: str, seed: int) -> SimilaritySet:
    whole = read_sts(Path(path).expanduser(), name=config.name, role=config.role)
    if config.max_queries is None or config.max_queries >= len(whole.pairs):
        return whole
    sampled = sorted(random.Random(seed).sample(range(len(whole.pairs)), config.max_queries))
    return replace(whole, pairs=tuple(whole.pairs[n] for n in sampled), gold=tuple(whole.gold[n] for n in sampled))


_NAMED: Final = re.compile(r"(?P<name>[\w.-]+)=(?P<rest>.+)", re.DOTALL)
_OWN_FILES: Final = ("queries", "documents", "qrels")


def parse_set(
    text: str,
    role: Role,
    max_queries: int | None = None,
    max_documents: int | None = None,
    *,
    cluster_by: str | None = None,
    slice_by: Sequence[str] = (),
) -> EvaluationSetConfig:
    """Understand `[NAME=]PATH` or `[NAME=]QUERIES,DOCUMENTS,QRELS`; a set without a name is called after its path.

    Args:
        text: the option's value.
        role: what the set is for.
        max_queries: take a sample of this many queries; MTEB tasks are taken whole.
        max_documents: take a sample of this many documents.
        cluster_by: a column of the queries, see `read_judged`; not heeded by sets without a file of queries.
        slice_by: columns of the queries, likewise.
    """
    named = _NAMED.fullmatch(text)
    path = named["rest"] if named else text
    files = path.split(",")
    is_own_files = len(files) == len(_OWN_FILES) and not Path(path).exists()
    inside = Path(files[-1].removeprefix("package:").removeprefix(MTEB))
    default_name = f"{inside.parent.name}-{inside.stem}" if path.startswith("package:") else inside.stem
    whole = path.startswith(MTEB)
    parts = dict(zip(_OWN_FILES, files, strict=True)) if is_own_files else {"path": path}
    read = EvaluationSetConfig(name="set", **parts).has_columns
    return EvaluationSetConfig(
        name=named["name"] if named else default_name,
        role="forgetting" if role == "forgetting" else "test",
        max_queries=None if whole else max_queries,
        max_documents=None if whole else max_documents,
        cluster_by=cluster_by if read else None,
        slice_by=list(slice_by) if read else [],
        **parts,
    )
