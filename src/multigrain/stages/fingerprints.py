"""What decides each stage's output, as fingerprints that chain from the documents to the results.

A stage's fingerprint is computed from the config and from the documents' manifest, never taken from the stage before:
so a stage that was made with other settings is seen as such by every later one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from multigrain.config import (
    Config,
    EvaluationSetConfig,
    LLMConfig,
    TeacherConfig,
    TrainingConfig,
    fingerprint,
)
from multigrain.config.candidates import candidate_named
from multigrain.config.evaluation import unnamed
from multigrain.config.paths import STATIC_PREFIX
from multigrain.errors import MultigrainError, SourceError
from multigrain.sources.files import existing_path, files_fingerprint
from multigrain.sources.pairs import pairs_fingerprint
from multigrain.sources.source import data_source
from multigrain.stages.base import RunContext
from multigrain.storage.files import content_fingerprint
from multigrain.storage.packages import resolve_encoder
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.shards import parts_of_table
from multigrain.synthesis.few_shot import few_shot_fingerprint
from multigrain.synthesis.prompts import Prompts
from multigrain.synthesis.style import style_queries
from multigrain.training.losses.registry import takes_scores
from multigrain.training.mixing import mix_fingerprint

# Raised when a stage's artifact changes its form or meaning: older artifacts are then made again.
_FORMATS: Final = {"documents": 2, "synthesis": 3, "dataset": 3, "teachers": 1, "models": 1, "results": 3}

_LLM_PACE: Final = {
    "concurrency",
    "threads",
    "timeout_seconds",
    "max_retries",
    "api_key_env",
    "extra_headers",
    "more_endpoints",
    "prices",
}
"""Settings of the LLM that decide how fast it answers and what that costs, and not what it says."""
SPENDING_LIMITS: Final = {"budget_seconds", "max_cost", "max_total_tokens", "unfit_share"}
"""Settings of synthesis that decide when it stops, and not what it writes: another limit asks for no `--redo`."""

_TRAINING_PACE: Final = {
    "candidates",
    "checkpoint_every",
    "report_to",
    "gradient_checkpointing",
    "attn_implementation",
    "fsdp",
    "fsdp_config",
    "mix",
    "teacher",
    "document_vectors",
}
"""Settings of training that decide how it is watched and what it costs, and not what comes out; and the sets to mix
in and the teachers, which are known by their content."""


def documents_fingerprint(config: Config) -> str:
    """Of the documents: where they come from, what is there now, and how they are split.

    Raises:
        SourceError: the documents' path is missing.
    """
    if config.start_from == "tasks":
        return fingerprint(_FORMATS["documents"], "tasks", _tasks_settings(config), config.documents, config.seed)
    if config.start_from == "pairs":
        corpus = "" if config.documents.path is None else _source(config)
        return fingerprint(
            _FORMATS["documents"],
            config.pairs,
            pairs_fingerprint(config.pairs),
            config.documents,
            corpus,
            config.seed,
        )
    return fingerprint(
        _FORMATS["documents"],
        config.documents,
        _source(config),
        config.seed,
    )


def synthesis_fingerprint(context: RunContext) -> str:
    """Of the written rows.

    Raises:
        StageOrderError: the documents have not been read.
    """
    # The documents as they were read: later stages run where the documents themselves are no longer at hand.
    read = context.run.require("documents", "multigrain synthesize").fingerprint
    return planned_synthesis_fingerprint(context.config, read)


def planned_synthesis_fingerprint(config: Config, documents: str) -> str:
    """Of rows that are written, or would be, for documents of a fingerprint."""
    style, judge = style_queries(config), config.audit.query_judge
    return fingerprint(
        _FORMATS["synthesis"],
        documents,
        config.synthesis.fingerprinted(exclude=SPENDING_LIMITS),
        config.tasks if config.start_from == "tasks" else None,
        Prompts(config.synthesis.templates).fingerprint(),
        few_shot_fingerprint(config),
        _llm_settings(config.llm),
        config.evaluation.queries,
        None if config.evaluation.llm is None else _llm_settings(config.evaluation.llm),
        config.seed,
        # Only where they are asked for: other rows stay what they are.
        *(() if style is None else (style.queries,)),
        *((["query judge", judge.fingerprinted()],) if judge is not None and judge.heldout else ()),
    )


def dataset_fingerprint(context: RunContext) -> str:
    """Of the audited rows."""
    labels = context.run.labels_path
    return planned_dataset_fingerprint(
        context.config,
        synthesis_fingerprint(context),
        labels=labels.read_text(encoding="utf-8") if labels.exists() else "",
    )


def planned_dataset_fingerprint(config: Config, synthesis: str, *, labels: str = "") -> str:
    """Of rows that are audited, or would be, from written rows of a fingerprint.

    Args:
        config: the run's.
        synthesis: the fingerprint of the written rows.
        labels: the file of rows that a reader marked bad.
    """
    named = config.audit.decontamination.sets if config.audit.checks.decontamination else []
    reference = config.training.base_model if config.audit.reference_model == "auto" else config.audit.reference_model
    return fingerprint(
        _FORMATS["dataset"],
        synthesis,
        config.audit.fingerprinted(exclude={"candidates"}),
        [base_settings(config.training), _model_content(reference)],
        # Which sets the names stand for.
        [settings.fingerprinted() for settings in config.evaluation.sets] if named else [],
        labels,
        # Only where there are any: rows that were kept without candidates stay what they are.
        *([config.candidates_kept] if config.candidates_kept else ()),
    )


def candidate_fingerprint(context: RunContext, name: str, *, data: RunContext | None = None) -> str:
    """Of one trained candidate.

    Args:
        context: the run.
        name: the candidate.
        data: the context that made the data set, where candidates of other seeds are trained on it too.
    """
    settings = context.config.training.resolve(name)
    choosing_sets = context.config.evaluation.choosing_sets if settings.chooses else []
    return fingerprint(
        _FORMATS["models"],
        dataset_fingerprint(data or context),
        settings.fingerprinted(exclude=_TRAINING_PACE),
        _base_content(context, settings, data),
        [mix_fingerprint(source) for source in settings.mix],
        context.config.seed,
        # Only where there are any: a model that no such set had a share in keeps its fingerprint.
        *(
            [choosing_set.fingerprinted(exclude={"name"}), _set_content(choosing_set)]
            for choosing_set in choosing_sets
        ),
        *([scores_fingerprint(context, teachers, data=data)] if (teachers := teachers_of(settings)) else ()),
    )


def _base_content(context: RunContext, settings: TrainingConfig, data: RunContext | None) -> str | None:
    """What the base is: the content of its files or, of a candidate of the run, what decides it."""
    named = candidate_named(settings.base_model)
    return _model_content(settings.base_model) if named is None else candidate_fingerprint(context, named, data=data)


def teachers_of(settings: TrainingConfig) -> list[TeacherConfig]:
    """The teachers whose scores a candidate learns from, or by which its negatives are judged; none without either."""
    asked = takes_scores(settings) or settings.teacher_margin is not None
    return settings.teacher if settings.teacher and asked else []


def scores_folder(teachers: Sequence[TeacherConfig]) -> str:
    """The folder of the run directory that holds what teachers scored; named for their settings."""
    return f"teachers/{fingerprint(*map(_teacher_settings, teachers))[:12]}"


def scored_path(run: RunDirectory, teachers: Sequence[TeacherConfig]) -> Path:
    """The graded rows with the scores of teachers."""
    return run.path / scores_folder(teachers) / "graded.parquet"


def any_candidate(teachers: Sequence[TeacherConfig]) -> bool:
    """Whether a teacher is a candidate of the run, which has to be trained before rows are scored."""
    return any(candidate_named(teacher.model) is not None for teacher in teachers)


def scores_fingerprint(
    context: RunContext, teachers: Sequence[TeacherConfig], *, data: RunContext | None = None
) -> str:
    """Of the graded rows with teachers' scores.

    Args:
        context: the run.
        teachers: which.
        data: the context that made the data set, where it is another.
    """
    return fingerprint(
        _FORMATS["teachers"],
        dataset_fingerprint(data or context),
        [taught_by(context, teacher, data=data) for teacher in teachers],
    )


def taught_by(context: RunContext, teacher: TeacherConfig, *, data: RunContext | None = None) -> str:
    """Of what one teacher says, a candidate of the run among them; see `teacher_fingerprint`."""
    named = candidate_named(teacher.model)
    if named is None:
        return teacher_fingerprint((data or context).config, teacher)
    return fingerprint(_teacher_settings(teacher), candidate_fingerprint(context, named, data=data))


def teacher_fingerprint(config: Config, teacher: TeacherConfig) -> str:
    """Of what one teacher says of a query and a passage, whatever rows they stand in."""
    if teacher.is_judge:
        quote = config.audit.judge is not None and config.audit.judge.quote
        prompts = Prompts(config.synthesis.templates).fingerprint()
        # Only where they are asked for: whole grades stay what they are.
        finer = ("probabilities",) if teacher.probabilities else ()
        return fingerprint("judge", _llm_settings(config.llm), prompts, config.seed, quote, *finer)
    content = None if ":" in teacher.model.removeprefix("package:") else _model_content(teacher.model)
    return fingerprint(_teacher_settings(teacher), content)


def _teacher_settings(teacher: TeacherConfig) -> dict[str, Any]:
    return teacher.fingerprinted(exclude={"batch_tokens"})


def results_fingerprint(context: RunContext) -> str:
    """Of the evaluation."""
    config = context.config
    return fingerprint(
        _FORMATS["results"],
        {name: candidate_fingerprint(context, name) for name in config.training.candidates},
        config.evaluation.fingerprinted(exclude={"batch_size"}),
        [_set_content(settings) for settings in config.evaluation.sets],
        config.seed,
        # Only where there are any: results without rivals stay what they are.
        *([_model_content(rival) for rival in rivals] if (rivals := config.evaluation.rival_references) else ()),
        *(_model_content(unnamed(reranker)) for reranker in config.evaluation.reranking.models),
    )


def _llm_settings(settings: LLMConfig) -> dict[str, Any]:
    """What decides what a language model says, and not how fast or at what price."""
    return settings.fingerprinted(exclude=_LLM_PACE)


def base_settings(training: TrainingConfig) -> dict[str, Any]:
    """What decides the base model's vectors, besides its content."""
    chosen = training.model_dump(mode="json", include={"base_model", "max_seq_length", "precision", "prompts"})
    return chosen if training.append_eos is None else {**chosen, "append_eos": training.append_eos}


