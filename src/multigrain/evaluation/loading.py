"""From a set's section in the config to a set that can be scored."""

from __future__ import annotations

from pathlib import Path

from multigrain.config import EvaluationSetConfig
from multigrain.evaluation.beir import read_beir
from multigrain.evaluation.packaged import read_packaged
from multigrain.evaluation.sets import EvaluationSet, sample

__all__ = ["load_evaluation_set"]


def load_evaluation_set(config: EvaluationSetConfig, *, seed: int) -> EvaluationSet:
    """Read and sample a configured set.

    Args:
        config: where it lies and how much of it to take.
        seed: of the sample.

    Raises:
        EvaluationError: the set cannot be read or scored; one line says why.
        MissingExtraError: it comes in a package that is not installed.
    """
    if config.path.startswith("package:"):
        whole = read_packaged(config.path, name=config.name, role=config.role)
    else:
        whole = read_beir(Path(config.path).expanduser(), name=config.name, role=config.role)
    return sample(whole, max_queries=config.max_queries, max_documents=config.max_documents, seed=seed)
