"""Export a model: find the exporter, keep the destination whole, note what was made."""

from __future__ import annotations

from pathlib import Path

from multigrain.errors import ConfigError, ExportError
from multigrain.export.job import Exported, ExportJob
from multigrain.export.registry import EXPORTERS
from multigrain.storage.files import atomic_directory


def check_destination(path: Path, *, overwrite: bool) -> None:
    """See that nothing is lost by writing there.

    Raises:
        ConfigError: it holds files already, and overwriting was not asked for; or it is a file.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"--out {path}: is a file; name a folder")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise ConfigError(f"--out {path}: holds files already; name another folder, or replace it with --overwrite")


def export_model(job: ExportJob, form: str) -> Exported:
    """Write a model in another form; the destination appears whole, after the export was checked, or not at all.

    Args:
        job: the model and what is asked for.
        form: the exporter's name.

    Raises:
        ConfigError: no such exporter.
        ExportError: the model cannot be written in that form, or what was written gives other vectors.
        MissingExtraError: a package is missing.
    """
    write = EXPORTERS.get(form)
    try:
        with atomic_directory(job.destination) as folder:
            return write(job, folder)
    except ExportError as error:
        raise ExportError(f"{job.source}: {error}") from error
