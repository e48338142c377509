"""What the model card says, read from a run's artifacts; nothing in it is guessed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from multigrain.config.paths import STATIC_PREFIX
from multigrain.errors import MultigrainError, RunDirectoryError
from multigrain.report.data import ReportData
from multigrain.report.load import load_report_data
from multigrain.storage.packages import ENCODER_HUB_ID, encoder_name, resolve_encoder
from multigrain.storage.rundir import RunDirectory
from multigrain.training.log import TrainingLog

_UNKNOWN: Final = "unknown"
_ATA: Final = "multigrain.model.pooling.AnchorTokenPooling"


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
class Folder:
    """What the model's folder says of itself.

    Attributes:
        modules: class names of its modules, in order.
        pooling: in words.
        dimension: of its vectors; None where the folder does not say.
        max_tokens: of a text that are read; None where the folder does not say.
        prompts: those that are not empty, by kind.
        needs_multigrain: whether loading takes classes of this package.
        has_adapters: whether it holds adapters, and needs peft and the base to load.
    """

    modules: tuple[str, ...]
    pooling: str
    dimension: int | None
    max_tokens: int | None
    prompts: dict[str, str]
    needs_multigrain: bool
    has_adapters: bool


@dataclass(frozen=True, slots=True)
class CardData:
    """Everything on the card.

    Attributes:
        report: what the run's report shows.
        base: the base model.
        folder: the model itself.
        training: the chosen candidate's log; None where the run keeps none.
        settings: the chosen candidate's settings, as the config resolved them.
        config: the run's config as YAML, paths on this machine cut to their names.
        document_source: the documents' path or kind, cut likewise.
    """

    report: ReportData
    base: BaseModel
    folder: Folder
    training: TrainingLog | None
    settings: dict[str, Any]
    config: str
    document_source: str


def load_card_data(run: RunDirectory) -> CardData:
    """Read what the card of a run's chosen model says.

    Raises:
        StageOrderError: the run has not been evaluated yet.
        RunDirectoryError: an artifact is missing or cannot be understood.
    """
    report = load_report_data(run)
    if not (run.model_path / "modules.json").is_file():
        raise RunDirectoryError(f"{run.model_path}: no model in it; `multigrain evaluate` puts the chosen one there")
    try:
        values = yaml.safe_load(report.reproduction.config or "") or {}
    except yaml.YAMLError as error:
        raise RunDirectoryError(f"{run.config_path}: not valid YAML: {' '.join(str(error).split())}") from None
    training = values.get("training") or {}
    own = (training.get("candidates") or {}).get(report.evaluation.chosen) or {}
    settings = {**training, **{key: value for key, value in own.items() if value is not None}}
    documents = values.get("documents") or {}
    return CardData(
        report=report,
        base=_base(str(training.get("base_model", "auto"))),
        folder=_folder(run.model_path),
        training=next((log for log in report.training if log.candidate == report.evaluation.chosen), None),
        settings=settings,
        config=yaml.safe_dump(_without_places(values), sort_keys=False, allow_unicode=True),
        document_source=Path(str(documents.get("path"))).name if documents.get("path") else str(documents.get("kind")),
    )


def _base(reference: str) -> BaseModel:
    named = encoder_name(reference)
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
    found = stated.get("license") if isinstance(stated, dict) else None
    return str(found) if isinstance(found, str) else None


def needs_multigrain(model: Path) -> bool:
    """Whether loading a model's folder takes classes of this package, which plain sentence-transformers refuses.

    Raises:
        RunDirectoryError: there is no model in the folder.
    """
    return any(kind.startswith("multigrain.") for kind in _module_types(_json(model / "modules.json")))


def _module_types(modules: list[dict[str, Any]]) -> list[str]:
    return [str(each.get("type", "")) for each in modules]


def _folder(path: Path) -> Folder:
    from multigrain.model.replacing import pooling_of

    modules = _json(path / "modules.json")
    types = _module_types(modules)
    places = [path / str(each.get("path", "")) for each in modules]
    settings = _json(path / "config_sentence_transformers.json", {})
    prompts = {kind: text for kind, text in (settings.get("prompts") or {}).items() if text}
    pooling, dimension = _UNKNOWN, None
    for kind, place in zip(types, places, strict=True):
        values = _json(place / "config.json", {}) if place != path else {}
        if kind == _ATA:
            pooling = "anchor-token-aware (ATA)"
            dimension = values.get("embedding_dimension")
        elif kind.endswith(".Pooling"):
            pooling = str(values.get("pooling_mode") or _old_mode(values))
            dimension = values.get("embedding_dimension") or values.get("word_embedding_dimension")
        elif not kind.startswith("sentence_transformers.") and (name := pooling_of(kind)) is not None:
            pooling, dimension = name, values.get("embedding_dimension")
        elif kind.endswith(".StaticEmbedding"):
            pooling = "mean of static token vectors"
    transformer = _json(path / "sentence_bert_config.json", {})
    tokenizer = _json(path / "tokenizer_config.json", {})
    longest = transformer.get("max_seq_length") or tokenizer.get("model_max_length")
    return Folder(
        modules=tuple(kind.rsplit(".", 1)[-1] for kind in types),
        pooling=pooling,
        dimension=int(dimension) if isinstance(dimension, int) else None,
        max_tokens=longest if isinstance(longest, int) and longest < 10**9 else None,
        prompts=prompts,
        needs_multigrain=needs_multigrain(path),
        has_adapters=any(path.rglob("adapter_config.json")),
    )


def _old_mode(values: dict[str, Any]) -> str:
    """The pooling of a folder in the form of sentence-transformers before 6: one flag a mode."""
    modes = [
        key.removeprefix("pooling_mode_") for key, value in values.items() if key.startswith("pooling_mode_") and value
    ]
    return "+".join(modes) or _UNKNOWN


def _json(path: Path, default: Any = None) -> Any:
    if default is not None and not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path}: cannot be read as JSON ({error})") from None


def _without_places(value: Any) -> Any:
    """The same values, absolute paths cut to their last part: a card is for everybody."""
    if isinstance(value, dict):
        return {key: _without_places(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_places(each) for each in value]
    if isinstance(value, str) and value.startswith(("/", "~")):
        return Path(value).name
    return value
