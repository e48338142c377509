"""What can be seen to be wrong before anything is paid for: prices, model, evaluation sets, titles.

Cheap checks of what the later stages of a run will need. Each raises the error that the stage itself would raise,
hours and dollars later.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from multigrain.config import Config, EvaluationSetConfig, TrainingConfig
from multigrain.errors import EvaluationError, MissingExtraError
from multigrain.llm.prices import find_price
from multigrain.llm.session.budget import require_price
from multigrain.records import Document, Split
from multigrain.sources.store import read_document_table
from multigrain.stages.context import RunContext
from multigrain.training.losses.registry import guide_of

__all__ = ["check_model", "check_prices", "check_sets", "check_titles", "preflight"]

_READ_WHOLE: Final = 300_000_000  # bytes; larger sets are only looked for


def preflight(context: RunContext, stages: Sequence[str]) -> None:
    """Check, after the documents have been read and before the language model is asked, what later stages need.

    Args:
        context: the run.
        stages: those that will be run; what only others need is not checked.

    Raises:
        ModelError: the base or reference model cannot be loaded, or not as it is asked for.
        MissingExtraError: a package is not installed.
        EvaluationError: a set cannot be read, or titles are asked for and there are none.
    """
    config = context.config
    if "training" in stages:
        for name in config.training.candidates:
            settings = config.training.resolve(name)
            check_model(settings)
            if (guide := guide_of(settings)) is not None:
                _check_other(config, guide)
        if config.audit.reference_model != "auto":
            _check_other(config, config.audit.reference_model)
    if "evaluation" in stages:
        check_sets(config)
        if config.evaluation.queries == "titles":
            check_titles(config, read_document_table(context.run.documents_path))


def check_prices(config: Config) -> None:
    """See that a limit on the cost can be kept: that the price of every model which may be asked is known.

    Looks at the config alone, so that it can be done before the documents are read.

    Raises:
        ConfigError: there is a limit, and a price is missing.
    """
    limit, other = config.synthesis.max_cost, config.evaluation.llm
    require_price(find_price(config.llm), limit, model=config.llm.model)
    if other is not None and config.start_from != "pairs" and config.evaluation.queries in ("auto", "synthetic"):
        require_price(find_price(other), limit, model=other.model, section="evaluation.llm")


def check_model(settings: TrainingConfig) -> None:
    """See that a base model is there and can be tuned as asked, without loading its weights.

    Raises:
        ModelError: it cannot.
        MissingExtraError: a package is not installed.
    """
    from multigrain.model.adapters import quantization
    from multigrain.model.checking import check_reference

    check_reference(
        settings.base_model,
        max_seq_length=settings.max_seq_length,
        attention=settings.attention,
        trust_remote_code=settings.trust_remote_code,
    )
    if settings.lora is not None and find_spec("peft") is None:
        raise MissingExtraError("peft", "training.lora", 'pip install "multigrain[lora]"')
    quantization(settings.quantize)


def _check_other(config: Config, reference: str) -> None:
    trusted = config.training.trust_remote_code
    check_model(TrainingConfig(base_model=reference, max_seq_length=None, trust_remote_code=trusted))


def check_sets(config: Config) -> None:
    """See that the evaluation sets are there; folders of ordinary size are read as the evaluation will read them.

    Raises:
        EvaluationError: one cannot be used, or there is nothing at all to evaluate on.
        SourceError: a file cannot be read.
        MissingExtraError: one comes in a package that is not installed.
    """
    from multigrain.evaluation.sets.loading import open_sets

    if config.evaluation.queries == "none" and not config.evaluation.sets:
        raise EvaluationError(
            "nothing to evaluate on: set evaluation.queries to titles or synthetic, or name sets under evaluation.sets"
        )
    for each in config.evaluation.sets:
        files = _files(each)
        missing = next((path for path in files if not path.exists()), None)
        if missing is not None:
            raise EvaluationError(f"evaluation set {each.name!r}: {missing}: no such file or folder")
        if sum(_size(path) for path in files) <= _READ_WHOLE:
            open_sets([each], seed=config.seed)


def check_titles(config: Config, documents: Sequence[Document]) -> None:
    """See that there are titles to ask with, where the config says that titles are the held-out queries.

    Raises:
        EvaluationError: the held-out documents have none.
    """
    held = [document for document in documents if document.split is not Split.TRAIN]
    if config.evaluation.queries == "titles" and held and not any(document.title for document in held):
        raise EvaluationError(
            f"evaluation.queries: titles, but none of the {len(held)} held-out documents has a title; name the column "
            "with documents.title_field, or set evaluation.queries: synthetic"
        )


def _files(settings: EvaluationSetConfig) -> list[Path]:
    values = settings.model_dump()
    found = [values.get(key) for key in ("path", "queries", "documents", "qrels")]
    return [Path(each).expanduser() for each in found if each is not None and ":" not in each]


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size if path.is_file() else 0
