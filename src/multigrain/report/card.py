"""The chosen model's card: what it is, how it was made, what was measured, and how sure the method is.

All of it is read from the run's artifacts; nothing in it is guessed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from jinja2 import Environment

from multigrain.config.paths import ADAPTER_FILE, SERVED_PREFIX, STATIC_PREFIX
from multigrain.display.text import one_line, visible
from multigrain.errors import MultigrainError, RunDirectoryError
from multigrain.evaluation.metrics import metric_title
from multigrain.evaluation.query_kinds import conclude_all_slices, slice_sentence
from multigrain.evaluation.results import EvaluationResults, ModelScores
from multigrain.evaluation.verdict import conclusions_of
from multigrain.report import headline
from multigrain.report.data import ReportData
from multigrain.report.load import load_report_data
from multigrain.report.render import new_environment
from multigrain.storage.files import atomic_write
from multigrain.storage.packages import ENCODER_HUB_ID, encoder_name, resolve_encoder
from multigrain.storage.rundir import RunDirectory
from multigrain.training.log import TrainingLog

_TAGS = ("sentence-transformers", "sentence-similarity", "feature-extraction", "multigrain")
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
        routed: whether queries and documents take modules of their own.
        endpoint: the base behind an endpoint that it holds an adapter for; empty for a model that runs here.
    """

    modules: tuple[str, ...]
    pooling: str
    dimension: int | None
    max_tokens: int | None
    prompts: dict[str, str]
    needs_multigrain: bool
    has_adapters: bool
    routed: bool = False
    endpoint: str = ""


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
    if not any((run.model_path / name).is_file() for name in ("modules.json", ADAPTER_FILE)):
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
        config=yaml.safe_dump(_without_folders(values), sort_keys=False, allow_unicode=True),
        document_source=Path(str(documents.get("path"))).name if documents.get("path") else str(documents.get("kind")),
    )


def _base(reference: str) -> BaseModel:
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


def needs_multigrain(model: Path) -> bool:
    """Whether loading a model's folder takes classes of this package, which plain sentence-transformers refuses.

    Raises:
        RunDirectoryError: there is no model in the folder.
    """
    if (model / ADAPTER_FILE).is_file():
        return True
    types = _module_types(_json(model / "modules.json"))
    for router in model.rglob("router_config.json"):
        types += map(str, _json(router).get("types", {}).values())
    return any(kind.startswith("multigrain.") for kind in types)


def _module_types(modules: list[dict[str, Any]]) -> list[str]:
    return [str(module.get("type", "")) for module in modules]


def _folder(path: Path) -> Folder:
    from multigrain.model.replacing import pooling_of

    if (path / ADAPTER_FILE).is_file():
        return _adapter_folder(_json(path / ADAPTER_FILE))
    listed = _json(path / "modules.json")
    modules = _query_route(path, listed)
    types = _module_types(modules)
    settings = _json(path / "config_sentence_transformers.json", {})
    prompts = {kind: text for kind, text in (settings.get("prompts") or {}).items() if text}
    pooling, dimension = _UNKNOWN, None
    for kind, module in zip(types, modules, strict=True):
        folder = path / str(module.get("path", ""))
        values = _json(folder / "config.json", {}) if folder != path else {}
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
    first = path / str(modules[0].get("path", "")) if modules else path
    transformer = _json(first / "sentence_bert_config.json", {})
    tokenizer = _json(first / "tokenizer_config.json", {})
    longest = transformer.get("max_seq_length") or tokenizer.get("model_max_length")
    return Folder(
        modules=tuple(kind.rsplit(".", 1)[-1] for kind in types),
        pooling=pooling,
        dimension=int(dimension) if isinstance(dimension, int) else None,
        max_tokens=longest if isinstance(longest, int) and longest < 10**9 else None,
        prompts=prompts,
        needs_multigrain=needs_multigrain(path),
        has_adapters=any(path.rglob("adapter_config.json")),
        routed=modules is not listed,
    )


def _adapter_folder(note: dict[str, Any]) -> Folder:
    prompts = {kind: str(note.get(f"{kind}_prompt") or "") for kind in ("query", "document")}
    return Folder(
        modules=(f"{note['base']}", f"{note['kind']} adapter of queries"),
        pooling="the endpoint's own",
        dimension=int(note["dimensions"]),
        max_tokens=None,
        prompts={kind: text for kind, text in prompts.items() if text},
        needs_multigrain=True,
        has_adapters=False,
        endpoint=str(note["base"]),
    )


