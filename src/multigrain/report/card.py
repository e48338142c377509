"""The chosen model's card: what it is, how it was made, what was measured, and how sure the method is.

All of it is read from the run's artifacts; nothing in it is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from multigrain.config.paths import ADAPTER_FILE
from multigrain.errors import RunDirectoryError
from multigrain.evaluation.metrics import metric_title
from multigrain.evaluation.query_kinds import conclude_all_slices, slice_sentence
from multigrain.evaluation.results import EvaluationResults, ModelScores
from multigrain.evaluation.verdict import conclusions_of
from multigrain.report import headline
from multigrain.report.card_parts import (
    TAG,
    CardParts,
    environment,
    front_matter,
    indexed_set,
    load_parts,
    read_json,
    write_page,
)
from multigrain.report.data import ReportData
from multigrain.report.load import load_report_data
from multigrain.storage.rundir import RunDirectory

_TAGS = ("sentence-transformers", "sentence-similarity", "feature-extraction", TAG)
_UNKNOWN: Final = "unknown"
_ATA: Final = "multigrain.model.pooling.AnchorTokenPooling"


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
class CardData(CardParts):
    """Everything on the card of the chosen model.

    Attributes:
        folder: the model itself.
    """

    folder: Folder


def load_card_data(run: RunDirectory, report: ReportData | None = None) -> CardData:
    """Read what the card of a run's chosen model says.

    Args:
        run: evaluated.
        report: what its report shows, where it has been read.

    Raises:
        StageOrderError: the run has not been evaluated yet.
        RunDirectoryError: an artifact is missing or cannot be understood.
    """
    report = report or load_report_data(run)
    if not any((run.model_path / name).is_file() for name in ("modules.json", ADAPTER_FILE)):
        raise RunDirectoryError(f"{run.model_path}: no model in it; `multigrain evaluate` puts the chosen one there")
    parts = load_parts(run, report, report.evaluation.chosen)
    return CardData(**{each.name: getattr(parts, each.name) for each in fields(parts)}, folder=_folder(run.model_path))


def needs_multigrain(model: Path) -> bool:
    """Whether loading a model's folder takes classes of this package, which plain sentence-transformers refuses.

    Raises:
        RunDirectoryError: there is no model in the folder.
    """
    if (model / ADAPTER_FILE).is_file():
        return True
    types = _module_types(read_json(model / "modules.json"))
    for router in model.rglob("router_config.json"):
        types += map(str, read_json(router).get("types", {}).values())
    return any(kind.startswith("multigrain.") for kind in types)


def _module_types(modules: list[dict[str, Any]]) -> list[str]:
    return [str(module.get("type", "")) for module in modules]


def _folder(path: Path) -> Folder:
    from multigrain.model.replacing import pooling_of

    if (path / ADAPTER_FILE).is_file():
        return _adapter_folder(read_json(path / ADAPTER_FILE))
    listed = read_json(path / "modules.json")
    modules = _query_route(path, listed)
    types = _module_types(modules)
    settings = read_json(path / "config_sentence_transformers.json", {})
    prompts = {kind: text for kind, text in (settings.get("prompts") or {}).items() if text}
    pooling, dimension = _UNKNOWN, None
    for kind, module in zip(types, modules, strict=True):
        folder = path / str(module.get("path", ""))
        values = read_json(folder / "config.json", {}) if folder != path else {}
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
    transformer = read_json(first / "sentence_bert_config.json", {})
    tokenizer = read_json(first / "tokenizer_config.json", {})
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
    router = read_json(path / folder / "router_config.json")
    types, route = router.get("types", {}), router.get("structure", {}).get("query", [])
    return [{"type": types[name], "path": f"{folder}/{name}" if folder else name} for name in route] + modules[1:]


def _old_mode(values: dict[str, Any]) -> str:
    """The pooling of a folder in the form of sentence-transformers before 6: one flag a mode."""
    modes = [
        key.removeprefix("pooling_mode_") for key, value in values.items() if key.startswith("pooling_mode_") and value
    ]
    return "+".join(modes) or _UNKNOWN


def write_card(run: RunDirectory, report: ReportData | None = None) -> Path:
    """Write README.md into the folder of a run's chosen model.

    Args:
        run: evaluated.
        report: what its report shows, where it has been read.

    Returns:
        The card's path.

    Raises:
        StageOrderError: the run has not been evaluated yet.
        RunDirectoryError: an artifact is missing or cannot be understood.
    """
    data = load_card_data(run, report)
    return write_page(run.model_path / "README.md", _front_matter(data), render_card(data))


def render_card(data: CardData) -> str:
    """The card as Markdown, below the hub's YAML."""
    tests = data.report.evaluation.with_role("test")
    return (
        environment()
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


def _compared(evaluation: EvaluationResults) -> set[str]:
    """The models of the table of rivals: these, the base and the model of the card."""
    return {evaluation.base, evaluation.chosen, *(rival.name for rival in evaluation.rivals)}


def _front_matter(data: CardData) -> str:
    of_anchors = data.folder.needs_multigrain and not data.folder.endpoint
    # Validation chose the model, so its figures are no results.
    results = [
        _indexed(row)
        for row in _scores(data)
        if row["tuned"] is not None and row["role"] != "validation" and not row["minor"]
    ]
    tags = (*_TAGS, *(["anchor-token-aware-pooling"] if of_anchors else []))
    return front_matter(data, pipeline_tag="sentence-similarity", tags=tags, results=results)


def _indexed(row: dict[str, Any]) -> dict[str, Any]:
    """A set's figure in the form of the hub's index of results."""
    return {
        "task": {"type": "information-retrieval", "name": "Information Retrieval"},
        "dataset": indexed_set(row["name"]),
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
            "few": result.few_words(result.delta.get(evaluation.chosen)),
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
