"""Write a run's report page."""

from __future__ import annotations

from pathlib import Path

from multigrain.report.load import load_report_data
from multigrain.report.render import render_report
from multigrain.storage.files import atomic_write
from multigrain.storage.rundir import RunDirectory


def write_report(run: RunDirectory) -> Path:
    """Draw the page from the run's artifacts and put it in the run directory, whole or not at all.

    Returns:
        The page's path.

    Raises:
        StageOrderError: the run has not been evaluated yet.
        RunDirectoryError: an artifact is there but cannot be understood.
    """
    atomic_write(run.report_path, render_report(load_report_data(run)))
    return run.report_path
