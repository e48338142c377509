"""What a run will take and what it may bring: rows, tokens, dollars, time on this machine, gain, test queries.

Asks no endpoint and writes nothing. The models that run in this process are measured for some seconds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from multigrain.config import Config, EvaluationSetConfig
from multigrain.config.paths import SERVED_PREFIX, STATIC_PREFIX
from multigrain.config.writers import KnownWriter, known_writer
from multigrain.errors import EvaluationError, LLMError, MissingExtraError, ModelError
from multigrain.evaluation.enough import chance_words
from multigrain.records import Document, Split
from multigrain.sources.load import titles_suffice
from multigrain.sources.words import count_words, fold_text
from multigrain.stages.fingerprints import set_paths
from multigrain.storage.packages import plain_encoder_name, resolve_encoder, resolve_gguf
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.inputs import Inputs, load_inputs, training_units
from multigrain.synthesis.synthesize import run_strategy
from multigrain.tools.expected_gain import ExpectedGain, expected_gain, queries_to_show, smallest_shown
from multigrain.tools.speed import (
    READ_TOKENS,
    SECONDS_A_MODEL,
    TOKENS_A_QUERY,
    TRAINED_TOKEN,
    busy_notes,
    requests_per_second,
    step_tokens,
    tokens_per_second,
)
from multigrain.tools.synthesis_estimate import Estimate, dry_run

_SAMPLE: Final = 200
_TOKENS_A_WORD: Final = 1.4
_PROBE_SECONDS: Final = 6.0
_SHARES_TRIED: Final = 4  # of tuned weights, where merge is auto
_LOOKS: Final = 4  # at validation queries while training, where early_stopping is auto
_ENDPOINT_SECONDS: Final = 2.0
_LONG_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class PlannedTime:
    """Seconds of each stage; None where the speed is not known.

    Attributes:
        synthesis: until all requests are answered.
        audit: mostly to embed the documents.
        training: of all candidates, with every learning rate that is tried.
        evaluation: of the base and all candidates.
        device: what was measured: "CPU" or "GPU".
        assumed: whether `synthesis` takes 2 seconds a request for granted, because an endpoint is not asked.
    """

    synthesis: float | None
    audit: float | None
    training: float | None
    evaluation: float | None
    device: str
    assumed: bool = False

    @property
    def total(self) -> float | None:
        """All stages together; None where one is unknown."""
        parts = (self.synthesis, self.audit, self.training, self.evaluation)
        return None if None in parts else sum(part or 0.0 for part in parts)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run takes and may bring.

    Attributes:
        documents: how many, by split; empty where the run does not start from documents.
        writer: the language model.
        base: the embedding model that is tuned.
        estimate: requests, tokens and cost.
        steps: of training, by candidate.
        time: on this machine.
        gain: by what was measured; None for given pairs, as it was measured with written queries.
        test_queries: how many there will be; None where that is not known yet.
        queries_for_gain: how many show the mean gain four times in five; None where no gain is expected.
        smallest_shown: the smallest difference, in points, that the test queries show four times in five.
        notes: why something is not known.
    """

    documents: dict[str, int]
    writer: str
    base: str
    estimate: Estimate
    steps: dict[str, int]
    time: PlannedTime
    gain: ExpectedGain | None
    test_queries: int | None
    queries_for_gain: int | None
    smallest_shown: float | None
    notes: tuple[str, ...] = ()


