"""What an ablation would do, and about how long it would take. Trains nothing, asks nothing, writes nothing."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from multigrain.ablation.matrix import CANDIDATE, Arm, ArmFolders, Matrix, shared_folders
from multigrain.config import CandidateConfig, Config
from multigrain.config.evaluation import EvaluationConfig
from multigrain.display.numbers import dollars, rough_duration
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.reference import base_model, encoding_precision
from multigrain.errors import EvaluationError
from multigrain.evaluation.sets.loading import open_sets
from multigrain.records import LEVELS
from multigrain.sources.load import read_documents
from multigrain.stages.fingerprints import teachers_of
from multigrain.stages.preflight import check_selection
from multigrain.stages.table import STAGES
from multigrain.storage.rundir import RunDirectory
from multigrain.tools.synthesis_estimate import Estimate, dry_run

_PROBE_TEXTS = 48
# A training step reads a query, its positive and a negative, forwards and (at about twice the cost) backwards.
_TEXTS_OF_A_ROW = 3
_TEXTS_OF_A_PAIR = 2
_STEP_COST = 3.0


@dataclass(frozen=True)
class AblationPlan:
    """What is left to do.

    Attributes:
        arms: combinations.
        seeds: trainings of each.
        done: trainings that are finished already.
        writings: different settings of writing; each is written once.
        writings_done: those that are written already.
        datasets: different settings of writing and audit; each is audited once.
        datasets_done: those that are audited already.
        requests: completions still to be asked for, about; judges of audits and teachers among them.
        tokens: of those, read and written, about, and of the texts that teachers behind endpoints embed.
        cost: of those, in US dollars; None where a price is unknown.
        documents: that every model is evaluated on.
        seconds_each: of training and evaluating one arm with one seed, about.
        measured: whether that is from finished arms, and not from trying the base model's speed.
        seconds: of all training, auditing and evaluating that is left, about; writing not counted.
        budget_seconds: the limit, if there is one.
        budget_cost: the limit, if there is one.
    """

    arms: int
    seeds: int
    done: int
    writings: int
    writings_done: int
    datasets: int
    datasets_done: int
    requests: int
    tokens: int
    cost: float | None
    documents: int
    seconds_each: float
    measured: bool
    seconds: float
    budget_seconds: float | None
    budget_cost: float | None


def plan_ablation(matrix: Matrix, out: Path) -> AblationPlan:
    """Work out what `run_ablation` would still do.

    Args:
        matrix: what to run.
        out: where it is, or would be, kept.

    Raises:
        SourceError: the documents cannot be used.
        EvaluationError: a set cannot be read, or there is nothing to judge by.
        ModelError: the base model cannot be loaded.
        ConfigError: an arm has a share to choose, and nothing to choose it by.
    """
    for arm in matrix.arms:
        check_selection(arm.config, ["training"])
    folders = shared_folders(matrix.arms, out)
    writings = {folders[arm.name].writing: arm.config for arm in matrix.arms}
    datasets = {folders[arm.name].data for arm in matrix.arms}
    paid = list(_paid(matrix, folders))
    finished = [
        manifest.seconds
        for arm in matrix.arms
        for seed in matrix.file.seeds
        if (manifest := RunDirectory(folders[arm.name].data).manifest(f"arms/{arm.key}-{seed}"))
    ]
    datasets_done = sum(_has(folder, "audit") for folder in datasets)
    documents, searched, asked = _sizes(matrix.reference.config)
    per_text = _seconds_a_text(matrix.reference.config, documents)
    seconds_each = statistics.mean(finished) if finished else _estimated(matrix, per_text, documents, searched, asked)
    remaining = len(matrix.arms) * len(matrix.file.seeds) - len(finished)
    costs = [part.cost for part in paid]
    return AblationPlan(
        arms=len(matrix.arms),
        seeds=len(matrix.file.seeds),
        done=len(finished),
        writings=len(writings),
        writings_done=sum(_has(folder, "synthesis") for folder in writings),
        datasets=len(datasets),
        datasets_done=datasets_done,
        requests=sum(part.requests for part in paid),
        tokens=sum(part.tokens for part in paid),
        cost=None if any(cost is None for cost in costs) else sum(cost or 0.0 for cost in costs),
        documents=searched,
        seconds_each=seconds_each,
        measured=bool(finished),
        seconds=remaining * seconds_each
        + (len(datasets) - datasets_done) * len(documents) * per_text
        + searched * per_text,
        budget_seconds=matrix.file.budget_seconds,
        budget_cost=matrix.file.budget_cost,
    )


@dataclass(frozen=True)
class _Paid:
    """What is still to be asked, less what another part has counted."""

    requests: int
    tokens: int
    cost: float | None

    @classmethod
    def of(cls, estimate: Estimate) -> Self:
        tokens = estimate.prompt_tokens + estimate.completion_tokens
        tokens += sum(part.tokens for part in estimate.embeddings.values())
        cost = None if estimate.unpriced else estimate.cost
        return cls(estimate.requests - estimate.in_journal, tokens, cost)

    def less(self, other: _Paid) -> _Paid:
        cost = None if self.cost is None or other.cost is None else self.cost - other.cost
        return _Paid(self.requests - other.requests, self.tokens - other.tokens, cost)


def _paid(matrix: Matrix, folders: Mapping[str, ArmFolders]) -> Iterator[_Paid]:
    """What each different writing asks, and then each audit with the teachers of all arms that learn from its rows."""
    alike: dict[ArmFolders, list[Arm]] = {}
    for arm in matrix.arms:
        alike.setdefault(folders[arm.name], []).append(arm)
    counted = set()
    for folder, arms in alike.items():
        written = _written_alone(arms[0].config)
        if folder.writing not in counted and not _has(folder.writing, "synthesis"):
            yield _Paid.of(dry_run(written, folder.writing, prompts=0, judge_rows=False))
        counted.add(folder.writing)
        whole = _with_every_teacher({arm.name: arm.config for arm in arms})
        judges = whole.audit.query_judge is not None or whole.audit != written.audit
        asks = judges or any(teachers_of(arm.config.training.resolve(CANDIDATE)) for arm in arms)
        if asks and not all(_trained(matrix, folder.data, arm) for arm in arms):
            audited = whole.model_copy(update={"training": written.training})
            is_audited = _has(folder.data, "audit")
            before = dry_run(audited if is_audited else written, folder.data, prompts=0, judge_rows=is_audited)
            yield _Paid.of(dry_run(whole, folder.data, prompts=0)).less(_Paid.of(before))


def _with_every_teacher(arms: Mapping[str, Config]) -> Config:
    """The config of arms that learn from the same rows, with a candidate for each arm's teacher."""
    first = next(iter(arms.values()))
    settings = [config.training.resolve(CANDIDATE) for config in arms.values()]
    candidates = {
        f"arm{number}": CandidateConfig(loss=training.loss, teacher=training.teacher)
        for number, training in enumerate(settings)
    }
    training = first.training.model_copy(update={"candidates": candidates})
    return first.model_copy(update={"training": training, "evaluation": _without_rivals(first)})


