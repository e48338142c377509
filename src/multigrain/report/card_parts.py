"""What the cards of a run's models share: their base, their training, the run's config, and Markdown that is safe.

All of it is read from the run's artifacts; nothing in it is guessed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment

from multigrain.config.paths import SERVED_PREFIX, STATIC_PREFIX
from multigrain.display.text import one_line, visible
from multigrain.errors import MultigrainError, RunDirectoryError
from multigrain.report.data import ReportData
from multigrain.report.load import read_artifact
from multigrain.report.render import new_environment
from multigrain.storage.files import atomic_write
from multigrain.storage.packages import ENCODER_HUB_ID, encoder_name, resolve_encoder
from multigrain.storage.rundir import RunDirectory
from multigrain.training.log import TrainingLog

TAG = "multigrain"
"""What every card is tagged with, beside its library's own tags."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Where the model came from.

    Attributes:
        name: for people: a hub id, `package:NAME`, or the last part of a folder's path.
        hub_id: its id on the hub, where it has one.
        license: as its own card states it; None where it states none or is not at hand.
    """

    name: str
    hub_id: str | None
    license: str | None


@dataclass(frozen=True, slots=True)
class CardParts:
    """What every card says.

    Attributes:
        report: what the run's report shows.
        base: the base model.
        training: the model's log; None where the run keeps none.
        settings: the model's settings, as the config resolved them.
        config: the run's config as YAML, paths on this machine cut to their names.
        document_source: the documents' path or kind, cut likewise.
    """

    report: ReportData
    base: BaseModel
    training: TrainingLog | None
    settings: dict[str, Any]
    config: str
    document_source: str


def load_parts(run: RunDirectory, report: ReportData, candidate: str) -> CardParts:
    """Read what the card of one candidate says, whatever kind it is of.

    Args:
        run: evaluated.
        report: what its report shows.
        candidate: its name.

    Raises:
        RunDirectoryError: an artifact cannot be understood.
    """
    try:
        values = yaml.safe_load(report.reproduction.config or "") or {}
    except yaml.YAMLError as error:
        raise RunDirectoryError(f"{run.config_path}: not valid YAML: {' '.join(str(error).split())}") from None
    training = values.get("training") or {}
    own = (training.get("candidates") or {}).get(candidate) or {}
    settings = {**training, **{key: value for key, value in own.items() if value is not None}}
    documents = values.get("documents") or {}
    return CardParts(
        report=report,
        base=base_model_of(str(training.get("base_model", "auto"))),
        training=read_artifact(run.candidate_path(candidate) / "training_log.json", TrainingLog),
        settings=settings,
        config=yaml.safe_dump(_without_folders(values), sort_keys=False, allow_unicode=True),
        document_source=Path(str(documents.get("path"))).name if documents.get("path") else str(documents.get("kind")),
    )


def front_matter(parts: CardParts, *, pipeline_tag: str, tags: tuple[str, ...], results: list[dict[str, Any]]) -> str:
    """The hub's YAML.

    Args:
        parts: what the card says.
        pipeline_tag: the hub's name of what the model does.
        tags: of the model.
        results: in the form of the hub's index; may be empty.
    """
    values: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": pipeline_tag,
        "tags": list(tags),
    }
    if parts.base.hub_id is not None:
        values["base_model"] = parts.base.hub_id
    if parts.base.license is not None:
        values["license"] = parts.base.license
    if results:
        values["model-index"] = [{"name": flat(parts.report.title), "results": results}]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1_000_000)


def indexed_set(name: str) -> dict[str, str]:
    """A set in the form of the hub's index.

    Its type is its name in small letters: huggingface_hub merges results of one task and type when a card is read and
    saved, whatever they are called.
    """
    return {"name": flat(name), "type": re.sub(r"[^\w.]+", "-", flat(name).lower()).strip("-") or "unknown"}


def write_page(path: Path, front: str, body: str) -> Path:
    """Write a card, its YAML on top; equal parts give an equal card."""
    atomic_write(path, f"---\n{front}---\n\n{body.rstrip()}\n")
    return path


def base_model_of(reference: str) -> BaseModel:
    """Where a base that a config names came from."""
    named = encoder_name(reference)
    if reference.startswith(SERVED_PREFIX):
        return BaseModel(named.partition("@http")[0], None, None)
    try:
        folder = Path(resolve_encoder(reference.removeprefix(STATIC_PREFIX))).expanduser()
    except MultigrainError:
        folder = Path()  # its package is no longer installed: the name is all that is known
    local = folder.is_dir() and folder != Path()
    if named.startswith("package:"):
        hub_id = ENCODER_HUB_ID if named == encoder_name("auto") else None
        return BaseModel(named, hub_id, _stated_license(folder) if local else None)
    if local:
        return BaseModel(folder.resolve().name, None, _stated_license(folder))
    is_path = named.startswith(("/", ".", "~")) or named.count("/") > 1
    return BaseModel(Path(named).name if is_path else named, None if is_path or "/" not in named else named, None)


def _stated_license(folder: Path) -> str | None:
    """The licence in the front matter of a model's own card."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    try:
        stated = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except yaml.YAMLError:
        return None
    licence = stated.get("license") if isinstance(stated, dict) else None
    return licence if isinstance(licence, str) else None


def read_json(path: Path, default: Any = None) -> Any:
    """A JSON file of a model's folder; `default`, where there is one, stands for a missing one."""
    if default is not None and not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path}: cannot be read as JSON ({error})") from None


def _without_folders(value: Any) -> Any:
    """The same values, absolute paths cut to their last part: a card is for everybody."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and value.startswith(("/", "~")):
        return Path(value).name
    return value


@cache
def environment() -> Environment:
    """What draws cards."""
    # Markdown, not HTML: texts from configs and models go through `plain`, which leaves nothing to be interpreted.
    drawing = new_environment(autoescape=False, keep_trailing_newline=True)
    drawing.filters.update(plain=_plain, fenced=_fenced)
    return drawing


def _plain(value: object) -> str:
    """A text on one line of Markdown, its marks escaped."""
    escaped = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", flat(value))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def flat(value: object) -> str:
    """A text on one line, so that no line of it can close the YAML above the card or begin a block."""
    return one_line(visible(str(value)))


def _fenced(text: str, language: str = "") -> str:
    """A block of code whose fence no line of the text can close."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
