"""How far a run's model puts texts from where its base puts them. Loads both."""

from __future__ import annotations

from contextlib import closing

from multigrain.config import Config
from multigrain.dataset.store import open_examples
from multigrain.encoders.encoder import encode
from multigrain.encoders.protocol import Role
from multigrain.encoders.reference import encoding_precision
from multigrain.evaluation.results import BASE
from multigrain.model.routes import has_routes
from multigrain.report.summaries import evenly_spaced
from multigrain.stages.base import RunContext
from multigrain.stages.models import RunModels
from multigrain.storage.rundir import RunDirectory

_TEXTS = 64


def vectors_moved(run: RunDirectory, config: Config) -> float:
    """Mean distance (1 - cosine) between the two models' vectors of some positives, as what was tuned.

    Args:
        run: with a model and rows.
        config: the run's.

    Raises:
        ModelError: a model cannot be loaded.
    """
    rows = open_examples(run.dataset_path)
    texts = [rows[place].positive for place in evenly_spaced(len(rows), _TEXTS)]
    with closing(RunModels(RunContext(config, run))) as models:
        base = models.model(BASE)
        tuned = models.saved(run.model_path)
        # Where queries alone were tuned, documents are where they were.
        role: Role = "query" if (has_routes(tuned) and not has_routes(base)) or models.is_served else "document"
        with encoding_precision(config, base):
            before, now = (encode(model, texts, role=role) for model in (base, tuned))
    return float(((now - before) ** 2).sum(axis=1).mean() / 2)
