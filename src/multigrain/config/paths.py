"""Types of settings that name a file, a data set of the hub or a model.

In a config file, relative paths are taken from that file's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ValidationInfo

HUB_MARK: Final = "hf:"
CANDIDATE: Final = "candidate:"
"""Before the name of a candidate of the run, it refers to that candidate once it is trained."""
STATIC_PREFIX: Final = "static:"
ADAPTER_FILE: Final = "query_adapter.json"
"""What marks a folder that holds an adapter for a model behind an endpoint."""
SERVED_PREFIX: Final = "openai:"
"""What references of models behind an endpoint begin with: `openai:MODEL`, or `openai:MODEL@http://host:8080/v1`."""
"""Before a base's reference, it asks for a static model that starts from the base's token embeddings."""

_PLAIN_PATHS: Final = ("./", "../", "~")
_SET_PREFIXES: Final = ("package:", "mteb:")


def is_hub(path: Path) -> bool:
    """Whether a path is a reference to a data set of the hub."""
    return str(path).startswith(HUB_MARK)


@dataclass(frozen=True)
class ConfigFolder:
    """The context in which the values of a config file are validated; other values are taken as they are.

    Attributes:
        folder: the file's.
        set_names: names of its evaluation sets, which are no paths whatever is in the folder.
    """

    folder: Path
    set_names: frozenset[str] = frozenset()

    def path(self, relative: str | Path) -> Path:
        """A path seen from the folder; one from ~ or / stays what it is."""
        return self.folder / Path(relative).expanduser()


def _file_path(path: Path, info: ValidationInfo) -> Path:
    return path if info.context is None else info.context.path(path)


def _input_path(path: Path, info: ValidationInfo) -> Path:
    """References to the hub stay as they are, unless they begin with a dot."""
    if not is_hub(path):
        return _file_path(path, info)
    if info.context is None:
        return path
    name = str(path).removeprefix(HUB_MARK)
    return Path(f"{HUB_MARK}{info.context.folder / name}") if name.startswith(("./", "../")) else path


def model_reference(reference: str, info: ValidationInfo) -> str:
    """A model's folder or file beside the config, where the reference is plainly a path; `a/b` may be a hub id."""
    if reference.startswith(STATIC_PREFIX):
        return STATIC_PREFIX + model_reference(reference.removeprefix(STATIC_PREFIX), info)
    if info.context is None or not reference.startswith(_PLAIN_PATHS):
        return reference
    return str(info.context.path(reference))


def _rival_reference(text: str, info: ValidationInfo) -> str:
    name, named, reference = text.rpartition("=")
    return f"{name}{named}{model_reference(reference, info)}"


def _file_or_name(name: str, info: ValidationInfo) -> str:
    """A file beside the config, where there is one or it is plainly a path; else a hub id, or a set's name."""
    context = info.context
    if context is None or name in context.set_names:
        return name
    path = context.path(name)
    return str(path) if name.startswith(_PLAIN_PATHS) or path.exists() else name


def _evaluation_path(path: str, info: ValidationInfo) -> str:
    return path if info.context is None or path.startswith(_SET_PREFIXES) else str(info.context.path(path))


def _loss_options(options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    guide = options.get("guide")
    return {**options, "guide": model_reference(guide, info)} if isinstance(guide, str) else options


FilePath = Annotated[Path, AfterValidator(_file_path)]
InputPath = Annotated[Path, AfterValidator(_input_path)]
"""A file, a folder, or a data set of the hub."""
ModelReference = Annotated[str, AfterValidator(model_reference)]
RivalReference = Annotated[str, AfterValidator(_rival_reference)]
"""A model's reference, or NAME=REFERENCE."""
FileOrName = Annotated[str, AfterValidator(_file_or_name)]
EvaluationPath = Annotated[str, AfterValidator(_evaluation_path)]
LossOptions = Annotated[dict[str, Any], AfterValidator(_loss_options)]
"""Options of a loss, among which `guide` refers to a model."""
