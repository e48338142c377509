"""Batch files for a run: write what is to be asked, read what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from multigrain.config import Config
from multigrain.display.progress import Progress, SilentProgress
from multigrain.engine.local import LocalEngine
from multigrain.errors import ConfigError
from multigrain.llm.build import client_identity
from multigrain.llm.session.journal import Journal
from multigrain.stages.run import run_stages
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.batch import BatchImport, BatchRound, import_batch_results, write_batch_round
from multigrain.synthesis.inputs import heldout_units, read_material, training_units
from multigrain.synthesis.run_strategy import run_strategy

__all__ = ["read_batch", "write_batch"]

_REMEDY: Final = "choose another directory with --run, or remove {folder} to have the documents read again"


def write_batch(
    config: Config, directory: Path, folder: Path, *, again: bool = False, progress: Progress | None = None
) -> BatchRound:
    """Write the requests that a run's rows need next to batch files.

    Args:
        config: the run's; its provider must be an endpoint.
        directory: the run directory; its documents stage is run first if need be.
        folder: where the files go.
        again: write what lies in earlier files again.
        progress: who is told.

    Raises:
        ConfigError: the local model takes no batches.
        RunBusyError: another process works in the directory.
    """
    if config.llm.provider != "openai":
        raise ConfigError(f"llm.provider {config.llm.provider!r} takes no batch files: set it to openai")
    progress = progress or SilentProgress()
    run_stages(config, directory, ["documents"], progress=progress, remedy=_REMEDY)
    with RunDirectory(directory).hold() as held, Journal(held.journal_path) as journal, LocalEngine() as engine:
        strategy = run_strategy(config, held, ask=True, progress=progress)
        material = read_material(config, held)
        units = [*training_units(config, material), *heldout_units(config, material)]
        with progress.task("Collecting requests", None):
            return write_batch_round(
                units,
                strategy,
                journal,
                engine,
                folder,
                identity=client_identity(config.llm),
                model=config.llm.model,
                structured_output=config.llm.structured_output,
                extra_body=config.llm.extra_body,
                again=again,
            )


def read_batch(directory: Path, results: Sequence[Path]) -> BatchImport:
    """Read results and errors files into a run's journal. Reading a file twice changes nothing.

    Args:
        directory: the run directory.
        results: files that the service returned.

    Raises:
        RunDirectoryError: there is no journal, or it cannot be written.
        SourceError: a file is no results file, or belongs to another run.
    """
    run = RunDirectory(directory)
    Journal(run.journal_path, create=False).close()  # before holding the directory makes it
    with run.hold(), Journal(run.journal_path) as journal:
        return import_batch_results(results, journal)