def plan_run(config: Config, directory: Path, *, probe: bool = True) -> Plan:
    """Plan a run.

    Args:
        config: the run's.
        directory: the run directory; what its journal holds need not be asked again. It need not exist.
        probe: measure the models for some seconds; else no time is told.

    Raises:
        SourceError, ConfigError, LLMError: as `dry_run`.
    """
    inputs = None if config.start_from == "tasks" else load_inputs(config)
    estimate = dry_run(config, directory, inputs=inputs)
    documents: Sequence[Document] = () if inputs is None else inputs.documents
    splits = Counter(str(document.split) for document in documents)
    asked = Counter(str(query.split) for query in inputs.queries) if inputs is not None and inputs.queries else splits
    notes: list[str] = []
    clocks = time.perf_counter(), time.process_time()
    embedding = _embedding_speed(config, documents, notes) if probe else None
    writes = estimate.requests > estimate.in_journal
    writing = _writing_speed(config, inputs, directory, notes) if probe and writes else None
    if (embedding or writing) and _device() == "CPU":
        notes += busy_notes(time.perf_counter() - clocks[0], time.process_time() - clocks[1])
    steps = {name: config.training.resolve(name).steps_for(estimate.rows) for name in config.training.candidates}
    rates = {
        rate for name in steps for rate in config.training.resolve(name).rates(choose=asked[str(Split.VALIDATION)] > 0)
    }
    if len(rates) > 1:
        shown = " and ".join(f"{rate:g}" for rate in sorted(rates, reverse=True))
        notes.append(
            f"training is done at each learning rate, {shown}: validation chooses; training.learning_rate names one"
        )
    if any(config.training.resolve(name).chooses for name in steps):
        notes += _choosing(config, documents, asked)
    test = _test_queries(config, documents, asked, notes)
    gain = None if config.start_from == "pairs" else expected_gain(_writer(config))
    took = _times(
        config, estimate, documents, splits, steps, asked=asked, test=test, embedding=embedding, writing=writing
    )
    notes += [*_advice(config, estimate, steps, took), *_limits(config, estimate)]
    return Plan(
        documents={"documents": len(documents), **splits} if documents else {},
        writer=_writer_name(config),
        base=plain_encoder_name(config.training.base_model),
        estimate=estimate,
        steps=steps,
        time=took,
        gain=gain,
        test_queries=test,
        queries_for_gain=queries_to_show(gain.mean) if gain is not None and gain.mean > 0 else None,
        smallest_shown=None if test is None else round(smallest_shown(test), 1),
        notes=tuple(notes),
    )


def _test_queries(
    config: Config, documents: Sequence[Document], splits: Mapping[str, int], notes: list[str]
) -> int | None:
    """Queries of the set that the verdict will speak of: a labelled test set's, else those of the held-out documents.

    None where that is not known, with a note where a labelled set cannot be read here.
    """
    if config.start_from == "pairs":
        notes.append("your queries are given: no gain is named, as gains were measured with written ones")
    labelled = next((each for each in config.evaluation.sets if each.role == "test"), None)
    if labelled is None:
        return _held_out(config, documents, splits, Split.TEST)
    return _labelled(config, labelled, notes)


def _choosing(config: Config, documents: Sequence[Document], splits: Mapping[str, int]) -> Iterator[str]:
    """How many validation queries choose, and whether these are too few."""
    notes: list[str] = []
    sets = config.evaluation.choosing_sets
    counts = [_labelled(config, each, notes) for each in sets]
    counts = counts if sets else [_held_out(config, documents, splits, Split.VALIDATION)]
    known = [found for found in counts if found is not None]
    total = sum(known)
    if total and len(known) == len(counts):
        yield chance_words(total) or f"{total:,} validation queries choose the model"
    yield from notes


def _held_out(config: Config, documents: Sequence[Document], splits: Mapping[str, int], side: Split) -> int | None:
    """About how many queries a held-out side gives; None where that is not known."""
    queries = config.evaluation.queries
    if config.start_from == "documents" and queries in ("auto", "titles"):
        held_out = [document for document in documents if document.split is not Split.TRAIN]
        titles = {fold_text(document.title) for document in held_out if document.title and document.split is side}
        if titles and (queries == "titles" or titles_suffice(held_out)):
            return len(titles)  # the chunks of a document share its title, which is one query
    return splits[str(side)] or None if queries != "none" else None