OUTCOME_FILE: Final = "outcome.json"
"""Beside the checkpoints of a candidate's training that is done: what it came to, until the best one is known."""


def candidate_folder(name: str) -> str:
    """The folder of one candidate in the run directory."""
    return f"models/{name}"


def _tasks_settings(config: Config) -> list[Any]:
    """What decides the tasks: the file that names them or, where they are brainstormed, the model and its prompt."""
    if config.tasks.path is not None:
        path = existing_path(config.tasks.path, "tasks.path")
        return [str(path), files_fingerprint(path), config.tasks.hold_out]
    return [
        config.tasks.fingerprinted(exclude={"rows", "languages"}),
        _llm_settings(config.llm),
        Prompts(config.synthesis.templates).fingerprint(),
    ]


def _model_content(reference: str) -> str | None:
    """The content of a model on this machine; None for one of the hub, which its name stands for."""
    try:
        return content_fingerprint(Path(resolve_encoder(reference.removeprefix(STATIC_PREFIX))))
    except MultigrainError:
        return None  # it is not at hand where only earlier stages are looked at; loading it says so


def set_paths(settings: EvaluationSetConfig) -> list[Path]:
    """The files and folders of an evaluation set that lie on this machine."""
    names = (settings.path, settings.queries, settings.documents, settings.qrels)
    return [Path(name).expanduser() for name in names if name is not None and ":" not in str(name)]


def _set_content(settings: EvaluationSetConfig) -> list[str | None]:
    """The content of an evaluation set's files on this machine; all parts of one that is in parts."""
    parts: list[Path] = []
    for path in set_paths(settings):
        try:
            parts += parts_of_table(path) or [path]
        except SourceError:  # reading says which is missing
            parts.append(path)
    return [content_fingerprint(part) for part in parts]


def _source(config: Config) -> str:
    return data_source(config.documents).fingerprint(config.documents)
