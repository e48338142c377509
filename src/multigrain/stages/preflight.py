"""What can be seen to be wrong before anything is paid for: settings, prices, models, evaluation sets, titles.

Cheap checks of what the later stages of a run will need. Each raises the error that the stage itself would raise,
hours and dollars later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from multigrain.audit.checks import active_checks
from multigrain.config import Config, TrainingConfig
from multigrain.config.candidates import candidate_named
from multigrain.config.paths import SERVED_PREFIX
from multigrain.errors import ConfigError, EvaluationError, ModelError, UnusableOutputError
from multigrain.llm.prices import find_price, price_of
from multigrain.llm.session.budget import require_price
from multigrain.model.attention.implementation import check_implementation
from multigrain.records import Split
from multigrain.sources.store import open_document_table
from multigrain.stages.base import RunContext
from multigrain.stages.fingerprints import set_paths, teachers_of
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.inputs import parts_to_ask
from multigrain.training.losses.registry import check_losses, guide_of
from multigrain.training.processes import check_sharding
from multigrain.training.trackers import check_trackers

NOTHING_TO_EVALUATE_ON: Final = (
    "nothing to evaluate on: set evaluation.queries to titles or synthetic, or name sets under evaluation.sets"
)

_READ_WHOLE: Final = 300_000_000  # bytes; larger sets are only looked for


def check_audit_settings(config: Config, _: RunDirectory) -> None:
    """See that every check which the config names is there."""
    active_checks(config.audit.checks)


def check_training_settings(config: Config, _: RunDirectory) -> None:
    """See that shards, losses, trackers and attention are as training can have them."""
    check_sharding(config.training)
    check_losses(config.training)
    settings = [config.training.resolve(name) for name in config.training.candidates]
    if any(candidate.teacher for candidate in settings) and not any(map(teachers_of, settings)):
        raise ConfigError(
            f"training.teacher: loss {settings[0].loss!r} learns nothing from a teacher; set training.loss to distil, "
            "margin-mse or graded, set teacher_margin, or leave teacher out"
        )
    for name, candidate in config.training.candidates.items():
        if candidate.teacher and not teachers_of(own := config.training.resolve(name)):
            raise ConfigError(
                f"candidate {name!r}: teacher: loss {own.loss!r} learns nothing from a teacher; name a loss that does "
                "(distil, graded), set teacher_margin, or leave teacher out"
            )
    check_trackers(config.training)
    check_implementation(config.training.attn_implementation)


def check_rivals(config: Config, _: RunDirectory) -> None:
    """See that every rival and reranker is named as one can be; whether it is there is seen when it is needed."""
    from multigrain.evaluation.rivals import rivals_of
    from multigrain.model.scoring_head import is_cross_encoder
    from multigrain.stages.reranking import rerankers_of

    rivals_of(config)
    for name, reranker in rerankers_of(config).items():
        if candidate_named(reranker.model) is None and not is_cross_encoder(reranker.model):
            raise ModelError(
                f"evaluation.reranking.models {name!r}: {reranker.model} is no cross-encoder that is available here: "
                "give a folder or a hub id of one"
            )


def check_models(context: RunContext) -> None:
    """See that every model which training needs is there, and can be tuned as asked.

    Raises:
        ModelError: one is not, or cannot.
        MissingExtraError: a package is not installed.
    """
    check_base_models(context.config)
    config = context.config
    others = [] if config.audit.reference_model == "auto" else [config.audit.reference_model]
    for name in config.training.candidates:
        settings = config.training.resolve(name)
        others += [guide] if (guide := guide_of(settings)) is not None else []
    trusted = config.training.trust_remote_code
    for reference in others:
        _check_model(TrainingConfig(base_model=reference, max_seq_length=None, trust_remote_code=trusted))


def check_teachers(context: RunContext) -> None:
    """See that every teacher is there, without loading its weights.

    Raises:
        ModelError: one is not.
    """
    from multigrain.model.loading import check_reference
    from multigrain.teachers.build import is_pair_model
    from multigrain.teachers.spending import is_served

    training = context.config.training
    for name in training.candidates:
        for teacher in teachers_of(training.resolve(name)):
            there = candidate_named(teacher.model) is not None or teacher.is_judge or is_served(teacher)
            if not (there or is_pair_model(teacher)):
                check_reference(teacher.model, trust_remote_code=training.trust_remote_code)


def check_base_models(config: Config) -> None:
    """See that the base of every candidate is there and can be tuned as asked.

    Raises:
        ModelError: one is not, or cannot.
        MissingExtraError: a package is not installed.
        ConfigError: one is behind an endpoint whose address cannot be, or that has no key.
    """
    if config.training.base_model.startswith(SERVED_PREFIX):
        _check_served_base(config)
    else:
        from multigrain.model.scoring_head import require_embedder

        require_embedder(config.training.base_model)  # the audit and the evaluation embed with it, whatever is tuned
    for name in config.training.candidates:
        settings = config.training.resolve(name)
        if settings.base_model.startswith(SERVED_PREFIX):
            continue
        if settings.kind == "embedder":
            _check_model(settings)
            continue
        from multigrain.model.adapters import require_peft
        from multigrain.model.reranker import check_reranker_base

        if settings.lora is not None:
            require_peft()
        if candidate_named(settings.base_model) is None:
            trusted, tokens = settings.trust_remote_code, settings.max_seq_length
            check_reranker_base(settings.base_model, max_seq_length=tokens, trust_remote_code=trusted)


def _check_served_base(config: Config) -> None:
    """See that a base behind an endpoint has an address and a key; it is not asked."""
    from multigrain.encoders.served import ServedEncoder

    ServedEncoder(config.training.base_model)
    if config.engine.kind != "local":
        raise ConfigError(
            f"engine.kind: {config.engine.kind} cannot keep what an endpoint embeds in one place; with "
            f"training.base_model: {config.training.base_model} use engine: {{kind: local}}"
        )


def check_unwritten_prices(config: Config, run: RunDirectory) -> None:
    """See that a limit on the cost can be kept, where the rows have not been written yet; see `check_prices`."""
    if run.manifest("synthesis") is None:
        check_prices(config)


def check_prices(config: Config) -> None:
    """See that a limit on the cost can be kept: that the price of every model which may be asked is known.

    Looks at the config alone, so that it can be done before the documents are read.

    Raises:
        ConfigError: there is a limit, and a price is missing.
    """
    limit, other = config.synthesis.max_cost, config.evaluation.llm
    require_price(find_price(config.llm), limit, model=config.llm.model)
    if (base := config.training.base_model).startswith(SERVED_PREFIX):
        name, address = base.removeprefix(SERVED_PREFIX).partition("@http")[::2]
        price = price_of(name, base_url=f"http{address}" if address else None, prices=config.llm.prices)
        require_price(price, limit, model=name)
    if other is not None and config.start_from != "pairs" and config.evaluation.queries in ("auto", "synthetic"):
        require_price(find_price(other), limit, model=other.model, section="evaluation.llm")


def _check_model(settings: TrainingConfig) -> None:
    """See that a base model is there and can be tuned as asked, without loading its weights.

    A Router is loaded: what each of its routes can be given is known to its modules alone.
    """
    from multigrain.model.adapters import quantization, require_peft
    from multigrain.model.loading import check_reference, is_asymmetric

    check_reference(
        settings.base_model,
        max_seq_length=settings.max_seq_length,
        attention=settings.attention,
        trust_remote_code=settings.trust_remote_code,
    )
    if settings.lora is not None:
        require_peft()
    quantization(settings.quantize)
    if is_asymmetric(settings.base_model):
        if settings.side == "query":
            raise ModelError(
                f"{settings.base_model}: side: query needs a base that embeds queries and documents by one model, and "
                "this one has a Router"
            )
        from multigrain.model.encoder import build_candidate
        from multigrain.model.loading import require_positions
        from multigrain.model.routes import text_transformers

        if settings.fsdp:
            raise ModelError(
                f"{settings.base_model}: training.fsdp shards models of one transformer, and this one has a Router"
            )
        for transformer in text_transformers(build_candidate(settings, device="cpu")):
            if settings.max_seq_length is not None:
                require_positions(transformer.model.config, settings.max_seq_length, settings.base_model)


def check_sets(context: RunContext) -> None:
    """See that there is something to evaluate on; sets of ordinary size are read as the evaluation will read them.

    Raises:
        EvaluationError: there is nothing, a set cannot be used, or titles are asked for and there are none.
        SourceError: a file cannot be read.
        MissingExtraError: a set comes in a package that is not installed.
    """
    from multigrain.evaluation.sets.loading import open_sets

    config = context.config
    if config.evaluation.queries == "none" and not config.evaluation.sets:
        raise EvaluationError(NOTHING_TO_EVALUATE_ON)
    for settings in config.evaluation.sets:
        paths = set_paths(settings)
        missing = next((path for path in paths if not path.exists()), None)
        if missing is not None:
            raise EvaluationError(f"evaluation set {settings.name!r}: {missing}: no such file or folder")
        if sum(_size(path) for path in paths) <= _READ_WHOLE:
            open_sets([settings], seed=config.seed)
    if config.evaluation.queries != "titles":
        return
    heldout = [
        document for document in open_document_table(context.run.documents_path) if document.split is not Split.TRAIN
    ]
    if heldout and not any(document.title for document in heldout):
        raise EvaluationError(
            f"evaluation.queries: titles, but none of the {len(heldout)} held-out documents has a title; name the "
            "column with documents.title_field, or set evaluation.queries: synthetic"
        )


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def check_selection(config: Config, stages: Sequence[str], *, none_held_out: bool = False) -> None:
    """See that what will have to be chosen can be chosen: shares to merge in training, candidates in evaluation.

    Args:
        config: the run's.
        stages: those that will be run.
        none_held_out: that the run was seen to hold no validation queries out, whatever the config says.

    Raises:
        ConfigError: there is a share to choose, and nothing to choose it by.
        EvaluationError: there are several candidates, and nothing to choose by.
    """
    lack = _lack_of_queries(config, none_held_out=none_held_out)
    if lack is None:
        return
    candidates, embedders = config.training.candidates, config.training.embedders
    for name in candidates if "training" in stages else ():
        settings = config.training.resolve(name)
        if key := settings.must_choose:
            one = {"merge": "share", "learning_rate": "rate", "query_adapter.rank": "rank"}[key]
            raise ConfigError(
                f"training.{key}: {attrgetter(key)(settings)} needs validation queries to choose by, and {lack}, or "
                f"give one {one}"
            )
    if "evaluation" in stages and len(embedders) > 1:
        raise EvaluationError(
            f"{len(embedders)} candidates ({', '.join(embedders)}) need validation queries to choose by, and "
            f"{lack}, or train one candidate"
        )


def _lack_of_queries(config: Config, *, none_held_out: bool) -> str | None:
    """Why there are no validation queries, and what to do; None where there are."""
    share = config.documents.validation_share
    if config.evaluation.choosing_sets:
        return None
    if config.evaluation.queries == "none":
        lack, remedy = "evaluation.queries is none", "set evaluation.queries to titles or synthetic"
    elif share == 0:
        lack, remedy = "documents.validation_share is 0", "set documents.validation_share above 0"
    elif none_held_out:
        lack, remedy = f"documents.validation_share: {share:g} held none out", "raise documents.validation_share"
    else:
        return None
    return f"{lack}: add a labelled set with role: validation to evaluation.sets, {remedy}"


def lacking_parts(config: Config, counts: Mapping[str, Any]) -> list[str]:
    """The parts of the documents that a run cannot be judged on, as none of the queries they need was written.

    Args:
        config: the run's.
        counts: of its synthesis.
    """
    # Without documents no part has to have queries: those that were written are what is judged on.
    if config.start_from == "tasks" and counts.get("heldout_queries_written"):
        return []
    needed = {part.value for part in parts_to_ask(config)}
    # Labelled sets stood for them, and are named no longer.
    unasked = [part for part in counts.get("heldout_not_asked", ()) if part in needed]
    return [*counts.get("heldout_missing", ()), *unasked]


def check_heldout(context: RunContext) -> None:
    """See, before a model is trained, that the held-out queries that had to be written are there.

    Raises:
        ConfigError: the spending limit was reached before any was written for the validation or the test part.
        UnusableOutputError: none of one part could be used.
    """
    manifest = context.run.manifest("synthesis")
    lacking = [] if manifest is None else lacking_parts(context.config, manifest.counts)
    if manifest is None or not lacking:
        return
    failed, parts = manifest.counts["heldout_failed"], " and ".join(lacking)
    if set(lacking) <= set(manifest.counts.get("heldout_not_asked", ())):
        raise ConfigError(
            f"nothing to evaluate on: labelled sets stood for held-out queries ({parts}), and are named no longer; "
            "`multigrain synthesize` writes the queries"
        )
    if "over_limit" in failed:
        raise ConfigError(
            f"nothing to evaluate on: the spending limit was reached before any held-out query ({parts}) was written; "
            "raise synthesis.max_cost or synthesis.max_total_tokens, and the same command continues"
        )
    kinds = ", ".join(f"{count} {kind}" for kind, count in failed.items())
    model = manifest.counts.get("heldout_model", manifest.counts["model"])
    raise UnusableOutputError(
        f"nothing to evaluate on: model {model} wrote no held-out query ({parts}) that could be used ({kinds}); the "
        "same command asks again for what was not answered, and evaluation.llm can name another model"
    )
