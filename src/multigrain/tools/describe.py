"""A run's data set and its results, opened for a person at a prompt or in a notebook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from multigrain.dataset.store import open_examples
from multigrain.dataset.summary import DatasetSummary, summarise_examples
from multigrain.errors import RunDirectoryError
from multigrain.storage.rundir import RunDirectory

if TYPE_CHECKING:
    from multigrain.evaluation.comparison import Comparison


def describe(run: RunDirectory | str | Path) -> DatasetSummary:
    """Summarise a run's graded data set.

    Args:
        run: the run, or its directory.

    Raises:
        StageOrderError: the run has not been audited.
        RunDirectoryError: the data set cannot be understood.
    """
    opened = _opened(run)
    opened.require("dataset", "multigrain audit")
    try:
        rejected = json.loads(opened.audit_path.read_text(encoding="utf-8"))["rejected"]
        return summarise_examples(open_examples(opened.dataset_path), rejected=rejected)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"{opened.dataset_path.parent}: not in the form of this version ({error}): audit the run again"
        ) from None


def compare(run: RunDirectory | str | Path, *, base: str = "base") -> Comparison:
    """Compare the models that a run evaluated with one of them, on the same queries.

    Args:
        run: the run, its directory, or a folder of results.
        base: the model that the others are compared with.

    Raises:
        EvaluationError: there are no results, or none of the base model.
    """
    from multigrain.evaluation.comparison import compare_stored

    return compare_stored(_opened(run).path, base=base)


def _opened(run: RunDirectory | str | Path) -> RunDirectory:
    return run if isinstance(run, RunDirectory) else RunDirectory(Path(run))
