"""The cards of a run: of the chosen embedder, and of every reranker."""

from __future__ import annotations

from pathlib import Path

from multigrain.config import Config
from multigrain.export.run_model import RunModel, run_models
from multigrain.report.card import write_card
from multigrain.report.load import load_report_data
from multigrain.report.reranker_card import write_reranker_card
from multigrain.storage.rundir import RunDirectory


def write_cards(run: RunDirectory, config: Config, models: list[RunModel] | None = None) -> list[Path]:
    """Write README.md into the folders of models of a run.

    Args:
        run: evaluated.
        config: its own.
        models: which; None for all that can leave it.

    Returns:
        The cards' paths.

    Raises:
        StageOrderError: the run has not been evaluated yet.
        RunDirectoryError: an artifact is missing or cannot be understood.
    """
    report = load_report_data(run)
    return [
        write_reranker_card(run, config, model.name, report) if model.is_reranker else write_card(run, report)
        for model in (run_models(run, config) if models is None else models)
    ]
