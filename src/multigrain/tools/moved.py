"""How far a run's model puts texts from where its base puts them. Loads both."""

from __future__ import annotations

from multigrain.config import Config
from multigrain.dataset.store import open_examples
from multigrain.encoders.encoder import encode
from multigrain.encoders.reference import base_model, encoding_precision
from multigrain.model.encoder import load
from multigrain.report.summaries import evenly_spaced
from multigrain.storage.rundir import RunDirectory

_TEXTS = 64


def vectors_moved(run: RunDirectory, config: Config) -> float:
    """Mean distance (1 - cosine) between the two models' vectors of some positives of the run.

    Args:
        run: with a model and rows.
        config: the run's.

    Raises:
        ModelError: a model cannot be loaded.
    """
    rows = open_examples(run.dataset_path)
    texts = [rows[place].positive for place in evenly_spaced(len(rows), _TEXTS)]
    base = base_model(config)
    tuned = load(str(run.model_path), device=str(base.device))
    with encoding_precision(config, base):
        before = encode(base, texts, role="document")
        now = encode(tuned, texts, role="document")
    return float(((now - before) ** 2).sum(axis=1).mean() / 2)