def _labelled(config: Config, labelled: EvaluationSetConfig, notes: list[str]) -> int | None:
    """How many queries a labelled set has; None, with a note, where it cannot be read here."""
    if not set_paths(labelled):
        notes.append(f"how many {labelled.role} queries {labelled.name} has is known when it is read, as a run does")
        return None
    from multigrain.evaluation.sets.loading import open_sets

    try:
        opened = open_sets([labelled], seed=config.seed)
    except EvaluationError as error:
        notes.append(str(error))
        return None
    return sum(len(found.queries) for found in opened.retrieval) + sum(len(pairs.pairs) for pairs in opened.similarity)


def _times(
    config: Config,
    estimate: Estimate,
    documents: Sequence[Document],
    splits: Mapping[str, int],
    steps: Mapping[str, int],
    *,
    asked: Mapping[str, int],
    test: int | None,
    embedding: float | None,
    writing: float | None,
) -> PlannedTime:
    """Seconds of each stage.

    Args:
        config: the run's.
        estimate: of its requests.
        documents: all of them.
        splits: how many on each side.
        steps: of each candidate.
        asked: queries of each side.
        test: queries that are tested; None where unknown.
        embedding: tokens a second; None where unknown.
        writing: requests a second; None where unknown.
    """
    left = estimate.requests - estimate.in_journal
    assumed = config.llm.provider == "openai"
    if assumed:
        writing = config.llm.concurrency / _ENDPOINT_SECONDS
    synthesis = 0.0 if not left else None if not writing else left / writing
    if synthesis is not None and config.synthesis.budget_seconds is not None:
        synthesis = min(synthesis, config.synthesis.budget_seconds)
    device = _device()
    if not embedding or not documents:
        return PlannedTime(synthesis, None, None, None, device, assumed)
    tokens = _tokens_a_text(documents)
    models, queries = len(steps), asked["validation"] + (test or 0)
    corpus = len(documents) * tokens
    audit = (splits["train"] * tokens + estimate.rows * TOKENS_A_QUERY) / embedding
    training = sum(_training_tokens(config, name, count, tokens, splits=splits) for name, count in steps.items())
    return PlannedTime(
        synthesis=synthesis,
        audit=audit,
        training=training / embedding + SECONDS_A_MODEL * models,
        # The audit has embedded the training side by the base model.
        evaluation=((models + 1) * (corpus + queries * TOKENS_A_QUERY) - splits["train"] * tokens) / embedding
        + SECONDS_A_MODEL * (models + 1),
        device=device,
        assumed=assumed,
    )


