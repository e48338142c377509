"""The table of export targets, `export.targets` and those of other packages, and the writing of one as a whole."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from multigrain.errors import ConfigError, ExportError
from multigrain.export import targets
from multigrain.plugins import Registry
from multigrain.storage.files import atomic_directory

if TYPE_CHECKING:
    from multigrain.export.job import Exported, Exporter, ExportJob, RerankerJob

# Listed, not imported: an exporter's libraries are loaded when it is asked for.
_MODULES: Final = {
    path.stem.replace("_", "-"): path for folder in targets.__path__ for path in sorted(Path(folder).glob("[a-z]*.py"))
}

EXPORTERS: Final[Registry[Exporter]] = Registry(
    kind="exporter",
    group="multigrain.exporters",
    built_in={name: f"{targets.__name__}.{path.stem}:export" for name, path in _MODULES.items()},
    named_by="--to",
    extras={
        **{name: name for name in ("fastembed", "gguf", "static", "onnx", "openvino")},
        "transformers-js": "onnx",
    },
)


_RERANKER_EXPORTERS: Final = ("onnx", "openvino")
"""The forms of a reranker; each is a module of `export.reranker`."""


def require_reranker_form(form: str, source: str) -> None:
    """See that a reranker has a form, before it is loaded.

    Args:
        form: the exporter's name.
        source: what the user called the reranker.

    Raises:
        ExportError: it has not.
    """
    if form not in _RERANKER_EXPORTERS:
        raise ExportError(
            f"{source}: is a reranker, and --to {form} is for embedders; give --to {' or '.join(_RERANKER_EXPORTERS)}"
        )


def forms() -> str:
    """This package's forms, each with what the first line of its module says, for help: nothing is imported."""
    first_lines = {name: path.read_text(encoding="utf-8").partition("\n")[0] for name, path in _MODULES.items()}
    return " ".join(f"{name}: {line.strip(chr(34))}" for name, line in first_lines.items())


def check_destination(path: Path, *, overwrite: bool) -> None:
    """See that nothing is lost by writing there.

    Raises:
        ConfigError: it holds files already, and overwriting was not asked for; or it is a file.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"--out {path}: is a file; name a folder")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise ConfigError(f"--out {path}: holds files already; name another folder, or replace it with --overwrite")


def export_model(job: ExportJob | RerankerJob, form: str) -> Exported:
    """Write a model in another form; the destination appears whole, after the export was checked, or not at all.

    Args:
        job: the embedder or reranker, and what is asked for.
        form: the exporter's name.

    Raises:
        ConfigError: no such exporter.
        ExportError: the model cannot be written in that form, or what was written gives other vectors.
        MissingExtraError: a package is missing.
    """
    from multigrain.export.job import RerankerJob

    if isinstance(job, RerankerJob):
        require_reranker_form(form, job.source)
        write = import_module(f"multigrain.export.reranker.{form}").export
    else:
        write = EXPORTERS.get(form)
    try:
        with atomic_directory(job.destination) as folder:
            exported: Exported = write(job, folder)
            return exported
    except ExportError as error:
        raise ExportError(f"{job.source}: {error}") from error