def _written_alone(config: Config) -> Config:
    """The same rows, and nobody is asked about them when they are written, but of held-out queries."""
    repair = [way for way in config.audit.repair if way != "regenerate"]
    of_queries = config.audit.query_judge if config.audit.query_judge and config.audit.query_judge.heldout else None
    audit = config.audit.model_copy(update={"judge": None, "query_judge": of_queries, "repair": repair})
    training = config.training.model_copy(
        update={"teacher": [], "loss": "infonce", "candidates": {CANDIDATE: CandidateConfig()}}
    )
    return config.model_copy(update={"audit": audit, "training": training, "evaluation": _without_rivals(config)})


def _without_rivals(config: Config) -> EvaluationConfig:
    """Arms are scored beside each other, and beside no rivals."""
    return config.evaluation.model_copy(update={"rivals": []})


def _trained(matrix: Matrix, folder: Path, arm: Arm) -> bool:
    run = RunDirectory(folder)
    return all(run.manifest(f"arms/{arm.key}-{seed}") for seed in matrix.file.seeds)


def plan_lines(plan: AblationPlan) -> Iterator[str]:
    """The plan for people."""
    runs = plan.arms * plan.seeds
    yield f"arms        {plan.arms}, with {plan.seeds} seeds each: {runs} trainings, {plan.done} of them done"
    yield f"writing     {plan.writings} different, {plan.writings_done} done; about {plan.requests:,} completions left"
    price = "price unknown: set llm.prices" if plan.cost is None else f"about {dollars(plan.cost)}"
    if plan.tokens:
        yield f"tokens      about {plan.tokens:,}, {price}; how fast they come is up to the model"
    yield f"audits      {plan.datasets} different, {plan.datasets_done} done"
    basis = f"measured on {plan.done} finished ones" if plan.measured else "estimated from the base model's speed here"
    yield (
        f"each arm    about {rough_duration(plan.seconds_each)} a seed ({basis}; "
        f"{plan.documents:,} documents to search)"
    )
    yield f"time left   about {rough_duration(plan.seconds)}, writing not counted"
    if plan.budget_seconds is not None and plan.seconds > plan.budget_seconds:
        fit = int(plan.budget_seconds // plan.seconds_each)
        budget = rough_duration(plan.budget_seconds)
        yield f"budget      {budget}: enough for about {fit} more trainings; every arm's first seed comes first"
    if plan.budget_cost is not None and plan.cost is not None and plan.cost > plan.budget_cost:
        yield f"budget      {dollars(plan.budget_cost)}: not enough to write for all arms"


def _has(folder: Path, stage: str) -> bool:
    return RunDirectory(folder).manifest(STAGES[stage].folder) is not None


def _sizes(config: Config) -> tuple[list[str], int, int]:
    """The documents' texts, how many documents each model has to search in all sets, and by how many queries.

    Of queries those are counted that rerankers are asked, about.
    """
    read, _ = read_documents(config.documents)
    texts = [document.text for document in itertools.islice(read, config.documents.limit)]
    others = open_sets(config.evaluation.sets, seed=config.seed)
    own = 0 if config.evaluation.queries == "none" else len(texts)
    searched = own + sum(len(opened.corpus) + len(opened.queries) for opened in others.retrieval)
    if not searched:
        raise EvaluationError("nothing to judge the arms by: set evaluation.queries, or name a test set")
    shares = (config.documents.validation_share, config.documents.test_share) if own else ()
    queries = [*(round(share * len(texts)) for share in shares), *(len(opened.queries) for opened in others.retrieval)]
    limit = config.evaluation.reranking.max_queries
    return texts, searched, sum(count if limit is None else min(count, limit) for count in queries)


def _seconds_a_text(config: Config, texts: list[str]) -> float:
    """How long the base model takes to encode a text here."""
    model = base_model(config)
    encoder = SentenceTransformerEncoder(model, batch_size=config.evaluation.batch_size)
    sample = texts[:: max(1, len(texts) // _PROBE_TEXTS)][:_PROBE_TEXTS]
    with encoding_precision(config, model):
        encoder.encode_documents(sample[:4])  # the first call sets up
        started = time.perf_counter()
        encoder.encode_documents(sample)
    return (time.perf_counter() - started) / len(sample)


def _estimated(matrix: Matrix, per_text: float, documents: list[str], searched: int, asked: int) -> float:
    """Mean seconds of training and evaluating an arm."""
    rerank = matrix.rerank
    trainings = []
    for arm in matrix.arms:
        settings = arm.config.training.resolve(CANDIDATE)
        steps = settings.steps_for(_most_rows(arm.config, len(documents)))
        texts = _TEXTS_OF_A_ROW
        if teachers_of(settings):  # a list of passages, of which a step at a level reads a quarter
            listed = 1 + len(LEVELS) + arm.config.candidates_kept
            texts = 1 + (listed if settings.schedule == "listwise" else 1 + math.ceil((listed - 1) / len(LEVELS)))
        elif rerank is not None and settings.schedule == "listwise":
            texts = 2 + len(LEVELS)
        if rerank is not None:  # each passage is read with the query
            texts = _TEXTS_OF_A_PAIR * (texts - 1)
        trainings.append(steps * settings.batch_size * texts * _STEP_COST * per_text)
    read = searched if rerank is None else _TEXTS_OF_A_PAIR * asked * rerank.depth
    return statistics.mean(trainings) + read * per_text


def _most_rows(config: Config, documents: int) -> int:
    """Rows that training would have if all that is asked for were written and kept."""
    share = 1 - config.documents.validation_share - config.documents.test_share
    written = min(round(documents * share), config.synthesis.max_documents or documents)
    return written * config.synthesis.queries_per_document
