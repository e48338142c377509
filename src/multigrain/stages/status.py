"""Where a run stands: read from its manifests, its journal and its checkpoints, without disturbing who works there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from multigrain.config import Config
from multigrain.config.file import load_config
from multigrain.errors import ConfigError, MultigrainError, RunDirectoryError
from multigrain.llm.session.usage import read_usage
from multigrain.stages.base import RunContext, run_command_for
from multigrain.stages.table import STAGES
from multigrain.storage.rundir import RunDirectory, StageFailure
from multigrain.storage.shards import is_table, verify_table

StageState = Literal["complete", "begun", "open"]


@dataclass(frozen=True)
class StageStatus:
    """One stage.

    Attributes:
        name: the folder of the run directory: documents, synthesis, dataset, models/NAME or results.
        state: complete, begun (something of it is on disk) or open.
        detail: what there is of it, in a few words.
        seconds: what the session that completed it took; None where it is not complete.
        finished_at: ISO 8601, UTC; empty where it is not complete.
    """

    name: str
    state: StageState
    detail: str = ""
    seconds: float | None = None
    finished_at: str = ""


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    Attributes:
        path: the run directory.
        holder: who works in it now, in words; None for nobody.
        stages: in order.
        journal: what the journal holds; see `Usage.summary`. Empty where there is none.
        report: the report page, where it has been drawn.
        advice: what to do next, in words.
        failure: why the last attempt failed, where nobody is at work and it was not made good since.
    """

    path: Path
    holder: str | None
    stages: tuple[StageStatus, ...]
    journal: Mapping[str, Any] = field(default_factory=dict)
    report: Path | None = None
    advice: str = ""
    failure: StageFailure | None = None


@dataclass(frozen=True)
class Verified:
    """Tables that are what was written.

    Attributes:
        tables: how many there are.
        bytes: in all of them.
    """

    tables: int
    bytes: int


def run_status(path: Path, *, config_file: Path | None = None) -> RunStatus:
    """Look at a run.

    Args:
        path: the run directory.
        config_file: the config that the next command would be given; None for the one that the run is named after,
            where it is here.

    Raises:
        RunDirectoryError: there is no run at `path`.
    """
    run = RunDirectory(path)
    if not _is_run(path):
        raise RunDirectoryError(f"{path}: no run here; `multigrain run CONFIG --run {path}` starts one")
    config = _config(run)
    stages = tuple(_stages(run, config))
    journal = read_usage(run, config).summary() if run.journal_path.is_file() else {}
    report = run.report_path if run.report_path.is_file() else None
    holder = run.holder()
    failure = run.failure() if holder is None else None
    advice = _advice(run, stages, holder, report, config_file or _own_file(run))
    return RunStatus(path, holder, stages, journal, report, advice, failure)


def verify_run(path: Path) -> Verified:
    """Read every table of a run and compare it with its checksums, as after a copy from another machine.

    Raises:
        RunDirectoryError: there is no run at `path`, or tables are not what was written; all of them are named.
    """
    if not _is_run(path):
        raise RunDirectoryError(f"{path}: no run here")
    tables = [
        table
        for table in sorted(path.rglob("*.parquet"))
        if not is_table(table.parent) and not any(part.startswith(".") for part in table.relative_to(path).parts)
    ]
    size, problems = 0, []
    for table in tables:
        try:
            size += verify_table(table)
        except RunDirectoryError as error:
            problems.append(str(error))
    if problems:
        raise RunDirectoryError("; ".join(problems))
    return Verified(len(tables), size)


def runs_in(folder: Path) -> list[Path]:
    """The run directories directly below a folder, by name; none where there is no such folder."""
    return sorted(path for path in folder.glob("*") if _is_run(path))


def _is_run(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in ("lock", "config.yaml", "documents"))


def _config(run: RunDirectory) -> Config | None:
    try:
        return load_config(run.path)
    except ConfigError:  # not saved yet, or an older version's: everything else is worth showing all the same
        return None


def _stages(run: RunDirectory, config: Config | None) -> Iterator[StageStatus]:
    for stage in STAGES.values():
        for folder in stage.folders(config, run):
            manifest = run.manifest(folder)
            if manifest is not None:
                detail = stage.summary(manifest.counts)
                yield StageStatus(folder, "complete", detail, manifest.seconds, manifest.finished_at)
            elif (progress := stage.progress(run, folder, config)) is not None:
                yield StageStatus(folder, "begun", progress)
            else:
                yield StageStatus(folder, "open")


def _advice(
    run: RunDirectory,
    stages: tuple[StageStatus, ...],
    holder: str | None,
    report: Path | None,
    config_file: Path | None,
) -> str:
    if holder is not None:
        return f"{holder} is at work; this shows what was on disk a moment ago"
    if config_file is not None and (changed := _changed(run, config_file)):
        again = run_command_for(config_file, None if run.path == Path("runs") / config_file.stem else run.path)
        shown = f"; {report} shows what was before" if report is not None else ""
        return (
            f"what {config_file} asks for has changed since: {changed}{shown}; "
            f"`{again} --redo` runs it and what follows again"
        )
    if all(stage.state == "complete" for stage in stages) and report is not None:
        return f"complete: open {report}"
    return f"not complete: `multigrain run {_config_words(run)}` continues where it stopped"


def _changed(run: RunDirectory, config_file: Path) -> str:
    """Which settings of a config are other ones than those that the first such stage was completed with."""
    try:
        context = RunContext(load_config(config_file), run)
        return next(filter(None, (stage.changed(context) for stage in STAGES.values())), "")
    except (MultigrainError, OSError):  # what the config names may be gone, which the run will say
        return ""


def _own_file(run: RunDirectory) -> Path | None:
    """The config file that the run is named after, where it is here."""
    own = Path(f"{run.path.name}.yaml")
    return own if run.path.parent == Path("runs") and own.is_file() else None


def _config_words(run: RunDirectory) -> str:
    """What `multigrain run` is to be given: the run where it keeps its config, else the file it is named after."""
    if run.config_path.is_file():
        return str(run.path)
    own = _own_file(run)
    if own is not None:
        return str(own)
    return f"CONFIG --run {run.path}"