def _advice(config: Config, estimate: Estimate, steps: Mapping[str, int], took: PlannedTime) -> list[str]:
    """What makes a long run shorter: the setting that its longest stage goes by."""
    if took.total is None or took.total < _LONG_SECONDS:
        return []
    rows, fewer = max(50, estimate.rows // 10), max(1, min(50, max(steps.values(), default=1) // 2))
    stages = {
        f"synthesis.max_documents: {rows} writes fewer queries": took.synthesis or 0.0,
        f"training.steps: {fewer} trains less": took.training or 0.0,
        f"{config.start_from}.limit takes a sample": (took.audit or 0.0) + (took.evaluation or 0.0),
    }
    first, second = sorted(stages, key=lambda name: stages[name], reverse=True)[:2]
    return [f"for a first try: {first}, and {second}"]


def _limits(config: Config, estimate: Estimate) -> Iterator[str]:
    """What of the cost is over the run's limit, and what is not in it."""
    limit = config.synthesis.max_cost
    if limit is not None and estimate.cost is not None and estimate.cost > limit:
        yield f"the limit is ${limit:g}: a run stops before it is passed; raise it (--max-cost, or synthesis.max_cost)"
    if not config.training.base_model.startswith(SERVED_PREFIX):
        return
    if config.training.document_vectors is not None:
        yield "documents that training.document_vectors lacks are embedded, and not counted here"
    if any(config.training.resolve(name).mix for name in config.training.candidates):
        yield "texts of training.mix are embedded as training meets them, and not counted here"


def _training_tokens(config: Config, name: str, steps: int, tokens: float, *, splits: Mapping[str, int]) -> float:
    """Tokens that a candidate's training embeds, those that are trained on counted for as many as they take."""
    settings, chooses = config.training.resolve(name), splits["validation"] > 0
    rates = len(settings.rates(choose=chooses))
    if settings.side == "query" and settings.loss != "guided":  # documents are embedded once
        return rates * steps * settings.batch_size * TOKENS_A_QUERY * TRAINED_TOKEN + splits["train"] * tokens
    trained = steps * step_tokens(settings, tokens_a_text=tokens) * TRAINED_TOKEN
    looks = _LOOKS * (settings.looks_after(steps) is not None) + _SHARES_TRIED * (settings.merge == "auto")
    searched = min(settings.validation_documents, sum(splits.values()))
    looked_at = looks * chooses * searched * min(tokens, settings.max_seq_length or tokens)
    return rates * (trained + looked_at)


def _tokens_a_text(documents: Sequence[Document]) -> float:
    step = max(1, len(documents) // _SAMPLE)
    sample = [documents[place].text for place in range(0, len(documents), step)]
    return sum(min(READ_TOKENS, count_words(text) * _TOKENS_A_WORD + 2) for text in sample) / len(sample)


def _device() -> str:
    import torch

    return "GPU" if torch.cuda.is_available() or torch.backends.mps.is_available() else "CPU"


def _writer(config: Config) -> KnownWriter | None:
    if config.llm.provider != "local":
        return None
    with suppress(MissingExtraError, ModelError):
        return known_writer(str(resolve_gguf(config.llm.model)))
    return None


def _writer_name(config: Config) -> str:
    """The language model, for people."""
    if config.llm.provider == "scripted":
        return "the scripted model"
    if config.llm.provider == "openai":
        return config.llm.model
    if (known := _writer(config)) is not None:
        return known.name
    with suppress(MissingExtraError, ModelError):
        return str(resolve_gguf(config.llm.model)).rsplit("/", 1)[-1]
    return config.llm.model


def _embedding_speed(config: Config, documents: Sequence[Document], notes: list[str]) -> float | None:
    """Tokens that the base model embeds a second; None with a note where it is not on this machine."""
    name = plain_encoder_name(config.training.base_model)
    if config.training.base_model.startswith(SERVED_PREFIX):
        notes.append(
            f"{name} is behind an endpoint: its speed is not measured, and a run says what it sends before it does"
        )
        return None
    try:
        if not _is_here(resolve_encoder(config.training.base_model.removeprefix(STATIC_PREFIX))):
            notes.append(f"{name} is not on this machine yet: a run downloads it, and then a plan tells the time too")
            return None
        return tokens_per_second(config, [document.text for document in documents[:_SAMPLE]])
    except (EvaluationError, MissingExtraError, ModelError) as error:
        notes.append(str(error))
        return None


def _is_here(reference: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    if Path(reference).is_dir():
        return True
    with suppress(ValueError):  # no hub id at all
        return isinstance(try_to_load_from_cache(reference, "config.json"), str)
    return False


def _writing_speed(config: Config, inputs: Inputs | None, directory: Path, notes: list[str]) -> float | None:
    """Requests that the embedded language model answers a second; None with a note where nobody knows."""
    if config.llm.provider == "openai" or inputs is None:
        return None
    try:
        if config.llm.provider == "local" and not isinstance(resolve_gguf(config.llm.model), Path):
            notes.append(f"the language model {config.llm.model} is not on this machine yet: a run downloads it")
            return None
        strategy = run_strategy(config, RunDirectory(directory), ask=False)
        units = training_units(config, inputs)
        return requests_per_second(config, units, strategy, seconds=_PROBE_SECONDS)
    except (MissingExtraError, ModelError, LLMError) as error:
        notes.append(str(error))
        return None