def _query_route(path: Path, modules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A model's modules as its queries meet them: those of a Router's query route instead of the Router itself."""
    if not modules or not str(modules[0].get("type", "")).endswith(".Router"):
        return modules
    folder = str(modules[0].get("path", ""))
    router = _json(path / folder / "router_config.json")
    types, route = router.get("types", {}), router.get("structure", {}).get("query", [])
    return [{"type": types[name], "path": f"{folder}/{name}" if folder else name} for name in route] + modules[1:]


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


def _without_folders(value: Any) -> Any:
    """The same values, absolute paths cut to their last part: a card is for everybody."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and value.startswith(("/", "~")):
        return Path(value).name
    return value


def write_card(run: RunDirectory) -> Path:
    """Write README.md into the folder of a run's chosen model.

    Returns:
        The card's path.

    Raises:
        StageOrderError: the run has not been evaluated yet.
        RunDirectoryError: an artifact is missing or cannot be understood.
    """
    path = run.model_path / "README.md"
    atomic_write(path, render_card(load_card_data(run)))
    return path


def render_card(data: CardData) -> str:
    """The card as Markdown, with the hub's YAML on top; equal data gives an equal card."""
    tests = data.report.evaluation.with_role("test")
    body = (
        _environment()
        .get_template("card.md.jinja")
        .render(
            data=data,
            report=data.report,
            evaluation=data.report.evaluation,
            chosen=data.report.evaluation.chosen,
            log=data.training,
            settings=data.settings,
            statement=headline.headline(data.report.evaluation, data.report.changes),
            scores=_scores(data),
            rivals={rival.name: rival for rival in data.report.evaluation.rivals},
            rival_sets=[result for result in tests if not data.report.evaluation.is_minor(result)],
            compared=_compared(data.report.evaluation),
            slices=conclude_all_slices(data.report.evaluation) if data.report.evaluation.chosen != "base" else (),
            slice_sentence=slice_sentence,
        )
    )
    return f"---\n{_front_matter(data)}---\n\n{body.rstrip()}\n"


def _compared(evaluation: EvaluationResults) -> set[str]:
    """The models of the table of rivals: these, the base and the model of the card."""
    return {evaluation.base, evaluation.chosen, *(rival.name for rival in evaluation.rivals)}


def _front_matter(data: CardData) -> str:
    of_anchors = data.folder.needs_multigrain and not data.folder.endpoint
    values: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": [*_TAGS, *(["anchor-token-aware-pooling"] if of_anchors else [])],
    }
    if data.base.hub_id is not None:
        values["base_model"] = data.base.hub_id
    if data.base.license is not None:
        values["license"] = data.base.license
    # Validation chose the model, so its figures are no results.
    results = [
        _indexed(row)
        for row in _scores(data)
        if row["tuned"] is not None and row["role"] != "validation" and not row["minor"]
    ]
    if results:
        values["model-index"] = [{"name": _flat(data.report.title), "results": results}]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1_000_000)


def _indexed(row: dict[str, Any]) -> dict[str, Any]:
    """A set's figure in the form of the hub's index of results."""
    return {
        "task": {"type": "information-retrieval", "name": "Information Retrieval"},
        "dataset": {"name": _flat(row["name"]), "type": "unknown"},
        "metrics": [
            {"type": row["metric"].lower().replace("@", "_at_"), "value": row["tuned"], "name": row["metric"]}
        ],
    }


def _scores(data: CardData) -> list[dict[str, Any]]:
    """The rows of the table of results: each set with the base's figure, the model's, and the difference."""
    evaluation = data.report.evaluation
    conclusions = {
        conclusion.result.name: conclusion
        for conclusion in conclusions_of(evaluation)
        if conclusion.model == evaluation.chosen
    }
    return [
        {
            "name": result.name,
            "role": result.role,
            "label": result.provenance,
            "written": result.evidence == "written",
            "minor": evaluation.is_minor(result),
            "remarks": result.remarks,
            "queries": result.queries,
            "clusters": result.cluster_words,
            "metric": result.metric,
            "base": _rounded(result.models.get(evaluation.base)),
            "tuned": _rounded(result.models.get(evaluation.chosen)),
            "delta": result.delta.get(evaluation.chosen),
            "verdict": conclusions[result.name].verdict.value if result.name in conclusions else "–",
            "further": {
                metric_title(name): [
                    result.models[model].metrics.get(name)
                    for model in (evaluation.base, evaluation.chosen)
                    if model in result.models
                ]
                for name in result.metric_names
            },
        }
        for result in evaluation.shown
    ]


def _rounded(scores: ModelScores | None) -> float | None:
    return None if scores is None else round(scores.score, 4)


@cache
def _environment() -> Environment:
    # Markdown, not HTML: texts from configs and models go through `plain`, which leaves nothing to be interpreted.
    environment = new_environment(autoescape=False)
    environment.filters.update(plain=_plain, fenced=_fenced)
    return environment


def _plain(value: object) -> str:
    """A text on one line of Markdown, its marks escaped."""
    escaped = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", _flat(value))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _flat(value: object) -> str:
    """A text on one line, so that no line of it can close the YAML above the card or begin a block."""
    return one_line(visible(str(value)))


def _fenced(text: str, language: str = "") -> str:
    """A block of code whose fence no line of the text can close."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
